"""The steps of kernels and measures on a GPU: what parts.py says, in torch. The CPU's tests hold for them as well."""

import numpy as np
import torch
from torch import Tensor

from merging.methods.arrays import Array, Counts, Sums
from merging.methods.chance import RANGE
from merging.methods.loops.sharing import LEAST_SPREAD
from merging.methods.measures import Bins

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
LOW = 2**16


def weighted_sum(tensors: Tensor, weights: Array) -> Tensor:
    total = tensors[0] * float(weights[0])
    for tensor, weight in zip(tensors[1:], weights[1:].tolist(), strict=True):
        total.add_(tensor * weight)
    return total


def add_weighted(base: Tensor, tensors: Tensor, weights: Array) -> Tensor:
    return weighted_sum(tensors, weights).add_(base)


def add_changes(base: Tensor, models: Tensor, weights: Array) -> Tensor:
    total = torch.zeros_like(base)
    for model, weight in zip(models, weights.tolist(), strict=True):
        total.add_((model - base).mul_(weight))
    return total.add_(base)


def keep_between(tensors: Tensor, low: Array, high: Array) -> Tensor:
    magnitude = tensors.abs()
    kept = (magnitude >= column(low, tensors)).logical_and_(magnitude <= column(high, tensors))
    return torch.where(kept, tensors, 0)


def keep_by_chance(
    tensors: Tensor, keys: "np.ndarray[tuple[int], np.dtype[np.uint64]]", below: Sums, start: int
) -> Tensor:
    kept = torch.empty_like(tensors)
    for i, (key, limit) in enumerate(zip(keys.tolist(), below.tolist(), strict=True)):
        if limit == RANGE:
            kept[i] = tensors[i]
        else:
            kept[i] = torch.where(draw(key, start, tensors[i]) < int(limit), tensors[i], 0)
    return kept


def keep_by_rank(
    tensors: Tensor, row: int, density: Sums, epsilon: Sums, keys: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
    start: int,
) -> Tensor:  # fmt: skip
    kept = torch.empty_like(tensors)
    for out, x, p, by, key in zip(kept, tensors, density.tolist(), epsilon.tolist(), keys.tolist(), strict=True):
        rows = x.abs().view(-1, row)
        ascending = rows.sort().values
        ranks = torch.searchsorted(ascending, rows) + torch.searchsorted(ascending, rows, right=True) - 1
        below = (p - by + 2 * by * (ranks.double() / 2) / max(1, row - 1)).mul_(RANGE).round_().view(-1)
        out.copy_(torch.where(draw(key, start, x) < below, x, 0))
    return kept


def draw(key: int, start: int, like: Tensor) -> Tensor:
    """Random int32 numbers below 2^31, one for each element."""
    count = torch.arange(1, len(like) // 4 + 3, dtype=torch.int64, device=like.device)
    words = count.mul_(signed(GOLDEN)).add_(signed(key + start // 4 * GOLDEN))
    halves = mix(words).view(torch.int16)[start % 4 :][: len(like) + 1].int()
    return (halves[:-1] & 0xFFFF).bitwise_or_((halves[1:] & 0x7FFF) << 16)


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


def add_agreed(
    base: Tensor, changes: Tensor, factors: Array, weights: Array, divide: bool, least: np.float32, by: np.float32
) -> Tensor:
    total, voters = sum_of_agreeing(changes, factors, weights, elect(changes, factors))
    if divide:
        total.div_(torch.where(voters.abs() > float(least), voters, 1))
    return total.mul_(float(by)).add_(base)


def average_agreed(base: Tensor, changes: Tensor, weights: Array, least: np.float32) -> Tensor:
    alike = np.ones(len(changes), np.float32)
    total, voters = sum_of_agreeing(changes, weights, weights, elect(changes, alike))
    return total.div_(voters.clamp_min_(float(least))).add_(base)


def elect(changes: Tensor, votes: Array) -> Tensor:
    return torch.where(weighted_sum(changes, votes) >= 0, 1.0, -1.0)


def sum_of_agreeing(changes: Tensor, factors: Array, weights: Array, sign: Tensor) -> tuple[Tensor, Tensor]:
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


def spread(base: Tensor, models: Tensor) -> Tensor:
    changes = models.double() - base.double()
    mean = sum_in_order(changes) / len(changes)
    squares = sum_in_order((changes - mean).square_())
    found = (squares / len(changes)).sqrt_().float().clamp_min_(LEAST_SPREAD)
    return (found * (models != models[0]).any(0)).unsqueeze(0)


def sum_in_order(tensors: Tensor) -> Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total


def add_own_and_shared(base: Tensor, deltas: Tensor, epsilon: np.float32, factors: Array) -> Tensor:
    changed = deltas.abs() > float(epsilon)
    count, total = changed.sum(0), torch.zeros_like(base)
    for delta, mine, factor in zip(deltas, changed, factors.tolist(), strict=True):
        total.add_(torch.where(mine, torch.where(count == 1, delta * factor, delta), 0))
    return total.div_(count.clamp_min_(1)).add_(base)


def add_consensus(base: Tensor, models: Tensor, cuts: Sums, least: int, by: float) -> Tensor:
    changes = models.double() - base.double()
    total = sum_in_order(changes)
    matters = sum((d.abs() > cut * (total - d).abs()).int() for d, cut in zip(changes, cuts.tolist(), strict=True))
    return (base.double() + torch.where(matters >= least, total, 0) * by).float()


def standing_scores(deltas: Tensor, low: Sums, high: Sums) -> Tensor:
    wide, scores = deltas.double(), torch.empty_like(deltas)
    total = sum_in_order(wide)
    for change, score, lowest, highest in zip(wide, scores, low.tolist(), high.tolist(), strict=True):
        over = 1 / (highest - lowest) if highest > lowest else 0.0
        standing = change.abs().clamp_(lowest, highest).sub_(lowest).mul_(over)
        score.copy_((len(wide) * standing * standing).exp_() * (change * total).tanh_())
    return scores


def mean_by_standing(
    base: Tensor, deltas: Tensor, scores: Tensor, low: Sums, high: Sums, cuts: Sums, largest: Sums, by: float
) -> Tensor:
    change, total = torch.zeros_like(base, dtype=torch.float64), torch.zeros_like(base, dtype=torch.float64)
    for delta, score, *numbers in zip(deltas.double(), scores.double(), low, high, cuts, largest, strict=True):
        lowest, highest, cut, most = map(float, numbers)
        rising = (score - cut).clamp_min(0).mul_(1 / (most - cut) if most > cut else 0.0)
        weight = rising if most > cut else (score >= cut).double()
        change.add_(delta.abs().clamp_(lowest, highest).mul_(delta.sign()).mul_(weight))
        total.add_(weight)
    return (base.double() + change / (total + (total == 0)) * by).float()


def count_high_halves(scores: Tensor, counts: Counts) -> None:
    bins = counts.shape[1]
    for row, count in zip(scores.view(torch.int32), counts, strict=True):
        places = (row >> 16 & (bins - 1)) * 2 + (row & (LOW - 1) != 0)
        count += torch.bincount(places, minlength=2 * bins).view(bins, 2).cpu().numpy()


def count_low_halves(scores: Tensor, bins: Bins, mask: int, counts: Counts) -> None:
    for row, highs, found in zip(scores.view(torch.int32), bins.tolist(), counts, strict=True):
        for high, count in zip(highs, found, strict=True):
            inside = row[row >> 16 & mask == high]
            count += torch.bincount(inside & (LOW - 1), minlength=LOW).cpu().numpy()


def absolute_sums(tensors: Tensor) -> Sums:
    found: Sums = tensors.double().abs_().sum(1).cpu().numpy()
    return found


def square_sums(tensors: Tensor) -> Sums:
    found: Sums = tensors.double().square_().sum(1).cpu().numpy()
    return found


def count_own_and_shared(deltas: Tensor, epsilon: np.float32) -> Counts:
    changed = deltas.abs() > float(epsilon)
    own = changed & (changed.sum(0) == 1)
    found: Counts = torch.stack([own.sum(1), (changed & ~own).sum(1)], 1).cpu().numpy()
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


def importance(base: Tensor, model: Tensor, row: int) -> Tensor:
    start, end = base.double().view(-1, row), model.double().view(-1, row)
    p, q = (x.softmax(1).add_(1e-8) for x in (end, start))
    divergence = (p * (p / q).log_() - (p - q)).sum(1, keepdim=True).clamp_min_(0)
    return ((end - start).abs_() * divergence).float().view(-1)


def take_from(base: Tensor, model: Tensor, scores: Tensor, cut: float) -> Tensor:
    return torch.where(scores.double() >= cut, model, base)
