"""The contents of a repo's files, kept by their sha256 and checked on their way in."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from space.localhub.errors import ContentMismatch
from space.localhub.records import FileInfo

BLOCK = 1 << 20
LARGEST_REGULAR = 10 * 1000 * 1000
LFS_SUFFIXES = (
    *(".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gguf", ".gz", ".h5", ".joblib", ".mlmodel"),
    *(".model", ".msgpack", ".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth"),
    *(".rar", ".safetensors", ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst"),
)
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


def is_lfs(path: str, size: int) -> bool:
    """Whether the Hub keeps such a file by LFS. An empty file never is: there would be nothing to upload."""
    return size > 0 and (size > LARGEST_REGULAR or path.lower().endswith(LFS_SUFFIXES))


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in the place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Incoming:
    """A file on its way in: hashed as it is written, and never longer than was announced."""

    def __init__(self, file: BinaryIO, path: Path, limit: int | None) -> None:
        self.file, self.path, self.limit = file, path, limit
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.limit is not None and self.size > self.limit:
            raise ContentMismatch(f"More than the announced {self.limit} bytes arrived.")
        self.digest.update(chunk)
        self.file.write(chunk)

    def move(self, target: Path) -> str:
        """Put the file in its place, whole, and return its sha256."""
        self.file.close()
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)
        return self.digest.hexdigest()


class Objects:
    """The contents of one repo. Repos share none, so knowing a hash gives nobody another repo's file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()

    def path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        path = self.path(sha256)
        return path.is_file() and path.stat().st_size == size

    def info(self, sha256: str) -> FileInfo | None:
        """The LFS file of that hash, if its content has arrived."""
        path = self.path(sha256)
        if not path.is_file():
            return None
        size = path.stat().st_size
        return FileInfo(size, sha256, git_oid(pointer(sha256, size)), lfs=True)

    @contextmanager
    def incoming(self, limit: int | None = None) -> Iterator[Incoming]:
        """A place to write to. What has not been moved away at the end is deleted."""
        folder = self.folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as file:
            try:
                yield Incoming(file, Path(name), limit)
            finally:
                Path(name).unlink(missing_ok=True)

    def keep(self, incoming: Incoming, sha256: str, size: int) -> None:
        """Accept a content that is what its uploader said it is."""
        found = incoming.digest.hexdigest()
        if (found, incoming.size) != (sha256, size):
            raise ContentMismatch(f"Expected {size} bytes with sha256 {sha256}, got {incoming.size} with {found}.")
        incoming.move(self.path(sha256))

    def put(self, source: bytes | Path, *, lfs: bool) -> FileInfo:
        """Keep a copy of a content that is at hand."""
        with self.incoming() as incoming:
            for block in blocks_of(source):
                incoming.write(block)
            sha256 = incoming.digest.hexdigest()
            incoming.move(self.path(sha256))
        kept = self.path(sha256)
        oid = git_oid(pointer(sha256, incoming.size) if lfs else kept.read_bytes())
        return FileInfo(incoming.size, sha256, oid, lfs)

    def keep_part(self, incoming: Incoming, oid: str, number: int) -> str:
        """Set one part of a large upload aside, and return its ETag."""
        return incoming.move(self.parts(oid) / str(number))

    def join_parts(self, oid: str, size: int, etags: Sequence[str]) -> None:
        """Make the file of its parts. Doing it twice is fine: the client asks again when the answer is lost."""
        with self.lock:
            if self.has(oid, size):
                return
            try:
                with self.incoming(limit=size) as incoming:
                    for number, etag in enumerate(etags, 1):
                        append_part(incoming, self.parts(oid) / str(number), etag)
                    self.keep(incoming, oid, size)
            finally:
                shutil.rmtree(self.parts(oid), ignore_errors=True)

    def parts(self, oid: str) -> Path:
        return self.folder / "parts" / oid


def append_part(incoming: Incoming, part: Path, etag: str) -> None:
    if not part.is_file():
        raise ContentMismatch(f"Part {part.name} has not arrived.")
    digest = hashlib.sha256()
    for block in blocks_of(part):
        digest.update(block)
        incoming.write(block)
    if digest.hexdigest() != etag.strip('"'):
        raise ContentMismatch(f"Part {part.name} is not the one with ETag {etag}.")


def blocks_of(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
