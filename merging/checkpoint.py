"""A checkpoint as it lies in files, local or remote: which tensors it has, and where their bytes are."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from merging.errors import MergeError
from merging.header import MAX_COLONS, MAX_HEADER_BYTES, MAX_TENSORS, WAY_OUT, TensorInfo, is_bomb, parse_header
from merging.reading import Range

MAX_JSON_BYTES = 32_000_000

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Source(Protocol):
    """The files of one model, wherever they lie. Safe to use from several threads."""

    @property
    def label(self) -> str:
        """How messages and the card name it: `org/name` or the folder's path."""
        ...

    @property
    def repo_id(self) -> str | None: ...

    @property
    def revision(self) -> str | None:
        """The commit SHA that is read; None for a folder."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Every file and its size in bytes, by its path inside the model."""
        ...

    def read(self, file: str, start: int, end: int) -> bytes:
        """The bytes `start` to `end` of a file; an error when there are fewer."""
        ...

    def read_into(self, file: str, start: int, into: memoryview) -> None:
        """Fill `into` from byte `start` on; an error when the file ends before."""
        ...

    def expect(self, ranges: Sequence[Range], memory_bytes: int) -> None:
        """Have these ready when they are read, in this order; what is there early takes so much memory at most."""
        ...

    def verified(self) -> Mapping[str, str]:
        """What is known of each file that was expected, now that it was read; an error where one arrived broken."""
        ...

    def checked(self) -> Collection[str]:
        """The files of which every byte has been read by now, and is as it should be; an error where one is not."""
        ...

    def recall(self, files: Collection[str], right: Collection[str]) -> None:
        """An earlier run of the same merge has read of these files, and found some of them right as a whole."""
        ...

    def stop(self) -> None:
        """Have the reads under way in other threads end soon, with an error where they are not done."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's tensors (from the headers of its shards), its config and its other files."""

    source: Source
    tensors: Mapping[str, TensorInfo]
    config: Mapping[str, Any]
    shards: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.source.label

    def read(self, info: TensorInfo, start: int, into: memoryview) -> None:
        """Fill `into` with a tensor's bytes, from its byte `start` on."""
        self.source.read_into(info.file, info.start + start, into)

    def json(self, file: str) -> dict[str, Any] | None:
        """A JSON object of the model's files, or None where there is no such file."""
        return read_json(self.source, file)

    def text(self, file: str) -> str | None:
        raw = read_whole(self.source, file)
        return None if raw is None else raw.decode("utf-8", errors="replace")


@dataclass(slots=True)
class Folder:
    """A model in a local folder, read in place with `pread` (no mapping, so that it does not count as memory)."""

    path: Path
    files: dict[str, int] = field(default_factory=dict)
    handles: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def repo_id(self) -> str | None:
        return None

    @property
    def revision(self) -> str | None:
        return None

    def sizes(self) -> Mapping[str, int]:
        if not self.files:
            with told(self.label):
                found = (p for p in self.path.rglob("*") if p.is_file())
                self.files = {p.relative_to(self.path).as_posix(): p.stat().st_size for p in found}
        return self.files

    def read(self, file: str, start: int, end: int) -> bytes:
        buffer = bytearray(end - start)
        self.read_into(file, start, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, file: str, start: int, into: memoryview) -> None:
        handle, done = self.handle(file), 0
        while done < len(into):
            with told(f"{self.label}/{file}"):
                got = os.preadv(handle, [into[done:]], start + done)
            if got == 0:
                raise MergeError(
                    f"{self.label}/{file} ends before byte {start + len(into):,}, up to which it should go. "
                    "It was cut short, or changed while it was read. Download it again."
                )
            done += got

    def handle(self, file: str) -> int:
        if file not in self.handles:
            with told(f"{self.label}/{file}"):
                opened = os.open(self.path / file, os.O_RDONLY | os.O_CLOEXEC)
            spare_the_cache(opened)
            if (kept := self.handles.setdefault(file, opened)) != opened:  # another thread was first
                os.close(opened)
            return kept
        return self.handles[file]

    def expect(self, ranges: Sequence[Range], memory_bytes: int) -> None:
        """Nothing: the system reads ahead."""

    def verified(self) -> Mapping[str, str]:
        return {}  # there is nothing to compare a folder with

    def checked(self) -> Collection[str]:
        return ()

    def recall(self, files: Collection[str], right: Collection[str]) -> None:
        """Nothing: a folder is not verified."""

    def stop(self) -> None:
        """Nothing: a read here takes no time."""

    def close(self) -> None:
        while self.handles:
            os.close(self.handles.popitem()[1])


def spare_the_cache(handle: int) -> None:
    """Ask that what is read does not push out of the page cache what others use: a model is read once or twice.

    Linux listens to it from 6.3 on (posix_fadvise(2)); others go on as ever.
    """
    with suppress(AttributeError, OSError):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_NOREUSE)


class told:
    """Turn an error of the operating system into one that names the file and the way out."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise MergeError(
                f"{self.what} cannot be read: {error.strerror or error}. Is it there, and may you read it?"
            ) from error


def open_checkpoint(source: Source) -> Checkpoint:
    """Read config, index and shard headers; no weights."""
    files = source.sizes()
    shards = find_shards(source)
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, info in read_header(source, shard, files[shard]).items():
            if name in tensors:
                raise MergeError(
                    f"{source.label}: tensor {name!r} is in {tensors[name].file} and again in {shard}. {WAY_OUT}"
                )
            tensors[name] = info
        if len(tensors) > MAX_TENSORS:
            raise MergeError(f"{source.label} has over {MAX_TENSORS:,} tensors; no more than these can be merged.")
    check_index(source, tensors)
    return Checkpoint(source, tensors, read_json(source, "config.json") or {}, shards)


def find_shards(source: Source) -> tuple[str, ...]:
    """The weight files that belong to the model: those of its index, else the single file."""
    files = source.sizes()
    if (index := read_json(source, INDEX)) is not None:
        return tuple(sorted(set(weight_map(source, index).values())))
    if SINGLE in files:
        return (SINGLE,)
    if "adapter_model.safetensors" in files:
        raise MergeError(
            f"{source.label} is an adapter (LoRA), not a whole model. Merge it into its base first (PEFT's "
            "`merge_and_unload`), and give the result here."
        )
    pickles = sorted(f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickles:
        raise MergeError(
            f"{source.label} has its weights only as pickles ({pickles[0]}), which can run code when they are opened. "
            "Ask its author for safetensors, or convert it (the Hub's space safetensors/convert does)."
        )
    raise MergeError(
        f"{source.label} has no {SINGLE} and no {INDEX}: there are no weights to merge. Name a "
        "repo or folder of a whole model; adapters are merged into their base first."
    )


def weight_map(source: Source, index: Mapping[str, Any]) -> Mapping[str, str]:
    """The index's tensor -> shard map; every shard must be a plain name of a file that exists."""
    found, files = index.get("weight_map"), source.sizes()
    if not isinstance(found, dict) or not all(isinstance(f, str) for f in found.values()):
        raise MergeError(f"{source.label}/{INDEX} has no weight_map of tensor names to file names. {WAY_OUT}")
    if len(found) > MAX_TENSORS:
        raise MergeError(f"{source.label}/{INDEX} lists {len(found):,} tensors; at most {MAX_TENSORS:,} can be merged.")
    for shard in sorted(set(found.values())):
        if shard != Path(shard).name or "\\" in shard or "\0" in shard or not shard.endswith(".safetensors"):
            raise MergeError(
                f"{source.label}/{INDEX} names the shard {shard!r}. A shard must be a plain .safetensors file name "
                "in the model's own folder."
            )
        if shard not in files:
            raise MergeError(f"{source.label}: the shard {shard} of the index is missing. Upload or download it again.")
    return found


def check_index(source: Source, tensors: Mapping[str, TensorInfo]) -> None:
    """The index and the headers must tell the same story."""
    if (index := read_json(source, INDEX)) is None:
        return
    for name, shard in weight_map(source, index).items():
        if name not in tensors:
            raise MergeError(
                f"{source.label}: the index says {name!r} is in {shard}, but that shard does not have it. {WAY_OUT}"
            )
        if tensors[name].file != shard:
            raise MergeError(
                f"{source.label}: the index says {name!r} is in {shard}, but it is in {tensors[name].file}. {WAY_OUT}"
            )
    if extra := sorted(tensors.keys() - index["weight_map"].keys()):
        raise MergeError(f"{source.label}: {extra[0]!r} is in {tensors[extra[0]].file} but not in the index. {WAY_OUT}")


def read_whole(source: Source, file: str) -> bytes | None:
    if (size := source.sizes().get(file)) is None:
        return None
    if size > MAX_JSON_BYTES:
        raise MergeError(f"{source.label}/{file} is {size:,} bytes; at most {MAX_JSON_BYTES:,} are read. {WAY_OUT}")
    return source.read(file, 0, size)


def read_json(source: Source, file: str) -> dict[str, Any] | None:
    if (raw := read_whole(source, file)) is None:
        return None
    if is_bomb(raw, MAX_COLONS):
        raise MergeError(f"{source.label}/{file} has more entries than a model needs. {WAY_OUT}")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise MergeError(f"{source.label}/{file} is not valid JSON: {e}. {WAY_OUT}") from None
    if not isinstance(found, dict):
        raise MergeError(f"{source.label}/{file} must hold a JSON object, not {type(found).__name__}. {WAY_OUT}")
    return found


def read_header(source: Source, file: str, size: int) -> dict[str, TensorInfo]:
    """Read and check the header of one safetensors file of `size` bytes."""
    where = f"{source.label}/{file}"
    if size < 8:
        raise MergeError(f"{where} is {size} bytes long: too short for a safetensors file. Download it again.")
    head = source.read(file, 0, min(size, 100))
    refuse_stand_in(head, where)
    length = int.from_bytes(head[:8], "little")
    if length > min(size - 8, MAX_HEADER_BYTES):
        raise MergeError(
            f"{where}: the header says it is {length:,} bytes long, in a file of {size:,}. "
            "It was cut short or is not safetensors. Download it again."
        )
    return parse_header(source.read(file, 8, 8 + length), file, size, where)


def refuse_stand_in(head: bytes, where: str) -> None:
    """Recognise what is often found in the place of weights, by how it begins."""
    if head.startswith(b"version https://git-lfs"):
        raise MergeError(f"{where} is a Git LFS pointer, not the weights: run `git lfs pull` in its folder.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise MergeError(f"{where} is a web page, not safetensors. Its download went wrong: download it again.")
