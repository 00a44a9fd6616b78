"""A file written from front to back past the page cache, so that a large one neither fills memory nor waits for it.

What is written once and not read soon has no place in the cache: the system would have to find a page for every 4 kB
of it, throw out what others need, and copy. Where a file system cannot do without the cache it is written through it.
"""

import errno
import fcntl
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BUFFER = 8 << 20  # bytes that are written at once: they are gathered while those before them are on their way
WORTH_IT = 64 << 10  # what is smaller is copied: the system takes no more than 1,024 parts at once
ALIGNED = 4096  # what disks want lengths and offsets to be multiples of
CANNOT = (errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(slots=True)
class DirectFile:
    """Raises OSError from any call, for what went wrong in the one before as well."""

    path: Path
    nbytes: int
    handle: int = -1
    parts: list[memoryview] = field(default_factory=list)  # what is written next, each of whole pages and aligned
    gathered: int = 0  # bytes of these
    buffers: list[mmap.mmap] = field(default_factory=list)  # for what is not aligned; they begin on a page
    begun: int = 0  # where that begins in the first buffer which is not among the parts yet
    filled: int = 0  # and where it ends
    sent: int = 0  # bytes of the file
    sending: Future[None] | None = None
    thread: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Reserve the whole file, so that a disk that cannot hold it says so now."""
        self.handle = open_direct(self.path)
        reserve(self.handle, self.nbytes)
        self.buffers = [mmap.mmap(-1, BUFFER) for _ in range(2)]
        self.thread = ThreadPoolExecutor(1, "write")

    def write(self, data: memoryview) -> None:
        """Append what does not change until it is written: without a copy where a place in the file's page is the
        same as in that of the memory.
        """  # fmt: skip
        ends_page = -self.filled % ALIGNED
        whole = max(0, len(data) - ends_page) // ALIGNED * ALIGNED
        if whole < WORTH_IT or (address_of(data) + ends_page) % ALIGNED:
            self.copy(data)
            return
        self.copy(data[:ends_page])
        self.close_stretch()
        self.take(data[ends_page : ends_page + whole])
        self.copy(data[ends_page + whole :])

    def copy(self, data: memoryview) -> None:
        while len(data):
            part = data[: BUFFER - self.filled]
            self.buffers[0][self.filled : self.filled + len(part)] = part
            self.filled += len(part)
            data = data[len(part) :]
            if self.filled == BUFFER:
                self.send()

    def take(self, part: memoryview) -> None:
        self.parts.append(part)
        self.gathered += len(part)
        if self.gathered >= BUFFER:
            self.send()

    def close_stretch(self) -> None:
        """What was copied up to here, whole pages, is written before what comes next."""
        if self.filled > self.begun:
            stretch = memoryview(self.buffers[0])[self.begun : self.filled]
            self.begun = self.filled
            self.take(stretch)

    def send(self) -> None:
        """Have all that was gathered written, and go on with the other buffer as soon as that is free."""
        assert self.thread is not None, "the file is not open"
        if self.filled > self.begun:
            self.parts.append(memoryview(self.buffers[0])[self.begun : self.filled])
        self.wait()
        self.sending = self.thread.submit(write_all, self.handle, self.parts, self.sent)
        self.sent += sum(map(len, self.parts))
        self.buffers.reverse()
        self.parts, self.gathered, self.begun, self.filled = [], 0, 0, 0

    def wait(self) -> None:
        if self.sending is not None:
            self.sending.result()
            self.sending = None

    def finish(self) -> None:
        """Bring all of it to the disk, and cut off what the last write was rounded up by."""
        self.filled = -(-self.filled // ALIGNED) * ALIGNED
        self.send()
        self.wait()
        os.ftruncate(self.handle, self.nbytes)
        os.fsync(self.handle)
        self.close()

    def close(self) -> None:
        if self.thread is not None:
            self.thread.shutdown()
            self.thread = None
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def open_direct(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
    except OSError as e:
        if e.errno not in CANNOT:
            raise
        path.unlink(missing_ok=True)  # some file systems make it first
        return os.open(path, flags, 0o666)


def reserve(handle: int, nbytes: int) -> None:
    try:
        os.posix_fallocate(handle, 0, nbytes)
    except OSError as e:
        if e.errno not in CANNOT:
            raise
        os.ftruncate(handle, nbytes)


def write_all(handle: int, parts: list[memoryview], at: int) -> None:
    while parts:
        try:
            done = os.pwritev(handle, parts, at)
        except OSError as e:
            if e.errno not in CANNOT or not bypasses_cache(handle):
                raise
            use_cache(handle)  # a disk with larger sectors
        else:
            at, parts = at + done, rest_of(parts, done)


def rest_of(parts: list[memoryview], done: int) -> list[memoryview]:
    """What is left of them after so many bytes."""
    left = []
    for part in parts:
        if done < len(part):
            left.append(part[done:])
        done = max(0, done - len(part))
    return left


def address_of(data: memoryview) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def bypasses_cache(handle: int) -> bool:
    return bool(fcntl.fcntl(handle, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0))


def use_cache(handle: int) -> None:
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~getattr(os, "O_DIRECT", 0))
