"""Marks that were given before, by what was scored and on which examples, in one SQLite file."""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from evaluation.marks import Marks, from_json, to_json
from evaluation.scoring import VERSION
from merging.errors import MergeError
from merging.home import home_folder

SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (
    subject TEXT NOT NULL, examples TEXT NOT NULL, version INTEGER NOT NULL, marks TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (subject, examples, version)
);
"""
KEPT = 5_000  # the newest; others go
PATIENCE = 10.0  # seconds that another process may be writing


@dataclass(frozen=True, slots=True)
class Cache:
    """Safe to use from several threads and processes: every call has a connection of its own."""

    file: Path

    def run(self, sql: str, *values: object) -> list[tuple[str]]:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with closing(sqlite3.connect(self.file, timeout=PATIENCE)) as db, db:
                db.executescript(SCHEMA)
                return db.execute(sql, values).fetchall()
        except (OSError, sqlite3.Error) as e:
            raise MergeError(f"The scores kept in {self.file} cannot be used: {e}. Remove the file.") from None

    def find(self, subject: str, examples: str) -> Marks | None:
        found = self.run(
            "SELECT marks FROM marks WHERE subject = ? AND examples = ? AND version = ?", subject, examples, VERSION
        )
        return from_json(found[0][0]) if found else None

    def keep(self, subject: str, examples: str, marks: Marks) -> None:
        self.run(
            "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)",
            subject, examples, VERSION, to_json(marks), time.time(),
        )  # fmt: skip
        self.run("DELETE FROM marks WHERE at < (SELECT at FROM marks ORDER BY at DESC LIMIT 1 OFFSET ?)", KEPT - 1)


def home() -> Path:
    """Where the command line keeps scores and searches."""
    return home_folder() / "evaluation"
