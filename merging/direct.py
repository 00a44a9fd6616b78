"""A file written from front to back past the page cache, so that a large one neither fills memory nor waits for it.

What is written once and not read soon has no place in the cache: the system would have to find a page for every 4 kB
of it, throw out what others need, and copy. Where a file system cannot do without the cache it is written through it.
"""

import errno
import fcntl
import hashlib
import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from merging.methods.arrays import Bytes, bytes_of

BUFFER = 4 << 20
BUFFERS = 4  # one is filled while the others are hashed and on their way
WRITES = 2  # at once: disks take two together faster than one after the other (benchmarks/LOG.md)
ALIGNED = 4096  # what disks want lengths and offsets to be multiples of
CANNOT = (errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(slots=True)
class DirectFile:
    """Hashed on the way. Raises OSError from any call, for what went wrong in those before as well."""

    path: Path
    nbytes: int
    handle: int = -1
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    buffers: deque[Bytes] = field(default_factory=deque)  # begin on a page, which disks want too
    filled: int = 0  # of the first buffer
    sent: int = 0  # bytes of the file
    sending: deque[tuple[Future[None], Future[None]]] = field(default_factory=deque)  # the oldest first
    hashing: ThreadPoolExecutor | None = None
    writing: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Reserve the whole file, so that a disk that cannot hold it says so now."""
        self.handle = open_direct(self.path)
        reserve(self.handle, self.nbytes)
        self.buffers.extend(np.frombuffer(mmap.mmap(-1, BUFFER), np.uint8) for _ in range(BUFFERS))
        self.hashing, self.writing = ThreadPoolExecutor(1, "hash"), ThreadPoolExecutor(WRITES, "write")

    def write(self, data: memoryview) -> None:
        """Append."""
        while len(data):
            part = data[: BUFFER - self.filled]
            self.buffers[0][self.filled : self.filled + len(part)] = np.frombuffer(part, np.uint8)  # others go on
            self.filled += len(part)
            data = data[len(part) :]
            if self.filled == BUFFER:
                self.send(BUFFER)

    def send(self, length: int) -> None:
        """Have the first buffer hashed and written, and go on with the next one as soon as that is free."""
        assert self.hashing is not None and self.writing is not None, "the file is not open"
        data = bytes_of(self.buffers[0])
        hashed = self.hashing.submit(self.digest.update, data[: self.filled])
        self.sending.append((hashed, self.writing.submit(write_all, self.handle, data[:length], self.sent)))
        self.buffers.rotate(-1)
        self.sent += length
        self.filled = 0
        self.wait(BUFFERS - 1)

    def wait(self, most: int) -> None:
        """Until no more than so many buffers are on their way."""
        while len(self.sending) > most:
            for step in self.sending.popleft():
                step.result()

    def finish(self) -> str:
        """Bring all of it to the disk, and cut off what the last write was rounded up by. The SHA-256."""
        if self.filled:
            self.send(-(-self.filled // ALIGNED) * ALIGNED)
        self.wait(0)
        os.ftruncate(self.handle, self.nbytes)
        os.fsync(self.handle)
        self.close()
        return self.digest.hexdigest()

    def close(self) -> None:
        for pool in (self.hashing, self.writing):
            if pool is not None:
                pool.shutdown()
        self.hashing = self.writing = None
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


def write_all(handle: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(handle, data[done:], at + done)
        except OSError as e:
            if e.errno not in CANNOT or not bypasses_cache(handle):
                raise
            use_cache(handle)  # a disk with larger sectors


def bypasses_cache(handle: int) -> bool:
    return bool(fcntl.fcntl(handle, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0))


def use_cache(handle: int) -> None:
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~getattr(os, "O_DIRECT", 0))
