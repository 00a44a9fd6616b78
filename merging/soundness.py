"""Numbers that are not finite: refused on the way in, and on the way out where they would be new."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from merging.budget import GRAIN
from merging.errors import MergeError
from merging.plan import Step

if TYPE_CHECKING:
    from merging.blocks import Piece

OVERFLOWS_AT = {"BF16": float.fromhex("0x1.ffp127"), "F16": 65520.0, "F32": math.inf}  # rounds to infinity from here on


def check_inputs(piece: "Piece") -> None:
    """NaN and infinity are refused: they spread through a merge, and no model means them."""
    for i in range(len(piece.job.step.inputs)):
        # A sum is finite only if everything in it is. That it may overflow as well costs a second look, no more.
        if not math.isfinite(piece.values(i).sum(dtype=torch.float32).item()):
            refuse_non_finite(piece, i)


def refuse_non_finite(piece: "Piece", i: int) -> None:
    """Look through the whole of one input of the tensor; raise with the first such number and their count."""
    job = piece.job
    info, checkpoint = job.step.inputs[i], job.checkpoints[i]
    first, count = -1, 0
    for at in range(0, info.numel, GRAIN):
        part = torch.empty(min(GRAIN, info.numel - at), dtype=piece.values(i).dtype)
        checkpoint.read(info, at * job.sizes[i], memoryview(part.view(torch.uint8).numpy()))  # type: ignore[arg-type]
        if len(found := torch.nonzero(~torch.isfinite(part))):
            first = at + int(found[0]) if first < 0 else first
            count += len(found)
    if count:
        raise MergeError(
            f"{job.step.name!r} of {checkpoint.label} has {count:,} numbers that are NaN or infinite, the first at "
            f"index {first:,}. A merge with it would be broken: choose another model or revision."
        )


def check_output(step: Step, wide: Tensor) -> None:
    """Refuse numbers that the output type cannot hold."""
    if not len(wide):
        return
    limit, (low, high) = OVERFLOWS_AT[step.dtype], torch.aminmax(wide)
    if not (-limit < low and high < limit):
        raise MergeError(
            f"{step.name!r} reaches {max(-low.item(), high.item()):g} when merged, more than {step.dtype} holds. "
            "Write bfloat16 or float32 (out_dtype), or use smaller weights."
        )
