"""One block of a tensor: its inputs read from every model, measured or merged grain by grain, and written."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from merging.budget import ALIGNED, GRAIN
from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import DTYPE_BITS
from merging.methods import Method
from merging.methods.chance import Chance
from merging.methods.spec import Block, Pass, Settings, compute
from merging.plan import Step
from merging.soundness import TORCH_DTYPES, bytes_of, check_output, refuse_non_finite
from merging.writer import ShardFile


@dataclass(frozen=True)
class Job:
    """One tensor to merge, with all that its blocks have in common."""

    step: Step
    checkpoints: Sequence[Checkpoint]
    method: Method
    settings: Settings
    seed: int
    device: str
    file: ShardFile
    stopped: threading.Event  # set when the merge has failed or was cancelled

    @cached_property
    def passes(self) -> int:
        """How often the tensor is gone over before it can be merged."""
        return self.method.passes(self.settings) if self.step.is_merged else 0

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of one element of each input."""
        return [DTYPE_BITS[i.dtype] // 8 for i in self.step.inputs]


@dataclass(frozen=True, slots=True)
class Piece:
    """A block of a tensor, and the buffers that hold its inputs once they are read."""

    job: Job
    start: int  # first element
    count: int
    buffers: Tensor  # uint8
    unchecked: bool = False  # read for the first time: its numbers may not be finite

    def raw(self, i: int) -> Tensor:
        """The bytes of the i-th input. Each begins aligned, whatever the types of those before it."""
        spread = -(-self.count // ALIGNED) * ALIGNED
        begin = spread * sum(self.job.sizes[:i])
        return self.buffers[begin : begin + self.count * self.job.sizes[i]]

    def values(self, i: int) -> Tensor:
        """The i-th input, which must be of floats, in its own type."""
        return self.raw(i).view(TORCH_DTYPES[self.job.step.inputs[i].dtype])

    def read(self) -> None:
        for i, (info, checkpoint) in enumerate(zip(self.job.step.inputs, self.job.checkpoints, strict=True)):
            if self.count and not self.job.stopped.is_set():
                checkpoint.read(info, self.start * self.job.sizes[i], bytes_of(self.raw(i)))

    def grains(self) -> list[tuple[int, int]]:
        """Where the grains of this block begin and end, from its first element."""
        return [(at, min(at + GRAIN, self.count)) for at in range(0, self.count, GRAIN)] or [(0, 0)]

    def widened(self) -> Iterator[Block]:
        """Every grain of the block, as float32 on the device."""
        return (self.widen(begin, end) for begin, end in self.grains())

    def widen(self, begin: int, end: int) -> Block:
        job = self.job
        wide = torch.empty((len(job.step.inputs), end - begin), dtype=torch.float32, device=job.device)
        for i, row in enumerate(wide):
            row.copy_(self.values(i)[begin:end])
        # A sum is finite only if everything in it is. That it may overflow as well costs a second look, no more.
        if self.unchecked and not math.isfinite(wide.sum().item()):
            refuse_non_finite(job.step, job.checkpoints)
        chance = Chance(job.seed, job.step.name, self.start + begin, job.device)
        return Block(wide[0], wide[1:], chance) if job.method.needs_base else Block(None, wide, chance)


Stage = Callable[[Piece], "Tensor | None"]  # something to be done with every block of a tensor


def measure_block(piece: Piece, look: Pass) -> Tensor:
    """One pass of a measure over a block."""
    return look(piece.widened()).cpu()


def merge_block(piece: Piece, measured: Any) -> None:
    """Compute a block and write it to its place, rounded once."""
    job = piece.job
    merged = torch.empty(piece.count, dtype=TORCH_DTYPES[job.step.dtype])
    for (begin, end), block in zip(piece.grains(), piece.widened(), strict=True):
        wide = compute(job.method, block, measured, job.settings)
        check_output(job.step, wide)
        merged[begin:end].copy_(wide)
    write_block(piece, merged)


def copy_block(piece: Piece) -> None:
    """Write a block of whole numbers, which must be the same in every model."""
    first, labels = piece.raw(0), [c.label for c in piece.job.checkpoints]
    for i, label in enumerate(labels):
        if not torch.equal(first, piece.raw(i)):
            raise MergeError(
                f"{piece.job.step.name!r} holds whole numbers, which are copied and not merged, but they are not the "
                f"same in {labels[0]} and {label}. Merge models that agree on them."
            )
    write_block(piece, first)


def write_block(piece: Piece, data: Tensor) -> None:
    job = piece.job
    if not job.stopped.is_set():
        job.file.write(bytes_of(data), job.step.start + piece.start * (DTYPE_BITS[job.step.dtype] // 8))
