"""The steps of kernels and measures on a GPU: what parts.py says, in torch. The CPU's tests hold for them as well."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from merging.methods.arrays import Array, Counts, Sums
from merging.methods.chance import RANGE

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
MAGNITUDE = 0x7FFFFFFF
HIGH, LOW = 2**15, 2**16


def weighted_sum(tensors: Tensor, weights: Array) -> Tensor:
    total = tensors[0] * float(weights[0])
    for tensor, weight in zip(tensors[1:], weights[1:].tolist(), strict=True):
        total.add_(tensor * weight)
    return total


def add_changes(base: Tensor, models: Tensor, weights: Array) -> Tensor:
    total = torch.zeros_like(base)
    for model, weight in zip(models, weights.tolist(), strict=True):
        total.add_((model - base).mul_(weight))
    return total.add_(base)


def keep_from(tensors: Tensor, cuts: Array) -> Tensor:
    return torch.where(tensors.abs() >= column(cuts, tensors), tensors, 0)


def keep_by_chance(
    tensors: Tensor, keys: "np.ndarray[tuple[int], np.dtype[np.uint64]]", below: Sums, start: int
) -> Tensor:
    kept = torch.empty_like(tensors)
    for i, (key, limit) in enumerate(zip(keys.tolist(), below.tolist(), strict=True)):
        if limit == RANGE:
            kept[i] = tensors[i]
        else:
            kept[i] = torch.where(draw(key, start, tensors[i]) & MAGNITUDE < int(limit), tensors[i], 0)
    return kept


def draw(key: int, start: int, like: Tensor) -> Tensor:
    """Random int32 numbers, one for each element."""
    words = counters(len(like) // 2 + 1, str(like.device)) + signed(key + start // 2 * GOLDEN)
    return mix(words).view(torch.int32)[start % 2 :][: len(like)]


@lru_cache(maxsize=2)
def counters(count: int, device: str) -> Tensor:
    """GOLDEN times 1, 2, 3 and so on."""
    return torch.arange(1, count + 1, dtype=torch.int64, device=device).mul_(signed(GOLDEN))


def mix(words: Tensor) -> Tensor:
    """SplitMix64's output function, in place, on int64 (whose products wrap like unsigned ones)."""
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        words.bitwise_xor_(shift_right(words, shift)).mul_(signed(factor))
    return words.bitwise_xor_(shift_right(words, 31))


def shift_right(words: Tensor, by: int) -> Tensor:
    """Shift as if unsigned: torch's shift repeats the sign."""
    return words.bitwise_right_shift(by).bitwise_and_((1 << (64 - by)) - 1)


def signed(word: int) -> int:
    """The int64 with the same 64 bits."""
    return ((word + 2**63) % 2**64) - 2**63


def sum_of_agreeing(changes: Tensor, factors: Array, weights: Array) -> tuple[Tensor, Tensor]:
    sign = torch.where(weighted_sum(changes, factors) >= 0, 1.0, -1.0)
    total, voters = torch.zeros_like(sign), torch.zeros_like(sign)
    for change, factor, weight in zip(changes, factors.tolist(), weights.tolist(), strict=True):
        agreeing = (change * factor).mul_(sign).clamp_min_(0)
        total.add_(agreeing)
        voters.add_(agreeing > 0, alpha=weight)
    return total.mul_(sign), voters


def blend(x: Tensor, y: Tensor, of_x: np.float32, of_y: np.float32) -> Tensor:
    return (x * float(of_x)).add_(y * float(of_y))


def near_swap(base: Tensor, model: Tensor, t: np.float32) -> Tensor:
    share = torch.full_like(base, float(t)).div_((model - base).abs_().clamp_min_(1e-6)).clamp_max_(1)
    return (model * share).add_(base * (1 - share))


def mix_rows(tensors: Tensor, weights: Array, row: int) -> Tensor:
    shares = torch.from_numpy(weights).to(tensors.device).repeat_interleave(row, 1)
    total = tensors[0] * shares[0]
    for tensor, share in zip(tensors[1:], shares[1:], strict=True):
        total.add_(tensor * share)
    return total


def mix_columns(tensors: Tensor, weights: Array) -> Tensor:
    shares = torch.from_numpy(weights).to(tensors.device)
    total = torch.zeros_like(tensors[0]).view(-1, max(1, shares.shape[1]))
    for tensor, share in zip(tensors, shares, strict=True):
        total.add_(tensor.view(total.shape) * share)
    return total.view(-1)


def count_high_halves(tensors: Tensor, counts: Counts) -> None:
    for row, count in zip(tensors.view(torch.int32), counts, strict=True):
        count += torch.bincount(row >> 16 & (HIGH - 1), minlength=HIGH).cpu().numpy()


def count_low_halves(tensors: Tensor, bins: Counts, counts: Counts) -> None:
    for row, high, count in zip(tensors.view(torch.int32), bins.tolist(), counts, strict=True):
        inside = row[row >> 16 & (HIGH - 1) == high]
        count += torch.bincount(inside & (LOW - 1), minlength=LOW).cpu().numpy()


def absolute_sums(tensors: Tensor) -> Sums:
    found: Sums = tensors.double().abs_().sum(1).cpu().numpy()
    return found


def gram(tensors: Tensor) -> Sums:
    wide = tensors.double()
    found: Sums = (wide @ wide.T).cpu().numpy()
    return found


def row_grams(tensors: Tensor, row: int) -> Sums:
    wide = tensors.double().view(len(tensors), -1, row)
    found: Sums = torch.einsum("jrc,krc->jkr", wide, wide).cpu().numpy()
    return found


def column_grams(tensors: Tensor, row: int) -> Sums:
    wide = tensors.double().view(len(tensors), -1, row)
    found: Sums = torch.einsum("jrc,krc->jkc", wide, wide).cpu().numpy()
    return found


def column(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device)[:, None]
