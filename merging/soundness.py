"""Numbers that are not finite: refused on the way in, and on the way out where they would be new."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from merging.budget import GRAIN
from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import TensorInfo
from merging.plan import Step

TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
OVERFLOWS_AT = {"BF16": float.fromhex("0x1.ffp127"), "F16": 65520.0, "F32": math.inf}  # rounds to infinity from here on


def bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.view(torch.uint8).numpy())  # type: ignore[arg-type] # numpy's arrays are buffers


def refuse_non_finite(step: Step, checkpoints: Sequence[Checkpoint]) -> None:
    """Look through a tensor whose sum is not finite; raise with the model, the first such number and their count.

    NaN and infinity are refused because they spread through a merge, and no model means them.
    """
    for info, checkpoint in zip(step.inputs, checkpoints, strict=True):
        first, count = first_non_finite(info, checkpoint)
        if count:
            raise MergeError(
                f"{step.name!r} of {checkpoint.label} has {count:,} numbers that are NaN or infinite, the first at "
                f"index {first:,}. A merge with it would be broken: choose another model or revision."
            )


def first_non_finite(info: TensorInfo, checkpoint: Checkpoint) -> tuple[int, int]:
    """The index of the first number that is not finite, and how many there are."""
    first, count = -1, 0
    for at in range(0, info.numel, GRAIN):
        part = torch.empty(min(GRAIN, info.numel - at), dtype=TORCH_DTYPES[info.dtype])
        checkpoint.read(info, at * part.element_size(), bytes_of(part))
        if len(found := torch.nonzero(~torch.isfinite(part))):
            first = at + int(found[0]) if first < 0 else first
            count += len(found)
    return first, count


def check_output(step: Step, wide: Tensor) -> None:
    """Refuse numbers that the output type cannot hold."""
    if not len(wide):
        return
    limit, (low, high) = OVERFLOWS_AT[step.dtype], torch.aminmax(wide)
    if not (-limit < low and high < limit):
        wider = "Write bfloat16 or float32 (out_dtype), or use" if step.dtype == "F16" else "Use"
        raise MergeError(
            f"{step.name!r} reaches {max(-low.item(), high.item()):g} when merged, more than {step.dtype} holds. "
            f"{wider} smaller weights."
        )
