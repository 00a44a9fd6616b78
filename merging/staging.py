"""Where a merge is put together: a hidden folder beside its place, and a journal of the shards that are complete.

After a kill or a power cut both stay, and the same merge goes on from there. Another merge never touches them.
"""

import glob
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from merging.errors import Kept
from merging.journal import Journal, parsed
from merging.plan import Plan, Shard
from merging.writer import check_place, flush, flush_folder, writing

PARTIAL, PART = ".partial", ".part"  # the end of the folder's name, and of a shard's until it is complete


@dataclass(slots=True)
class Stage:
    """A merge under way, for one plan."""

    out: Path
    folder: Path
    journal: Journal
    complete: dict[str, str] = field(default_factory=dict)  # shard -> SHA-256

    @property
    def started(self) -> datetime:
        """When the merge was first begun."""
        return datetime.fromisoformat(self.journal.entries[0]["started"])

    def begin(self, digest: str, started: datetime, asked: Mapping[str, Any]) -> None:
        """Go on with what is there, if it is of this merge. `asked` is what `asked_before` looks for."""
        known = self.journal.entries[0].get("digest") if self.journal.entries else None
        with writing(self.folder):
            if known != digest or not self.folder.is_dir():
                self.journal.clear()
                shutil.rmtree(self.folder, ignore_errors=True)
                self.journal.add("plan", digest=digest, started=started.isoformat(), **asked)
            self.folder.mkdir(exist_ok=True)
            flush(self.out.parent)

    def recover(self, plan: Plan, sent: Callable[[str, str], bool]) -> None:
        """Find what an earlier run left complete, reading all of it, or has sent away; remove what is not."""
        known = {entry["file"]: entry["sha256"] for entry in self.journal.of_kind("shard")}
        for shard in plan.shards:
            sha256 = known.get(shard.file, "")
            if sha256 and (self.holds(shard, sha256) or sent(shard.file, sha256)):
                self.complete[shard.file] = sha256
        for path in self.folder.iterdir():
            if path.name.endswith((".safetensors", PART)) and path.name not in self.complete:
                path.unlink()

    def drop_parts(self) -> None:
        """What is not complete would only take room from others."""
        for path in self.folder.glob(f"*{PART}"):
            path.unlink(missing_ok=True)

    def holds(self, shard: Shard, sha256: str) -> bool:
        path = self.folder / shard.file
        if not path.is_file() or path.stat().st_size != shard.nbytes:
            return False
        return sha256_of(path) == sha256

    def part(self, shard: Shard) -> Path:
        """Where a shard is written until it is complete."""
        return self.folder / f"{shard.file}{PART}"

    def keep(self, shard: Shard, sha256: str) -> None:
        """A shard is complete and on the disk: give it its name, then write it down."""
        path = self.folder / shard.file
        with writing(path):
            self.part(shard).rename(path)
            flush(self.folder)
            self.journal.add("shard", file=shard.file, bytes=shard.nbytes, sha256=sha256)
        self.complete[shard.file] = sha256

    def finished(self, at: datetime) -> datetime:
        """When all shards were complete, `at` if that is now: what is told of the merge does not change after."""
        if (known := self.journal.last("whole")) is None:
            self.journal.add("whole", at=at.isoformat())
            return at
        return datetime.fromisoformat(known["at"])

    def small_files(self) -> dict[str, bytes | Path]:
        """All but the shards, by their paths in the folder."""
        files = (p for p in self.folder.rglob("*") if p.is_file())
        named: dict[str, bytes | Path] = {p.relative_to(self.folder).as_posix(): p for p in files}
        return {name: path for name, path in named.items() if name not in self.complete}

    def others(self) -> list[Path]:
        """What other merges into the same place have left."""
        found = self.out.parent.glob(f".{glob.escape(self.out.name)}.*{PARTIAL}")
        return sorted(path for path in found if path != self.folder)

    def finish(self) -> None:
        """The folder takes its place."""
        with writing(self.out):
            flush_folder(self.folder)
            self.folder.rename(self.out)
            flush(self.out.parent)
        self.journal.remove()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.journal.remove()


@contextmanager
def staged(
    out: Path, digest: str, started: datetime, *, asked: Mapping[str, Any] | None = None, stays: bool = True
) -> Iterator[Stage]:
    """The stage of this merge, which becomes `out` when the block ends well, or goes when nothing of it stays here.

    It is removed when the block is left in another way, but for an error after which one can go on.
    """
    check_place(out)
    folder = out.parent / f".{out.name}.{digest[:12]}{PARTIAL}"
    with writing(folder):
        stage = Stage(out, folder, Journal(folder.with_suffix(".journal")))
    try:
        stage.begin(digest, started, asked or {})
        yield stage
        if stays:
            stage.finish()
        else:
            stage.remove()
    except Kept as error:
        stage.drop_parts()
        if not stage.journal.entries[1:]:
            stage.remove()
        elif count := len(stage.complete):
            shards = "1 finished shard is" if count == 1 else f"{count} finished shards are"
            error.args = (f"{error} {shards} kept: the same merge goes on from there.",)
        raise
    except BaseException:
        stage.remove()
        raise
    finally:
        stage.journal.close()


def left_stage(out: Path) -> Stage | None:
    """The stage that an earlier run of a merge into this place has left; of several the newest."""
    journals = journals_of(out)
    return Stage(out, journals[-1].with_suffix(PARTIAL), Journal(journals[-1])) if journals else None


def asked_before(out: Path, recipe: str) -> Mapping[str, str]:
    """The commits that an earlier run of a recipe into this place began with, by model, if it can be gone on with."""
    for path in reversed(journals_of(out)):
        with path.open("rb") as file:
            first = parsed(file.readline()) or {}
        if first.get("recipe") == recipe and path.with_suffix(PARTIAL).is_dir():
            return dict(first["commits"])
    return {}


def journals_of(out: Path) -> list[Path]:
    """Of all merges into this place, the newest last."""
    return sorted(out.parent.glob(f".{glob.escape(out.name)}.*.journal"), key=lambda path: path.stat().st_mtime)


def found_again(stage: Stage, plan: Plan) -> Iterator[str]:
    """What is to be said before the merge goes on."""
    if stage.complete:
        yield f"Going on where an earlier run was stopped: {len(stage.complete)} of {len(plan.shards)} shards are done."
    for other in stage.others():
        yield f"{other} is of another merge, and is left as it is. Remove it if you do not need it."


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
