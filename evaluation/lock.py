"""One process at a time: a lock file that goes with its process, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from merging.errors import MergeError


@contextmanager
def alone(file: Path, taken: str) -> Iterator[None]:
    """Hold a lock file. Raises MergeError in these words where another does, and OSError where it cannot be made."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        with file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MergeError(taken) from None
            if not lies_there(file, lock):  # who had it has just removed it: the next one is made anew
                continue
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return


def lies_there(file: Path, lock: IO[str]) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
