"""Where strangers share a disk, what has ended is removed with its files after a while."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from merging.errors import MergeError
from space.jobs import Job, Jobs
from space.votes import LIVE, Votes

log = logging.getLogger(__name__)

LOOKS = 50  # in the time that something is kept, at least
LONGEST_PAUSE = 600.0  # seconds between two looks


class Expiry:
    """Looks now and then. `let_go` has the model in a job's folder leave memory, and says whether it has.

    What waits or runs stays, and so does a merge that is being published. A job that has waited so long for its
    owner's sign-in is given up.
    """

    def __init__(
        self, queue: Jobs, keep_seconds: float, let_go: Callable[[Path], bool], votes: Votes,
        *, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.queue, self.keep_seconds, self.let_go, self.votes, self.clock = queue, keep_seconds, let_go, votes, clock
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="expiry", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def watch(self) -> None:
        while not self.closing.is_set():
            self.sweep()
            self.closing.wait(min(LONGEST_PAUSE, self.keep_seconds / LOOKS))

    def sweep(self) -> None:
        """Remove what has ended long enough ago, with the votes on it and the prompts that these hold."""
        self.votes.age_out(LIVE, self.clock() - self.keep_seconds)
        needed = {job.payload.get("merge") for job in self.queue.active()}
        for job in self.queue.left_since(self.clock() - self.keep_seconds):
            if job.id not in needed and self.let_go(self.queue.folder(job.id) / "model"):
                self.remove(job)

    def remove(self, job: Job) -> None:
        try:
            if job.state == "waiting":
                self.queue.cancel(job.id, job.owner)
            self.queue.forget(job.id, job.owner)
            self.votes.forget(job.owner, job.id)
        except MergeError:  # its owner was quicker: it is gone, or runs again
            log.info("job %s was not removed: it has changed meanwhile", job.id)

    def close(self) -> None:
        self.closing.set()
        if self.thread.is_alive():
            self.thread.join()
