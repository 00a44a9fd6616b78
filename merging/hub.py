"""The only module that speaks to the Hub: metadata and byte ranges in, shards and one commit out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from merging.checkpoint import Checkpoint, Source
from merging.recipe import ModelRef


@dataclass(frozen=True, slots=True)
class Hub:
    """The Hub as one caller sees it. `token` is theirs, False when they are anonymous; it is never stored or shown."""

    token: str | bool = False

    def open(self, ref: ModelRef) -> Source:
        """Pin the revision to a commit SHA, check that its content may be read, list its files."""
        raise NotImplementedError

    def search(self, text: str, limit: int = 10) -> list[str]:
        """Repo IDs of models that match, as one types."""
        raise NotImplementedError

    def whoami(self) -> "Account | None":
        raise NotImplementedError

    def publish(self, folder: Path, repo_id: str, *, private: bool, message: str) -> Iterator["Upload"]:
        """Create the repo (refused when it exists), send every file, make one commit. Yields progress."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    fullname: str
    orgs: tuple[str, ...]
    can_write: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """How far a publication is. `url` is set on the last one."""

    sent_bytes: int
    total_bytes: int
    file: str
    url: str = ""


def open_model(ref: ModelRef, hub: Hub | None) -> Checkpoint:
    """A folder when one exists at that path and folders are allowed here, else a Hub repo."""
    raise NotImplementedError
