"""A small Hugging Face Hub on loopback, for the demo and the tests."""

from space.localhub.faults import Fault, Seen
from space.localhub.records import Commit, FileInfo, Repo
from space.localhub.server import LocalHub
from space.localhub.services import Limits
from space.localhub.store import Store

__all__ = ["Commit", "Fault", "FileInfo", "Limits", "LocalHub", "Repo", "Seen", "Store"]
