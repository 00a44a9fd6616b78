"""A queue of long jobs with progress and cancel, kept in a journal. Knows neither Gradio nor merging."""

import fcntl
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from merging.errors import Kept, MergeError, SignedOut
from space.journal import Job, JobState, Journal
from space.places import Places
from space.redact import redact
from space.report import Cancelled, Interrupted, Report

__all__ = ["Cancelled", "Interrupted", "Job", "JobState", "Jobs", "Report"]

log = logging.getLogger(__name__)

Run = Callable[[Job, Report], Mapping[str, Any]]
Lines = list[str]  # `Jobs.list` hides the builtin inside the class

KINDS = ("merge", "publish", "verify", "diagnose", "judge")
RESUMED = ("merge", "publish")  # go on where they were stopped
CLOSE_SECONDS = 20  # for a running job to notice that the app closes
INTERRUPTED = "Alloy was stopped while this job ran. Start it again."
SIGNED_OUT = "Alloy was restarted, and your sign-in is kept in memory only. Sign in again: then this job goes on."
GOES_ON = "This job goes on when you have signed in."


class Jobs:
    """One worker for each kind of job: a merge is bound by memory and disk, a publication by the network, and nobody
    should wait for a stranger's merge to push a model that is ready. Within a kind one job runs, the others wait.

    Job folders lie next to the journal, in `jobs/<id>`; they are kept when a job is done, until it is forgotten.
    """

    def __init__(self, journal: Path, run: Run, *, places: Places | None = None, start: bool = True) -> None:
        self.claim = claim(journal)
        self.journal = Journal(journal)
        self.root = journal.parent / "jobs"
        self.run = run
        self.places = places or Places()
        self.secrets: dict[str, str] = {}  # job id -> the owner's token, while the job is active
        self.refused: dict[str, str] = {}  # job id -> the token that the Hub has refused
        self.closing = threading.Event()
        self.changed = threading.Condition()
        self.journal.interrupt(INTERRUPTED, waiting_error=SIGNED_OUT, resumed=RESUMED)
        self.sweep()
        self.workers = [
            threading.Thread(target=self.work, args=(kind,), name=f"{kind} worker", daemon=True) for kind in KINDS
        ]
        if start:
            self.start()

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def submit(
        self, owner: str, kind: str, title: str, payload: Mapping[str, Any], *,
        secret: str | None = None, needs_secret: bool = False, estimate: float | None = None,
    ) -> Job:  # fmt: skip
        """Queue a job. `secret` stays in memory; a job that `needs_secret` waits for its owner after a restart."""
        job = Job(secrets.token_hex(8), owner, kind, title, payload, "queued", created=time.time())
        self.enqueue(job, secret, lambda: self.journal.add(job, estimate=estimate, needs_secret=needs_secret))
        return self.get(job.id, owner)

    def again(
        self, id: str, owner: str, *, secret: str | None = None, payload: Mapping[str, Any] | None = None
    ) -> Job:  # fmt: skip
        """Put a job that did not end well in the queue once more, under its own id; perhaps with another payload."""
        job = self.get(id, owner)
        if job.active or job.state == "done":
            raise MergeError(f"This job is {job.state}; only one that failed, was cancelled or interrupted can be "
                             "started again.")  # fmt: skip
        self.enqueue(job, secret, lambda: self.journal.again(id, payload or job.payload))
        return self.get(id, owner)

    def enqueue(self, job: Job, secret: str | None, write: Callable[[], None]) -> None:
        with self.changed:  # so that two at once do not both take the last place
            self.refuse_too_many(job.owner)
            if secret:
                self.secrets[job.id] = secret  # before the journal: a worker may take the job at once
            write()
            self.changed.notify_all()

    def refuse_too_many(self, owner: str) -> None:
        self.places.refuse_too_many(owner, self.journal.active())

    def get(self, id: str, owner: str) -> Job:
        """Another owner's job is answered like one that does not exist."""
        job = self.journal.get(id)
        if job is None or job.owner != owner:
            raise MergeError(f"There is no job {id!r} of yours.")
        return job

    def cancel(self, id: str, owner: str) -> Job:
        """End a waiting job now; a running one within a moment, leaving nothing half-made. An ended one stays."""
        waited = self.get(id, owner).state in ("queued", "waiting")
        self.journal.stop(id)
        self.notify()
        job = self.get(id, owner)
        if not job.active:
            self.secrets.pop(id, None)
        if waited and not job.active:  # it may have begun in an earlier run
            self.end(job, "cancelled", left_behind(job) if self.folder(id).exists() else "")
            job = self.get(id, owner)
        return job

    def active(self) -> "Sequence[Job]":
        """Everybody's that wait or run."""
        return self.journal.active()

    def left_since(self, moment: float) -> "Sequence[Job]":
        """Everybody's that ended before a moment, and what has waited for its owner since."""
        return self.journal.left_since(moment)

    def signed_in(self, owner: str, secret: str) -> None:
        """Go on with the jobs of somebody that have waited for a token."""
        with self.changed:
            for id in self.journal.waiting(owner):
                if self.refused.get(id) != secret:
                    self.refused.pop(id, None)
                    self.secrets[id] = secret
                    self.journal.go_on(id)
            self.changed.notify_all()

    def hand_over(self, owner: str, to: str) -> None:
        """All jobs of one owner become another's: of who has signed in, those from before."""
        self.journal.hand_over(owner, to)

    def log(self, id: str, owner: str) -> Lines:
        self.get(id, owner)
        return self.journal.lines(id)

    def folder(self, id: str) -> Path:
        return self.root / id

    def forget(self, id: str, owner: str) -> None:
        """Delete an ended job and its folder."""
        if self.get(id, owner).active:
            raise MergeError("This job has not ended. Cancel it first.")
        self.journal.forget(id)
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def wait(self, id: str, timeout: float) -> Job:
        """The job when it has ended, or as it is when the time is up."""
        end = time.monotonic() + timeout
        with self.changed:
            while (job := self.journal.get(id)) is not None and job.active and time.monotonic() < end:
                self.changed.wait(min(1.0, end - time.monotonic()))
        if job is None:
            raise MergeError(f"There is no job {id!r}.")
        return job

    def close(self) -> None:
        """Stop at the next report of each running job; what waits stays in the journal."""
        self.closing.set()
        self.notify()
        for worker in self.workers:
            if worker.is_alive():
                worker.join(CLOSE_SECONDS)
        if not any(worker.is_alive() for worker in self.workers):
            self.journal.close()  # else a job is stuck, and the journal is its until the process ends
            self.claim.close()

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def work(self, kind: str) -> None:
        while (job := self.next(kind)) is not None:
            self.perform(job)

    def next(self, kind: str) -> Job | None:
        """The next job of a kind, waited for; None when the app closes."""
        with self.changed:
            while not self.closing.is_set():
                if job := self.journal.take(kind):
                    return job
                self.changed.wait()
        return None

    def perform(self, job: Job) -> None:
        """Run a job to its end. The one place where errors become words for the user."""
        folder, secret = self.folder(job.id), self.secrets.pop(job.id, None)
        report = Report(self.journal, job, folder, secret, self.closing)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            result = self.run(job, report)
        except Cancelled as stop:
            self.end(job, "cancelled", redact(str(stop)))
        except Interrupted:
            if job.kind not in RESUMED:  # the others stay as they are, and go on when the app is started again
                self.end(job, "interrupted", INTERRUPTED)
        except MergeError as e:
            self.stop_at(job, e, secret)
        except Exception:  # a bug of ours: the user gets its number, the log the rest
            log.exception("job %s (%s) failed", job.id, job.kind)
            self.end(job, "failed", f"Something went wrong on our side (job {job.id}).")
        else:
            self.journal.end(job.id, "done", result=result)
        self.notify()

    def stop_at(self, job: Job, error: MergeError, secret: str | None) -> None:
        """Wait for the owner where a sign-in helps; keep what one can go on from."""
        words = redact(str(error))
        if isinstance(error, SignedOut):
            self.refused[job.id] = secret or ""
            self.journal.wait(job.id, f"{words} {GOES_ON}")
        elif isinstance(error, Kept):
            self.journal.end(job.id, "failed", error=words)
        else:
            self.end(job, "failed", words)

    def end(self, job: Job, state: JobState, error: str = "") -> None:
        """Clean up first: when the state can be seen, nothing half-made is left."""
        shutil.rmtree(self.folder(job.id), ignore_errors=True)
        self.journal.end(job.id, state, error=error)

    def sweep(self) -> None:
        """Remove what jobs left that an earlier process did not bring to their end."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        for folder in self.root.iterdir():
            job = self.journal.get(folder.name)
            if job is None or not keeps_files(job):
                shutil.rmtree(folder, ignore_errors=True)

    def list(self, owner: str) -> "list[Job]":
        """Newest first."""
        return self.journal.of_owner(owner)


def left_behind(job: Job) -> str:
    """What a job that waited may have left on the Hub, where nobody has asked since."""
    repo_id = job.payload.get("repo_id")
    return (
        f"If it had begun {repo_id} on the Hub, an empty repo is left there: delete it in its settings."
        if repo_id
        else ""
    )


def keeps_files(job: Job) -> bool:
    """What is done is kept, and so is what a merge can go on from."""
    return job.state == "done" or (job.kind in RESUMED and job.state in ("queued", "waiting", "failed"))


def claim(journal: Path) -> IO[bytes]:
    """Two apps on one journal would sweep away each other's work."""
    handle = journal.with_suffix(".lock").open("wb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise MergeError(f"Another Alloy is using {journal.parent}. Stop it first, or set ALLOY_HOME to another "
                         "folder.") from None  # fmt: skip
    return handle
