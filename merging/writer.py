"""Write safetensors files at offsets known beforehand, in a folder that appears when it is whole."""

import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from merging.errors import MergeError

HASH_CHUNK = 8_000_000
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` when the block ends well, and is removed when it does not."""
    check_place(out)
    folder = out.parent / f".{out.name}.{secrets.token_hex(4)}.partial"
    with writing(folder):
        folder.mkdir()
    try:
        yield folder
        with writing(out):
            flush_folder(folder)
            folder.rename(out)
            flush(out.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_place(out: Path) -> None:
    """Raise MergeError unless a folder can be made there."""
    if out.exists() or out.is_symlink():
        raise MergeError(f"{out} is already there. Nothing is overwritten: choose another folder, or remove it.")
    if not out.parent.is_dir():
        raise MergeError(f"There is no folder {out.parent} to put {out.name} into. Make it first, or choose another.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that names the file and the way out."""
    try:
        yield
    except OSError as e:
        if e.errno in NO_SPACE:
            raise MergeError(f"There is no space left to write {path}. Free some, or choose another disk.") from e
        raise MergeError(f"{path} cannot be written: {e.strerror or e}.") from e


def check_space(out: Path, needed: int) -> None:
    with writing(out):
        free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise MergeError(
            f"The merge needs {needed:,} bytes on the disk of {out.parent}, and {free:,} are free. "
            "Free some, or choose another disk."
        )


@dataclass(slots=True)
class ShardFile:
    """One safetensors file, written block by block in any order, hashed in file order as soon as it can be."""

    path: Path
    header: bytes
    nbytes: int
    handle: int = -1
    hashed: int = 0  # bytes from the start
    written: int = 0  # bytes from the start without a gap
    ahead: dict[int, int] = field(default_factory=dict)  # start -> end of what was written beyond that
    lock: threading.Lock = field(default_factory=threading.Lock)  # threads that wait for a file's own lock spin
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def open(self) -> None:
        """Reserve the whole file, so that a disk that cannot hold it says so now."""
        with writing(self.path):
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            reserve(self.handle, self.nbytes)
        self.write(memoryview(self.header), 0)
        self.mark(0, memoryview(self.header))

    def write(self, data: memoryview, at: int) -> None:
        """Safe to call from several threads."""
        done = 0
        with writing(self.path), self.lock:
            while done < len(data):
                done += os.pwrite(self.handle, data[done:], at + done)

    def mark(self, start: int, data: memoryview) -> None:
        """Take note that a stretch is written. What comes in order is hashed at once, the rest later."""
        end = start + len(data)
        if start == self.hashed:
            self.digest.update(data)
            self.hashed = end
        if end > start:
            self.ahead[start] = end
        while (end_of_next := self.ahead.pop(self.written, None)) is not None:
            self.written = end_of_next

    def hash_some(self) -> bool:
        """Hash a few megabytes of what is written; False when there is nothing to do."""
        size = min(HASH_CHUNK, self.written - self.hashed)
        if size == 0:
            return False
        with writing(self.path):
            read = os.pread(self.handle, size, self.hashed)
        self.digest.update(read)
        self.hashed += len(read)
        return True

    def finish(self) -> str:
        """Bring the file to the disk; its SHA-256."""
        while self.hash_some():
            pass
        assert self.hashed == self.nbytes, f"{self.path} has a gap at byte {self.written}"
        with writing(self.path):
            os.fsync(self.handle)
        self.close()
        return self.digest.hexdigest()

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def reserve(handle: int, nbytes: int) -> None:
    try:
        os.posix_fallocate(handle, 0, nbytes)
    except OSError as e:
        if e.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot
            raise
        os.ftruncate(handle, nbytes)


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write small files whole, and bring them to the disk."""
    for name, content in files:
        path = folder / name
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            flush(path)


def flush_folder(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        if path.is_dir():
            flush(path)


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(PermissionError):
            os.fsync(handle)
    finally:
        os.close(handle)
