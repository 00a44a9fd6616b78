"""One block of a tensor: its inputs read from every model, measured or merged grain by grain, and written."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from merging.assembly import depth_of
from merging.budget import ALIGNED, SPARE, row_of
from merging.checkpoint import Checkpoint
from merging.device import PAGE, Device
from merging.errors import MergeError
from merging.header import DTYPE_BITS
from merging.methods import Method
from merging.methods.arrays import Array, Bytes, Found, Measured, bytes_of
from merging.methods.chance import Chance
from merging.methods.spec import Block, Pass, compute
from merging.methods.stored import Pending, Rows
from merging.plan import Step
from merging.soundness import Merged, check_output, refuse_non_finite

# Processors copy five times slower to where a place in its page lies less than so many bytes behind that of the source:
# they take what they read for what they have just written (benchmarks/LOG.md). The page cache begins on pages.
COLLIDES = 32

Stretch = tuple[int, int]  # the first element and the one after the last


@dataclass(frozen=True)
class Job:
    """One tensor to merge, with all that its blocks have in common."""

    step: Step
    checkpoints: Sequence[Checkpoint]
    passes: int  # how often the tensor is gone over before it can be merged
    has_base: bool  # the first input is the base
    seed: int
    grain: int  # elements that are computed at once
    device: Device
    stopped: threading.Event  # set when the merge has failed or was cancelled

    @property
    def depth(self) -> float | None:
        step = self.step
        return None if step.layer is None else depth_of(step.layer, step.layers)

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of one element of each input."""
        return [DTYPE_BITS[i.dtype] // 8 for i in self.step.inputs]

    @cached_property
    def dtypes(self) -> list[str]:
        return [i.dtype for i in self.step.inputs]


@dataclass(frozen=True, slots=True)
class Piece:
    """A block of a tensor, and the buffers that hold its inputs once they are read."""

    job: Job
    start: int  # first element
    count: int
    buffers: Bytes
    unchecked: bool = False  # read for the first time: its numbers may not be finite

    def begin(self, i: int) -> int:
        """Where the i-th input begins in the buffers: aligned, whatever the types of those before it."""
        spread, size = -(-self.count // ALIGNED) * ALIGNED, self.job.sizes[i]
        begin = spread * sum(self.job.sizes[:i]) + i * SPARE
        collides = 0 < (begin - self.job.step.inputs[i].start - self.start * size) % PAGE < COLLIDES
        return begin + COLLIDES if collides else begin

    def raw(self, i: int) -> Bytes:
        """The bytes of the i-th input."""
        begin = self.begin(i)
        return self.buffers[begin : begin + self.count * self.job.sizes[i]]

    def read(self, *, though_stopped: bool = False) -> None:
        for i, (info, checkpoint) in enumerate(zip(self.job.step.inputs, self.job.checkpoints, strict=True)):
            if self.count and (though_stopped or not self.job.stopped.is_set()):
                checkpoint.read(info, self.start * self.job.sizes[i], bytes_of(self.raw(i)))

    def grains(self) -> list[Stretch]:
        """Where the grains of this block begin and end, from its first element."""
        grain = self.job.grain
        return [(at, min(at + grain, self.count)) for at in range(0, self.count, grain)] or [(0, 0)]

    def widened(self, stretches: Sequence[Stretch]) -> Iterator[Block]:
        """Stretches of the block, as float32 on the device. Finite, or refused before the next one comes."""
        job = self.job
        begins = [self.begin(i) for i in range(len(job.sizes))]
        for begin, end in stretches:
            wide = self.widen(begins, begin, end)
            if self.unchecked and isinstance(wide, Rows):
                wide.store.check = self.check  # the first step that goes over them may tell
            elif self.unchecked:
                self.check(job.device.largest(wide))
            chance = Chance(job.seed, job.step.name, self.start + begin)
            is_matrix = job.step.granularity == "matrix"
            yield Block(wide, job.has_base, chance, row_of(job.step.shape), job.depth, is_matrix)
            if isinstance(wide, Rows):
                wide.store.settle()

    def widen(self, begins: Sequence[int], begin: int, end: int) -> Array:
        job = self.job
        begins = [at + begin * size for at, size in zip(begins, job.sizes, strict=True)]
        by_parts = job.step.granularity in ("element", "matrix")
        return job.device.widen(self.buffers, begins, end - begin, job.dtypes, by_parts=by_parts)

    def check(self, largest: float) -> None:
        if math.isinf(largest):
            refuse_non_finite(self.job.step, self.job.checkpoints)


@dataclass(frozen=True, slots=True)
class Output:
    """What a stage made for the file."""

    start: int  # byte offset in the file
    data: memoryview


Stage = Callable[[Piece], "Found | Output"]  # something to be done with every block of a tensor


def measure_block(piece: Piece, look: Pass) -> Found:
    """One pass of a measure over a block."""
    return look(looked_at(piece.grains(), piece.widened))


def looked_at(grains: Sequence[Stretch], widened: Callable[[Sequence[Stretch]], Iterator[Block]]) -> Iterator[Block]:
    """The first grain, then the others: in one go if the first took no memory for each element."""
    first, *others = grains
    for block in widened([first]):
        yield block
        if others and isinstance(block.wide, Rows) and block.wide.store.is_by_tiles:
            others = joined(others)
    yield from widened(others)


def joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    return [(stretches[0][0], stretches[-1][1])]


def merge_block(piece: Piece, method: Method, measured: Measured) -> Output:
    """Compute a block, rounded once."""
    job, size = piece.job, DTYPE_BITS[piece.job.step.dtype] // 8
    merged = job.device.buffer(piece.count * size)

    def merge(stretches: Sequence[Stretch]) -> Iterator[Array]:
        for (begin, end), block in zip(stretches, piece.widened(stretches), strict=True):
            wide = compute(method, block, measured, job.step.settings)
            largest = job.device.narrow(wide, job.step.dtype, merged[begin * size : end * size])
            check_output(job.step, largest, lambda: merged_again(piece, method, measured))
            yield wide

    in_stretches(piece.grains(), merge)
    return output(piece, merged)


def merged_again(piece: Piece, method: Method, measured: Measured) -> Iterator[Merged]:
    """All of the tensor, grain by grain, in the space of a piece of it that is not needed any more."""
    job, space = piece.job, piece.job.device.buffer(piece.job.grain * 4)
    for at in range(0, job.step.numel, job.grain):
        grain = Piece(job, at, min(job.grain, job.step.numel - at), piece.buffers)
        grain.read(though_stopped=True)
        (block,) = grain.widened([(0, grain.count)])
        wide = space[: grain.count * 4]
        job.device.narrow(compute(method, block, measured, job.step.settings), "F32", wide)
        yield at, wide.view(np.float32)


def in_stretches(grains: Sequence[Stretch], merge: Callable[[Sequence[Stretch]], Iterator[Array]]) -> None:
    """Merge the first grain, then the others: in one go where that takes no more memory."""
    first, *others = grains
    for wide in merge([first]):
        if others and isinstance(wide, Pending) and wide.is_by_tiles:
            others = joined(others)
    deque(merge(others), maxlen=0)


def copy_block(piece: Piece) -> Output:
    """Take over a block of whole numbers, which must be the same in every model."""
    first, labels = piece.raw(0), [c.label for c in piece.job.checkpoints]
    for i, label in enumerate(labels):
        if not np.array_equal(first, piece.raw(i)):
            raise MergeError(
                f"{piece.job.step.name!r} holds whole numbers, which are copied and not merged, but they are not the "
                f"same in {labels[0]} and {label}. Merge models that agree on them."
            )
    return output(piece, first.copy())  # the buffers are soon used again


def output(piece: Piece, data: Bytes) -> Output:
    size = DTYPE_BITS[piece.job.step.dtype] // 8
    return Output(piece.job.step.start + piece.start * size, bytes_of(data))
