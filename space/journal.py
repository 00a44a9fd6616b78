"""The journal of jobs: what was asked, how far it is, how it ended. In SQLite, so that it outlives the app."""

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

JobState = Literal["queued", "running", "waiting", "done", "failed", "cancelled", "interrupted"]

SCHEMA = """
CREATE TABLE job (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', turn INTEGER NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    estimate REAL, done_bytes INTEGER NOT NULL DEFAULT 0, total_bytes INTEGER NOT NULL DEFAULT 0,
    rate REAL NOT NULL DEFAULT 0, seconds_left REAL, detail TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '{}', needs_secret INTEGER NOT NULL DEFAULT 0, stop INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX job_owner ON job (owner, turn);
CREATE TABLE log (job TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE, at REAL NOT NULL, line TEXT NOT NULL);
CREATE INDEX log_job ON log (job);
PRAGMA user_version = 1;
"""

# The place of a waiting job is counted when it is read, so that it is never out of date.
SELECT = """
SELECT *, CASE state WHEN 'queued' THEN
    (SELECT count(*) FROM job q WHERE q.kind = job.kind AND q.state = 'queued' AND q.turn <= job.turn)
    ELSE 0 END AS place,
  CASE state WHEN 'queued' THEN
    (SELECT total(coalesce(q.seconds_left, q.estimate)) FROM job q WHERE q.kind = job.kind
     AND (q.state = 'running' OR q.state = 'queued' AND q.turn < job.turn))
    END AS starts_in
FROM job
"""

ACTIVE = ("queued", "running", "waiting")  # waiting for its owner's sign-in


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the journal, as it was when it was read."""

    id: str
    owner: str
    kind: str  # "merge", "publish", "verify", "diagnose" or "judge"
    title: str
    payload: Mapping[str, Any]  # what is to be done, as JSON; never a token
    state: JobState
    place: int = 0  # 1.. in the queue, 0 otherwise
    created: float = 0  # seconds since the epoch, as all times here
    started: float | None = None
    ended: float | None = None
    done_bytes: int = 0
    total_bytes: int = 0
    rate: float = 0  # bytes a second, smoothed
    seconds_left: float | None = None
    starts_in: float | None = None  # seconds of work known to be ahead of a waiting job
    detail: str = ""  # the tensor or file at hand
    error: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


class Journal:
    """One connection, one lock: every method is one transaction, and may be called from any thread."""

    def __init__(self, file: Path) -> None:
        self.lock = threading.Lock()
        self.db = sqlite3.connect(file, check_same_thread=False, isolation_level="IMMEDIATE")
        self.db.row_factory = sqlite3.Row
        file.chmod(0o600)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA foreign_keys = ON")
        if self.db.execute("PRAGMA user_version").fetchone()[0] == 0:
            self.db.executescript(SCHEMA)

    def run(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self.lock, self.db:
            return self.db.execute(sql, values).fetchall()

    def add(self, job: Job, *, estimate: float | None, needs_secret: bool) -> None:
        self.run(
            "INSERT INTO job (id, owner, kind, title, payload, created, estimate, needs_secret, turn)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(turn), 0) + 1 FROM job))",
            job.id, job.owner, job.kind, job.title, json.dumps(dict(job.payload)), job.created, estimate, needs_secret,
        )  # fmt: skip

    def get(self, id: str) -> Job | None:
        rows = self.run(f"{SELECT} WHERE id = ?", id)
        return read_row(rows[0]) if rows else None

    def of_owner(self, owner: str) -> list[Job]:
        """Newest first."""
        return [read_row(row) for row in self.run(f"{SELECT} WHERE owner = ? ORDER BY turn DESC", owner)]

    def active(self) -> list[Job]:
        return [
            read_row(row) for row in self.run(f"{SELECT} WHERE state IN ('queued', 'running', 'waiting') ORDER BY turn")
        ]

    def take(self, kind: str) -> Job | None:
        """Set the first waiting job of a kind running, and return it."""
        rows = self.run(
            "UPDATE job SET state = 'running', started = ? WHERE id ="
            " (SELECT id FROM job WHERE state = 'queued' AND kind = ? ORDER BY turn LIMIT 1) RETURNING id",
            time.time(), kind,
        )  # fmt: skip
        return self.get(rows[0]["id"]) if rows else None

    def progress(
        self, id: str, done_bytes: int, total_bytes: int, rate: float, seconds_left: float | None, detail: str
    ) -> bool:
        """Note how far a job is. True when it has been asked to stop."""
        rows = self.run(
            "UPDATE job SET done_bytes = ?, total_bytes = ?, rate = ?, seconds_left = ?, detail = ? WHERE id = ?"
            " RETURNING stop",
            done_bytes, total_bytes, rate, seconds_left, detail, id,
        )  # fmt: skip
        return bool(rows and rows[0]["stop"])

    def stop(self, id: str) -> None:
        """End a job that waits; ask one that runs to stop. One statement: the job may be taken at any moment."""
        self.run(
            "UPDATE job SET stop = (state = 'running'),"
            " ended = CASE state WHEN 'running' THEN ended ELSE ? END,"
            " state = CASE state WHEN 'running' THEN state ELSE 'cancelled' END"
            " WHERE id = ? AND state IN ('queued', 'running', 'waiting')",
            time.time(), id,
        )  # fmt: skip

    def stopped(self, id: str) -> bool:
        return bool(self.run("SELECT 1 FROM job WHERE id = ? AND stop = 1", id))

    def end(self, id: str, state: JobState, *, error: str = "", result: Mapping[str, Any] | None = None) -> None:
        self.run(
            "UPDATE job SET state = ?, ended = ?, seconds_left = NULL, error = ?, result = ? WHERE id = ?",
            state, time.time(), error, json.dumps(dict(result or {})), id,
        )  # fmt: skip

    def again(self, id: str, payload: Mapping[str, Any]) -> None:
        """Put an ended job at the end of the queue."""
        self.run(
            "UPDATE job SET state = 'queued', stop = 0, started = NULL, ended = NULL, error = '', detail = '',"
            " done_bytes = 0, rate = 0, seconds_left = NULL, turn = (SELECT max(turn) + 1 FROM job), payload = ?"
            " WHERE id = ?",
            json.dumps(dict(payload)),
            id,
        )

    def interrupt(self, error: str, *, waiting_error: str, resumed: Sequence[str] = ()) -> None:
        """After a restart: what ran goes on where its kind can, and was interrupted else.

        What needs a secret waits for its owner, as the secret is gone.
        """
        kinds = ", ".join("?" * len(resumed))
        self.run(f"UPDATE job SET state = 'queued', stop = 0, seconds_left = NULL WHERE state = 'running'"
                 f" AND kind IN ({kinds})", *resumed)  # fmt: skip
        self.run("UPDATE job SET state = 'interrupted', seconds_left = NULL, ended = ?, error = ?"
                 " WHERE state = 'running'", time.time(), error)  # fmt: skip
        self.run("UPDATE job SET state = 'waiting', error = ? WHERE state = 'queued' AND needs_secret", waiting_error)

    def wait(self, id: str, error: str) -> None:
        """Let a job wait for its owner."""
        self.run("UPDATE job SET state = 'waiting', seconds_left = NULL, error = ? WHERE id = ?", error, id)

    def waiting(self, owner: str) -> list[str]:
        rows = self.run("SELECT id FROM job WHERE state = 'waiting' AND owner = ?", owner)
        return [row["id"] for row in rows]

    def go_on(self, id: str) -> None:
        self.run("UPDATE job SET state = 'queued', error = '' WHERE id = ? AND state = 'waiting'", id)

    def hand_over(self, owner: str, to: str) -> None:
        self.run("UPDATE job SET owner = ? WHERE owner = ?", to, owner)

    def left_since(self, moment: float) -> list[Job]:
        """All that ended before a moment, and what has waited for its owner since."""
        rows = self.run(
            f"{SELECT} WHERE ended < ? AND state NOT IN ('queued', 'running', 'waiting')"
            " OR state = 'waiting' AND coalesce(started, created) < ?", moment, moment,
        )  # fmt: skip
        return [read_row(row) for row in rows]

    def forget(self, id: str) -> None:
        self.run("DELETE FROM job WHERE id = ?", id)

    def write(self, id: str, line: str) -> None:
        self.run("INSERT INTO log (job, at, line) VALUES (?, ?, ?)", id, time.time(), line)

    def lines(self, id: str) -> list[str]:
        rows = self.run("SELECT at, line FROM log WHERE job = ? ORDER BY rowid", id)
        return [f"{time.strftime('%H:%M:%S', time.localtime(row['at']))} {row['line']}" for row in rows]

    def close(self) -> None:
        with self.lock:
            self.db.close()


def read_row(row: sqlite3.Row) -> Job:
    found: dict[str, Any] = {name: row[name] for name in Job.__dataclass_fields__}
    found["payload"], found["result"] = json.loads(found["payload"]), json.loads(found["result"])
    return Job(**found)
