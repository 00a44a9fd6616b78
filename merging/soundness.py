"""Numbers that are not finite: refused on the way in, and on the way out where they would be new."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from merging.budget import GRAIN
from merging.checkpoint import Checkpoint
from merging.device import STORED, Cpu
from merging.errors import MergeError
from merging.header import TensorInfo
from merging.methods.arrays import Array, bytes_of
from merging.plan import Step

OVERFLOWS_AT = {"BF16": float.fromhex("0x1.ffp127"), "F16": 65520.0, "F32": math.inf}  # rounds to infinity from here on

Merged = tuple[int, Array]  # part of a tensor: its first element, and float32 numbers before they are rounded


def refuse_non_finite(step: Step, checkpoints: Sequence[Checkpoint]) -> None:
    """Look through a tensor whose sum is not finite; raise with the model, the first such number and their count.

    NaN and infinity are refused because they spread through a merge, and no model means them.
    """
    for name, info, checkpoint in zip(step.names, step.inputs, checkpoints, strict=True):
        first, count = first_non_finite(info, checkpoint)
        if count:
            raise MergeError(
                f"{name!r} of {checkpoint.label} has {numbers(count)} NaN or infinite, the first at "
                f"index {first:,}. A merge with it would be broken: choose another model or revision."
            )


def numbers(count: int) -> str:
    return "1 number that is" if count == 1 else f"{count:,} numbers that are"


def first_non_finite(info: TensorInfo, checkpoint: Checkpoint) -> tuple[int, int]:
    """The index of the first number that is not finite, and how many there are."""
    first, count = -1, 0
    for at in range(0, info.numel, GRAIN):
        size = np.dtype(STORED[info.dtype]).itemsize
        part = np.empty(min(GRAIN, info.numel - at) * size, np.uint8)
        checkpoint.read(info, at * size, bytes_of(part))
        wide = Cpu().widen(part, [0], min(GRAIN, info.numel - at), [info.dtype])
        if len(found := np.flatnonzero(~np.isfinite(wide[0]))):
            first = at + int(found[0]) if first < 0 else first
            count += len(found)
    return first, count


def check_output(step: Step, largest: float, again: Callable[[], Iterator[Merged]]) -> None:
    """Refuse numbers that the output type cannot hold; `again` merges all of the tensor once more, to count them."""
    limit = OVERFLOWS_AT[step.dtype]
    if largest < limit:
        return
    first, count, most = -1, 0, largest
    for at, wide in again():
        magnitudes = np.abs(wide)
        magnitudes[np.isnan(magnitudes)] = np.inf  # of infinities that cancelled
        if len(found := np.flatnonzero(magnitudes >= limit)):
            first = at + int(found[0]) if first < 0 else first
            count += len(found)
            most = max(most, float(magnitudes.max()))
    told = f"{step.name!r} reaches {most:g} when merged, more than {step.dtype} holds"
    if not count:
        raise MergeError(f"{told}, but not when it is read again: what was read first had changed. Merge again.")
    wider = "Write bfloat16 or float32 (out_dtype), or use" if step.dtype == "F16" else "Use"
    raise MergeError(
        f"{told}: it would have {numbers(count)} infinite, the first at index {first:,}. {wider} smaller weights."
    )
