"""Models held in memory as their files have them: read once, to be merged again and again.

Where they do not fit they lie in a file on disk that looks like memory; the system keeps of it what it has room for.
"""

import math
import mmap
import os
import tempfile
from bisect import bisect_right
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from merging.checkpoint import Checkpoint, Source
from merging.device import Cpu, Device
from merging.errors import MergeError, NoMemory
from merging.header import DTYPE_BITS, FLOATS, TensorInfo
from merging.heads import compare_heads
from merging.methods.arrays import Bytes, bytes_of
from merging.plan import Plan, Step
from merging.reading import AHEAD, Range
from merging.recipe import ModelRef
from merging.soundness import refuse_non_finite

ALIGNED = 64  # bytes: where the next tensor begins
BLOCK = 1 << 20  # bytes of a tensor that are read, and looked at, at once

Key = tuple[ModelRef, str]  # a model, and the name of a tensor in it


@dataclass(frozen=True, slots=True)
class Held:
    """The tensors of some models in one stretch of memory, and where each of them begins."""

    checkpoints: Mapping[ModelRef, Checkpoint]  # with these tensors only, read from here
    memory: Bytes
    places: Mapping[Key, int]  # first byte
    on_disk: bool = False
    device: Device = field(default_factory=Cpu)  # whose memory it is, and where merges of it are computed

    def raw(self, key: Key, info: TensorInfo) -> Bytes:
        """The bytes of one tensor."""
        start = self.places[key]
        return self.memory[start : start + info.nbytes]


@dataclass(frozen=True, slots=True)
class Loading:
    """How far the reading is, in bytes."""

    done: int
    total: int


def steps_of(plan: Plan) -> list[Step]:
    return [step for shard in plan.shards for step in shard.steps]


def keys_of(plan: Plan, step: Step) -> list[Key]:
    """Which tensor of which model each input of a step is."""
    return [(plan.models[i], name) for i, name in zip(step.sources, step.names, strict=True)]


def inputs_of(plan: Plan) -> dict[Key, TensorInfo]:
    """Every tensor that a merge reads, once, in the order of reading."""
    return {key: i for step in steps_of(plan) for key, i in zip(keys_of(plan, step), step.inputs, strict=True)}


def held_bytes(plan: Plan) -> int:
    """The memory that the inputs of a merge take as they are stored."""
    return sum(spread(info.nbytes) for info in inputs_of(plan).values())


def spread(nbytes: int) -> int:
    return -(-nbytes // ALIGNED) * ALIGNED


def load(
    plan: Plan, checkpoints: Mapping[ModelRef, Checkpoint], disk: Path | None = None, device: Device | None = None
) -> Generator[Loading, None, Held]:
    """Read the inputs of a merge once; yields how far that is. Leaving the loop stops what is on its way.

    With a folder on `disk` they are kept there, in a file without a name, which goes with the last who uses it; else
    in the memory of the `device`, by default the machine's. Raises MergeError where a model cannot be read, or holds
    numbers that are not finite.
    """
    inputs, places, end = inputs_of(plan), {}, 0
    for key, info in inputs.items():
        places[key] = end
        end += spread(info.nbytes)
    place = device or Cpu()
    memory = reserved_on(disk, end) if disk else reserved(end, place)
    held = Held(checkpoints, memory, places, disk is not None, place)
    sources = [checkpoints[model].source for model in plan.models]
    try:
        expect(plan, inputs, checkpoints)
        yield from read_all(plan, inputs, held)
        for source in sources:
            source.verified()
    except BaseException:
        for source in sources:
            source.stop()
        raise
    return replace(held, checkpoints=in_memory(inputs, held))


def load_at_once(plan: Plan, checkpoints: Mapping[ModelRef, Checkpoint], device: Device | None = None) -> Held:
    """The same, without a look at how far it is."""
    reading = load(plan, checkpoints, device=device)
    try:
        while True:
            next(reading)
    except StopIteration as done:
        held: Held = done.value
        return held


def reserved(nbytes: int, device: Device) -> Bytes:
    try:
        return device.own(nbytes)
    except MemoryError:
        raise NoMemory(f"There is no memory here for {nbytes:,} bytes of models. Try fewer models.") from None


def reserved_on(disk: Path, nbytes: int) -> Bytes:
    try:
        with tempfile.TemporaryFile(dir=disk) as file:
            os.posix_fallocate(file.fileno(), 0, max(1, nbytes))  # a disk that is full later on would kill the process
            found: Bytes = np.frombuffer(mmap.mmap(file.fileno(), max(1, nbytes)), np.uint8)[:nbytes]
            return found
    except OSError as e:
        raise MergeError(f"The disk has no room for {nbytes:,} bytes of models ({e.strerror}). Try fewer.") from None


def expect(plan: Plan, inputs: Mapping[Key, TensorInfo], checkpoints: Mapping[ModelRef, Checkpoint]) -> None:
    """Compare the heads that are left out, and tell the models what will be read of them."""
    around = {plan.models[i] for step in steps_of(plan) if step.layer is None for i in step.sources}
    compare_heads([checkpoints[m] for m in plan.models if m in around], frozenset(name for _, name in inputs))
    for model in plan.models:
        ranges = [Range(info.file, info.start, info.end) for (of, _), info in inputs.items() if of == model]
        checkpoints[model].source.expect(ranges, AHEAD)


def read_all(plan: Plan, inputs: Mapping[Key, TensorInfo], held: Held) -> Generator[Loading, None, None]:
    total, done = sum(info.nbytes for info in inputs.values()), 0
    for key, info in inputs.items():
        tensor, checkpoint = held.raw(key, info), held.checkpoints[key[0]]
        for at in range(0, info.nbytes, BLOCK):
            yield Loading(done, total)
            place = tensor[at : at + BLOCK]
            block = place if isinstance(place, np.ndarray) else np.empty(len(place), np.uint8)
            checkpoint.read(info, at, bytes_of(block))
            if not is_finite(block, info.dtype):
                step = next(s for s in steps_of(plan) if key in keys_of(plan, s))
                refuse_non_finite(step, [held.checkpoints[plan.models[i]] for i in step.sources])
            if block is not place:
                place[:] = as_there(block)
            done += len(block)
    yield Loading(total, total)


def as_there(block: Bytes) -> Bytes:
    """A block as what the memory of a GPU takes."""
    import torch  # which takes two seconds, and which only a GPU needs

    return torch.from_numpy(block)  # type: ignore[return-value] # see arrays.py


def is_finite(block: Bytes, dtype: str) -> bool:
    if dtype not in FLOATS:
        return True
    count = len(block) * 8 // DTYPE_BITS[dtype]
    return not math.isinf(Cpu().largest(Cpu().widen(block, [0], count, [dtype], by_parts=True)))


# What has been read, as the source of a checkpoint.


def in_memory(inputs: Mapping[Key, TensorInfo], held: Held) -> dict[ModelRef, Checkpoint]:
    """The same models, with the tensors that are held, without the files."""
    found = {}
    for model, checkpoint in held.checkpoints.items():
        mine = {name: info for (of, name), info in inputs.items() if of == model}
        raw = {name: held.raw((model, name), info) for name, info in mine.items()}
        found[model] = replace(checkpoint, source=Memory.of(checkpoint.source, mine, raw), tensors=mine)
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """A `Source` whose tensors are in memory, and whose other files are not there any more."""

    label: str
    repo_id: str | None
    revision: str | None
    files: Mapping[str, int]
    starts: Mapping[str, list[int]]  # of the tensors of each file, ascending
    tensors: Mapping[tuple[str, int], Bytes]  # by file and start

    @staticmethod
    def of(source: Source, infos: Mapping[str, TensorInfo], raw: Mapping[str, Bytes]) -> "Memory":
        starts: dict[str, list[int]] = {}
        for info in sorted(infos.values(), key=lambda i: i.start):
            starts.setdefault(info.file, []).append(info.start)
        tensors = {(info.file, info.start): raw[name] for name, info in infos.items() if info.nbytes}
        return Memory(source.label, source.repo_id, source.revision, dict(source.sizes()), starts, tensors)

    def sizes(self) -> Mapping[str, int]:
        return self.files

    def read(self, file: str, start: int, end: int) -> bytes:
        buffer = bytearray(end - start)
        self.read_into(file, start, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, file: str, start: int, into: memoryview) -> None:
        """Part of one tensor; nothing else is kept."""
        before = bisect_right(self.starts.get(file, []), start)
        first = self.starts[file][before - 1] if before else -1
        tensor = self.tensors.get((file, first))
        if tensor is None or start - first + len(into) > len(tensor):
            raise MergeError(f"{self.label}/{file} is not in memory at byte {start:,}. Load the model again.")
        into[:] = bytes_of(tensor)[start - first : start - first + len(into)]

    def expect(self, ranges: Sequence[Range], memory_bytes: int) -> None:
        """Nothing: all is here."""

    def verified(self) -> Mapping[str, str]:
        return {}  # it was, when it was read

    def checked(self) -> Collection[str]:
        return ()

    def recall(self, files: Collection[str], right: Collection[str]) -> None:
        """Nothing: it was verified when it was read."""

    def stop(self) -> None:
        """Nothing: a read here takes no time."""

    def close(self) -> None:
        """Nothing: the memory goes with who holds it."""
