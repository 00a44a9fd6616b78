"""Blind votes, kept in the journal's file: who was shown where, and which answer was better."""

import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Verdict = Literal["left", "right", "good", "bad"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

LIVE = "live"  # the page of votes on merges that have no job

SCHEMA = """
CREATE TABLE IF NOT EXISTS vote (
    owner TEXT NOT NULL, job TEXT NOT NULL, left_key TEXT NOT NULL, right_key TEXT NOT NULL, verdict TEXT NOT NULL,
    prompts TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS vote_owner ON vote (owner, job);
"""


@dataclass(frozen=True, slots=True)
class Vote:
    """Of one person, on the page of one merge. Panes are named by key: what they are called may change."""

    left: str
    right: str
    verdict: Verdict  # left or right is better, both are good, both are bad
    prompts: tuple[str, ...]  # one for each turn


class Votes:
    """A connection and a lock of its own: every method is one transaction, and may be called from any thread."""

    def __init__(self, file: Path) -> None:
        self.lock = threading.Lock()
        self.db = sqlite3.connect(file, check_same_thread=False, isolation_level="IMMEDIATE")
        self.db.executescript(SCHEMA)

    def run(self, sql: str, *values: object) -> list[tuple[str, str, Verdict, str]]:
        with self.lock, self.db:
            return self.db.execute(sql, values).fetchall()

    def add(self, owner: str, job: str, vote: Vote) -> None:
        self.run(
            "INSERT INTO vote VALUES (?, ?, ?, ?, ?, ?, ?)",
            owner, job, vote.left, vote.right, vote.verdict, json.dumps(vote.prompts), time.time(),
        )  # fmt: skip

    def of(self, owner: str, job: str) -> list[Vote]:
        """In the order in which they were given."""
        rows = self.run(
            "SELECT left_key, right_key, verdict, prompts FROM vote WHERE owner = ? AND job = ? ORDER BY rowid",
            owner, job,
        )  # fmt: skip
        return [Vote(left, right, verdict, tuple(json.loads(prompts))) for left, right, verdict, prompts in rows]

    def hand_over(self, owner: str, to: str) -> None:
        self.run("UPDATE vote SET owner = ? WHERE owner = ?", to, owner)

    def forget(self, owner: str, job: str) -> None:
        self.run("DELETE FROM vote WHERE owner = ? AND job = ?", owner, job)

    def age_out(self, job: str, before: float) -> None:
        """Everybody's on the page of a merge that were given before a moment."""
        self.run("DELETE FROM vote WHERE job = ? AND at < ?", job, before)

    def close(self) -> None:
        with self.lock:
            self.db.close()
