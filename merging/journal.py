"""What is complete of a merge under way: lines of JSON, each on the disk before anybody relies on it."""

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from merging.errors import MergeError
from merging.writer import writing

Entry = Mapping[str, Any]
MOMENT = 0.5  # seconds


class Journal:
    """Belongs to one process at a time, and to nobody when that is gone. A line that was cut off never was."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.claim()
            self.entries = self.read()
        except BlockingIOError:
            os.close(self.handle)
            raise MergeError("The same merge is under way in another process. Wait for it, or stop it.") from None
        except BaseException:
            os.close(self.handle)
            raise

    def claim(self) -> None:
        """Raise BlockingIOError where it is another's. A process that is being started has its maker's files for a
        moment, and with them the lock of a journal that was closed meanwhile."""
        until = time.monotonic() + MOMENT
        while True:
            try:
                return fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
            time.sleep(MOMENT / 10)

    def read(self) -> list[Entry]:
        """The whole lines; what a crash left of another one is cut off, so that the next one stands alone."""
        entries, good = [], 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            entry = parsed(line)
            if entry is None:
                break
            entries.append(entry)
            good += len(line)
        os.ftruncate(self.handle, good)
        return entries

    def add(self, kind: str, **facts: Any) -> None:
        """Write an entry down for good."""
        entry = {"kind": kind, **facts}
        line = json.dumps(entry).encode() + b"\n"
        with self.lock, writing(self.path):
            if os.write(self.handle, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self.handle)
            self.entries.append(entry)

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry["kind"] == kind]

    def last(self, kind: str) -> Entry | None:
        return next(reversed(self.of_kind(kind)), None)

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self.handle, 0)
        self.entries = []

    def remove(self) -> None:
        with suppress(OSError):  # one that is left over is in nobody's way
            self.path.unlink()

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def parsed(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "kind" in entry else None
