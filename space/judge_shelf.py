"""What the evaluations of one person leave for the next: their sets, their scores, their trials. Each has their own."""

import hashlib
import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from evaluation.held_out import HeldOut, parse_held_out, to_jsonl
from merging.errors import MergeError

KEPT_SETS = 5  # of one person, the newest
NAME = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder for each owner, named by a hash of who they are. Scores of private models are found in theirs alone."""

    home: Path
    owner: str

    @property
    def folder(self) -> Path:
        return self.home / "judge" / hashlib.sha256(self.owner.encode()).hexdigest()[:24]

    @property
    def scores(self) -> Path:
        return self.folder / "scores.sqlite"

    @property
    def trials(self) -> Path:
        return self.folder / "trials.sqlite"

    def sets(self) -> list[Path]:
        """The newest first."""
        return sorted(self.folder.glob("sets/*.json"), key=lambda file: -file.stat().st_mtime)

    def keep(self, held_out: HeldOut) -> str:
        """Put a set on the shelf, and return what it is found by."""
        name = held_out.sha256[:24]
        file = self.folder / "sets" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(json.dumps({"name": held_out.name, "lines": to_jsonl(held_out.examples)}), encoding="utf-8")
        for old in self.sets()[KEPT_SETS:]:
            old.unlink(missing_ok=True)
        return name

    def held_out(self, name: str) -> HeldOut:
        """Raises MergeError where there is none by this name."""
        file = self.folder / "sets" / f"{name}.json"
        if not NAME.fullmatch(name) or not file.is_file():
            raise MergeError("The held-out set is not here any more. Choose it again.")
        kept = json.loads(file.read_text(encoding="utf-8"))
        return parse_held_out(kept["lines"], kept["name"])

    def hand_over(self, to: "Shelf") -> None:
        """What somebody had before they signed in is theirs after it."""
        if not self.folder.is_dir() or self.folder == to.folder:
            return
        if not to.folder.exists():
            self.folder.rename(to.folder)
            return
        for file in self.sets():
            (to.folder / "sets").mkdir(exist_ok=True, mode=0o700)
            file.rename(to.folder / "sets" / file.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def touch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.touch()


def tidy(home: Path, keep_seconds: float | None, now: float | None = None) -> None:
    """Remove what nobody has come back to for so long; on one's own machine nothing."""
    if keep_seconds is None:
        return
    before = (time.time() if now is None else now) - keep_seconds
    for folder in (home / "judge").glob("*"):
        if folder.stat().st_mtime < before:
            shutil.rmtree(folder, ignore_errors=True)
