"""Which repo ids, revisions and file paths are allowed."""

import re

from space.localhub.errors import BadRequest

SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,249}")
SHA1 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
OUR_ROUTES = frozenset({"api", "cdn", "lfs", "oauth", "datasets", "spaces"})
LONGEST_PATH = 1024


def check_repo_id(repo_id: str) -> str:
    """Return the id, or refuse it: `owner/name`, each of letters, digits, `-`, `_` and `.`."""
    owner, slash, name = repo_id.partition("/")
    plain = bool(slash and SEGMENT.fullmatch(owner) and SEGMENT.fullmatch(name))
    if not plain or "--" in repo_id or ".." in repo_id or name.endswith((".git", ".ipynb")) or owner in OUR_ROUTES:
        raise BadRequest(f"{repo_id!r} is not a repo id like 'owner/name'.")
    return repo_id


def check_revision(name: str) -> str:
    """Return the name of a branch or a tag, or refuse it."""
    if not REVISION.fullmatch(name) or ".." in name or "//" in name or name.endswith(("/", ".", ".lock")):
        raise BadRequest(f"{name!r} cannot name a branch or a tag.")
    if SHA1.fullmatch(name):
        raise BadRequest(f"{name!r} looks like a commit, so it cannot name a branch or a tag.")
    return name


def check_path(path: str) -> str:
    """Return the path of a file in a repo, or refuse it.

    The store keeps contents by their hash and never opens such a path, but a client that downloads the repo will.
    """
    parts = path.split("/")
    odd = any(ord(c) < 32 or ord(c) == 127 or c == "\\" or 0xD800 <= ord(c) <= 0xDFFF for c in path)
    if odd or len(path) > LONGEST_PATH or any(part in ("", ".", "..", ".git") for part in parts):
        raise BadRequest(f"{path!r} is not a path of a file in a repo.")
    return path


def check_no_clash(paths: frozenset[str]) -> None:
    """Refuse a tree in which one name is both a file and a folder."""
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder:
            if folder in paths:
                raise BadRequest(f"{folder!r} is a file, so {path!r} cannot be in it.")
            folder = folder.rpartition("/")[0]
