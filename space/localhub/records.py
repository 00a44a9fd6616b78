"""What the store remembers: repos, commits and files, and how they are written down."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

Gated = Literal["auto", "manual", False]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file at one revision: `oid` is git's sha1 of it, or of its pointer if it is kept by LFS."""

    size: int
    sha256: str
    oid: str
    lfs: bool = False

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True, slots=True)
class Commit:
    """A revision: the whole tree, never a difference."""

    sha: str
    parent: str | None
    title: str
    description: str
    author: str
    date: str
    files: Mapping[str, FileInfo]

    @classmethod
    def load(cls, path: Path) -> Self:
        facts = json.loads(path.read_text())
        files = {name: FileInfo(**info) for name, info in facts.pop("files").items()}
        return cls(files=files, **facts)

    def save(self, path: Path) -> None:
        write_whole(path, asdict(self))


@dataclass(frozen=True, slots=True)
class Repo:
    """A repo as it is now. Every change makes a new one."""

    id: str
    private: bool
    gated: Gated
    created: str
    readers: tuple[str, ...] = ()
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    def with_branch(self, name: str, sha: str) -> Self:
        return replace(self, branches={**self.branches, name: sha})

    def with_tag(self, name: str, sha: str) -> Self:
        return replace(self, tags={**self.tags, name: sha})

    @classmethod
    def load(cls, path: Path) -> Self:
        facts = json.loads(path.read_text())
        return cls(**{**facts, "readers": tuple(facts["readers"])})

    def save(self, path: Path) -> None:
        write_whole(path, asdict(self))


def write_whole(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader, or a restart after a kill, sees all of it or what was there before."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(facts))
    draft.replace(path)


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
