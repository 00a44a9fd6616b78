"""The steps that merge methods are made of: pure functions over one block.

None of them makes a bool tensor. torch compares and selects through bool at a tenth of the speed of arithmetic, and
these run for every element of every model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from merging.methods.chance import Chance


def weighted_sum(tensors: Tensor, weights: Sequence[float]) -> Tensor:
    """The sum of w_i * x_i over the stack, in order; each product and each sum is rounded, on every device alike."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor * weight)
    return total


def weigh(tensors: Tensor, weights: Sequence[float]) -> Tensor:
    """Multiply the i-th of the stack by the i-th weight."""
    return tensors * torch.tensor(weights, dtype=torch.float32, device=tensors.device)[:, None]


def keep_from(x: Tensor, cut: float) -> Tensor:
    """Keep the entries of magnitude `cut` or more, zero the others."""
    if cut == 0:
        return x
    below = torch.nextafter(torch.tensor(cut, dtype=torch.float32), torch.tensor(0.0)).item()
    return torch.nn.functional.hardshrink(x, below)  # keeps what is greater than its argument


def keep_by_chance(deltas: Tensor, density: Sequence[float], chance: Chance) -> Tensor:
    """Keep each entry of the i-th delta with probability density_i, zero the others."""
    kept = torch.empty_like(deltas)
    for i, delta in enumerate(deltas):
        mask = chance.keep(i, density[i], delta.numel())
        torch.bitwise_and(delta.view(torch.int32), mask, out=kept[i].view(torch.int32))
    return kept


def elect(weighted: Tensor) -> Tensor:
    """The sign that wins the vote at each element: 1.0 where the sum is zero or more, else -1.0."""
    total = weighted[0].clone()
    for delta in weighted[1:]:
        total.add_(delta)
    return torch.ge(total, 0, out=total).mul_(2).sub_(1)


def sum_of_agreeing(weighted: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The sum of the entries that have the elected sign, and the sum of the weights of those that do.

    An entry that is zero has no sign, and does not vote or count.
    """
    sign = elect(weighted)
    total, voters = torch.zeros_like(sign), torch.zeros_like(sign)
    for delta, weight in zip(weighted, weights, strict=True):
        agreeing = (delta * sign).clamp_min_(0)
        total.add_(agreeing)
        voters.add_(torch.gt(agreeing, 0, out=agreeing), alpha=weight)
    return total.mul_(sign), voters


def zero_to_one(x: Tensor) -> Tensor:
    """A divisor in which zeros have become ones."""
    return torch.eq(x, 0, out=torch.empty_like(x)).add_(x)
