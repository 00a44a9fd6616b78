"""What a running job reports to, and how it learns that it should stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from space.journal import Job, Journal
from space.redact import redact

WRITE_SECONDS = 0.25  # the journal is written no oftener
SMOOTH_SECONDS = 5.0  # the rate forgets in about this time


class Cancelled(Exception):
    """Raised inside a job when its owner asked to stop."""


class Interrupted(Exception):
    """Raised inside a job when the app is closing."""


@dataclass(slots=True)
class Pace:
    """Bytes a second, smoothed, and the time that is left at that rate."""

    clock: Callable[[], float] = time.monotonic
    rate: float = 0.0
    bytes: int = 0
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.clock()

    def moved(self, done_bytes: int) -> None:
        now = self.clock()
        if (passed := now - self.at) <= 0:
            return
        latest = max(0, done_bytes - self.bytes) / passed
        weight = 1.0 if self.rate == 0 else min(1.0, passed / SMOOTH_SECONDS)
        self.rate += weight * (latest - self.rate)
        self.bytes, self.at = done_bytes, now

    def seconds_left(self, total_bytes: int) -> float | None:
        return max(0, total_bytes - self.bytes) / self.rate if self.rate > 0 else None


class Report:
    """Given to a running job. `secret` is in memory only; `folder` is the job's own, and is removed when it fails."""

    def __init__(self, journal: Journal, job: Job, folder: Path, secret: str | None, closing: threading.Event) -> None:
        self.journal = journal
        self.job = job
        self.folder = folder
        self.secret = secret
        self.closing = closing
        self.pace = Pace()
        self.written = 0.0
        self.last = (0, 0)  # bytes done and to do, as told

    def progress(self, done_bytes: int, total_bytes: int, detail: str = "") -> None:
        """Say how far it is. Raises Cancelled when the owner wants it to stop."""
        now, self.last = time.monotonic(), (done_bytes, total_bytes)
        if now - self.written < WRITE_SECONDS and done_bytes < total_bytes:
            return
        self.written = now
        self.pace.moved(done_bytes)
        left = self.pace.seconds_left(total_bytes)
        if self.journal.progress(self.job.id, done_bytes, total_bytes, self.pace.rate, left, detail):
            raise Cancelled
        if self.closing.is_set():
            raise Interrupted

    def wait(self, ahead: int) -> None:
        """Say how many are ahead for the accelerator. Raises as `progress` does."""
        self.progress(*self.last, f"Waiting for the accelerator: {ahead} ahead")

    def check(self) -> None:
        """Raise Cancelled or Interrupted when there is reason to; for steps that have no bytes to count."""
        if self.journal.stopped(self.job.id):
            raise Cancelled
        if self.closing.is_set():
            raise Interrupted

    def log(self, line: str) -> None:
        self.journal.write(self.job.id, redact(line))
