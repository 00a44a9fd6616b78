"""Write safetensors files at offsets known beforehand, whole and on the disk."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from merging.direct import DirectFile
from merging.errors import Kept, MergeError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_place(out: Path) -> None:
    """Raise MergeError unless a folder can be made there."""
    if out.exists() or out.is_symlink():
        raise MergeError(f"{out} is already there. Nothing is overwritten: choose another folder, or remove it.")
    if not out.parent.is_dir():
        raise MergeError(f"There is no folder {out.parent} to put {out.name} into. Make it first, or choose another.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that names the file and the way out. Somebody can put it right,
    so what is complete by then is kept."""
    try:
        yield
    except OSError as e:
        if e.errno in NO_SPACE:
            raise Kept(f"There is no space left to write {path}. Free some, or choose another disk.") from e
        raise Kept(f"{path} cannot be written: {e.strerror or e}. Choose another place, or allow writing there.") from e


def check_space(out: Path, needed: int) -> None:
    with writing(out):
        free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise Kept(
            f"The merge needs {needed:,} bytes on the disk of {out.parent}, and {free:,} are free. "
            "Free some, or choose another disk."
        )


@dataclass(slots=True)
class ShardFile:
    """One safetensors file, put together from blocks that come in any order."""

    path: Path
    header: bytes
    nbytes: int
    written: int = 0  # bytes from the start without a gap
    ahead: dict[int, memoryview] = field(default_factory=dict)  # what came too early, by its place in the file
    file: DirectFile = field(init=False)

    def __post_init__(self) -> None:
        self.file = DirectFile(self.path, self.nbytes)

    def open(self) -> None:
        """Reserve the whole file, so that a disk that cannot hold it says so now."""
        with writing(self.path):
            self.file.open()
        self.put(0, memoryview(self.header))

    def put(self, start: int, data: memoryview) -> None:
        """Take a block, which may be changed once all before it have come and this returns."""
        if len(data):
            self.ahead[start] = data
        while (following := self.ahead.pop(self.written, None)) is not None:
            with writing(self.path):
                self.file.write(following)
            self.written += len(following)

    def finish(self) -> str:
        """Bring the file to the disk; its SHA-256."""
        assert self.written == self.nbytes, f"{self.path} has a gap at byte {self.written}"
        with writing(self.path):
            return self.file.finish()

    def close(self) -> None:
        self.file.close()


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
