"""Whether this machine has room for a job: planned before its first byte, and watched while it runs."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from merging.checks.cost import available_memory
from merging.errors import Kept, MergeError
from merging.plan import Plan
from space.journal import Job
from space.settings import Settings
from space.words import size

LOOK_SECONDS = 1.0
LATER = "Remove old jobs of yours, or try again later."


def free_disk(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Room:
    """The disk and the memory of this machine. What is kept free is for everything else that runs here."""

    def __init__(
        self, settings: Settings, *, disk: Callable[[Path], int] = free_disk,
        memory: Callable[[], int] = available_memory,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.disk = disk
        self.memory = memory
        self.looked = 0.0

    def refuse_too_large(self, plan: Plan) -> None:
        """Raise MergeError when a merge reads more than is allowed here."""
        if plan.read_bytes > (most := self.settings.merge_bytes):
            raise MergeError(f"The merge reads {size(plan.read_bytes)}; {size(most)} can be read for one merge here. "
                             "Choose smaller models, or run Alloy on a machine of your own.")  # fmt: skip

    def plan(self, nbytes: int, before: Iterable[Job], folder: Callable[[str], Path]) -> None:
        """Raise MergeError unless the disk holds these bytes too, after what the jobs before it still write."""
        taken = sum(unwritten(job, folder(job.id)) for job in before)
        free = self.disk(self.settings.home) - self.settings.spare_disk_bytes - taken
        if nbytes > free:
            raise Kept(f"The merge writes {size(nbytes)}, and the disk here has room for {size(max(free, 0))}, "
                             f"after the jobs before it. {LATER}")  # fmt: skip

    def watch(self, *, leaves: bool = False) -> None:
        """Raise MergeError when disk or memory fall below what is kept free. Looks once in a while.

        What is complete by then is kept, but where it is the disk that is full, and it does not leave it by itself.
        """
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        if (free := self.disk(self.settings.home)) < (spare := self.settings.spare_disk_bytes):
            kind, rest = (Kept, "") if leaves else (MergeError, ", and what it had written is removed")
            raise kind(f"The disk here has {size(free)} left, and {size(spare)} are kept free: the job was "
                       f"stopped{rest}. {LATER}")  # fmt: skip
        if (free := self.memory()) < (spare := self.settings.spare_memory_bytes):
            raise Kept(f"This machine has {size(free)} of memory left, and {size(spare)} are kept free: the job "
                       "was stopped. Start it again later.")  # fmt: skip


def unwritten(job: Job, folder: Path) -> int:
    """What an active merge has yet to write."""
    if not job.active or job.kind != "merge":
        return 0
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
    return max(0, int(job.payload.get("disk_bytes", 0)) - written)
