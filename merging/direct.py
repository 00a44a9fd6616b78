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

BUFFER = 8 << 20  # two of them: one is filled while the other is on its way
ALIGNED = 4096  # what disks want lengths and offsets to be multiples of
CANNOT = (errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(slots=True)
class DirectFile:
    """Raises OSError from any call, for what went wrong in the one before as well."""

    path: Path
    nbytes: int
    handle: int = -1
    buffers: list[mmap.mmap] = field(default_factory=list)  # begin on a page, which disks want too
    filled: int = 0  # of the first buffer
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
        """Append."""
        while len(data):
            part = data[: BUFFER - self.filled]
            self.buffers[0][self.filled : self.filled + len(part)] = part
            self.filled += len(part)
            data = data[len(part) :]
            if self.filled == BUFFER:
                self.send(BUFFER)

    def send(self, length: int) -> None:
        """Have the first buffer written, and go on with the other one as soon as that is free."""
        assert self.thread is not None, "the file is not open"
        self.wait()
        self.sending = self.thread.submit(write_all, self.handle, memoryview(self.buffers[0])[:length], self.sent)
        self.buffers.reverse()
        self.sent += length
        self.filled = 0

    def wait(self) -> None:
        if self.sending is not None:
            self.sending.result()
            self.sending = None

    def finish(self) -> None:
        """Bring all of it to the disk, and cut off what the last write was rounded up by."""
        if self.filled:
            self.send(-(-self.filled // ALIGNED) * ALIGNED)
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
