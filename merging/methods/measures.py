"""What methods must know of a whole tensor before they can compute a block of it."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from merging.methods.arrays import Array, Counts, Sums
from merging.methods.parts import ALL, NONE, NOTHING, Band, forms, grams, sums_around
from merging.methods.spec import Block, Pass, Settings, Shape

HIGH_BINS, LOW_BINS = 2**15, 2**16  # of the bits of a positive float32, split in two

Scores = Callable[[Block], Array]  # float32 [rows, m]: what is ranked
Bins: TypeAlias = NDArray[np.uint32]  # upper halves
Ranks = Sequence[tuple[int, ...]]  # of each row, from 1 for the largest


def magnitude_cuts(shape: Shape, settings: Settings) -> Generator[Pass, Counts, tuple[float, ...]]:
    """For each model the magnitude of its k-th largest change, k = int(density * size) and at least 1.

    Infinity where nothing is to be kept: at density 0, and of an empty tensor.
    """
    numel = math.prod(shape)
    ranks = [min(numel, max(1, int(density * numel))) if density > 0 else 0 for density in settings["density"]]
    if all(k in (0, numel) for k in ranks):
        return tuple(0.0 if k else NOTHING for k in ranks)
    found = yield from kth_largest([(k or max(ranks),) for k in ranks], changes)
    return tuple(0.0 if k == numel else cut if k else NOTHING for k, (cut,) in zip(ranks, found, strict=True))


def middle_bands(shape: Shape, settings: Settings) -> Generator[Pass, Counts, tuple[Band, ...]]:
    """For each model the magnitudes of its int(density * size) changes below the int(gamma * size) largest.

    Where there are not as many below these, its smallest.
    """
    numel = math.prod(shape)
    ranks: list[tuple[int, int] | None] = []
    for density, gamma in zip(settings["density"], settings["gamma"], strict=True):
        keep = int(density * numel)
        last = min(numel, int(gamma * numel) + keep)
        ranks.append((last, last - keep + 1) if keep > 0 and density < 1 else None)
    if not any(ranks):
        return tuple(ALL if density >= 1 else NONE for density in settings["density"])
    found = yield from kth_largest([r or (1, 1) for r in ranks], changes)
    return tuple(
        (low, high) if r else ALL if density >= 1 else NONE
        for r, (low, high), density in zip(ranks, found, settings["density"], strict=True)
    )


def changes(block: Block) -> Array:
    return block.deltas


def kth_largest(ranks: Ranks, of: Scores) -> Generator[Pass, Counts, list[tuple[float, ...]]]:
    """Of each row of scores the k-th largest magnitude, for each of its ranks k (from 1). Exact; nothing is sorted.

    The bits of a positive float32 grow with its value: counting the upper half of the bits finds the bin in which the
    k-th largest lies, counting the lower half inside that bin finds the value. Where bfloat16 numbers are close, their
    differences have lower halves of zero, nearly all; so those are counted apart, and mostly one pass is enough.
    """
    high = yield partial(count_high_halves, of=of)
    return (yield from kth_inside(high, ranks, of))


def kth_inside(high: Counts, ranks: Ranks, of: Scores) -> Generator[Pass, Counts, list[tuple[float, ...]]]:
    """The rest of `kth_largest`, where the upper halves have been counted."""
    found = [[find_place(counts, k) for k in row] for counts, row in zip(high, ranks, strict=True)]
    if all(place.is_value for row in found for place in row):
        return [tuple(value(place.high, 0) for place in row) for row in found]
    bins = np.array([[place.high for place in row] for row in found], np.uint32)
    low = yield partial(count_low_halves, of=of, bins=bins, mask=high.shape[1] - 1)
    return [
        tuple(value(place.high, find_low(counts, place)) for place, counts in zip(row, inside, strict=True))
        for row, inside in zip(found, low, strict=True)
    ]


def count_high_halves(grains: Iterator[Block], of: Scores, bins: int = HIGH_BINS) -> Counts:
    """How many scores of each row have which upper half, with a lower half of zero and another: int64 [rows, bins, 2].

    With 65536 bins signs count as well.
    """
    counts: Counts | None = None
    for block in grains:
        scores = of(block)
        counts = np.zeros((len(scores), bins, 2), np.int64) if counts is None else counts
        forms(scores).count_high_halves(scores, counts)
    assert counts is not None, "a block has a grain"
    return counts


def count_low_halves(grains: Iterator[Block], of: Scores, bins: Bins, mask: int) -> Counts:
    """How many scores of each row, of those in each of its bins, have which lower half: int64 [rows, ranks, 65536]."""
    counts = np.zeros((*bins.shape, LOW_BINS), np.int64)
    for block in grains:
        scores = of(block)
        forms(scores).count_low_halves(scores, bins, mask, counts)
    return counts


@dataclass(frozen=True, slots=True)
class Place:
    """Where the k-th largest lies."""

    high: int  # the upper half of its bits
    rank: int  # which of the largest with that upper half it is
    is_value: bool  # its lower half is zero


def find_place(counts: Counts, k: int) -> Place:
    """From the counts of one row: [bins, 2]."""
    totals = counts[:, 0] + counts[:, 1]  # ten times as fast as a sum along so short an axis
    if len(counts) == HIGH_BINS:
        high, rank = find(totals, k)
        return Place(high, rank, bool(rank > counts[high, 1]))  # the others are larger
    ascending = np.r_[2 * HIGH_BINS - 1 : HIGH_BINS - 1 : -1, 0:HIGH_BINS]  # negative ones are in reverse
    at, rank = find(totals[ascending], k)
    high = int(ascending[at])
    return Place(high, rank, bool(rank > counts[high, 1] if high < HIGH_BINS else rank <= counts[high, 0]))


def find_low(counts: Counts, place: Place) -> int:
    if place.high < HIGH_BINS:
        return find(counts, place.rank)[0]
    return LOW_BINS - 1 - find(counts[::-1], place.rank)[0]


def find(counts: Counts, k: int) -> tuple[int, int]:
    """The place of the k-th largest (k from 1), and which of the largest in that place it is."""
    from_above = counts[::-1].cumsum()
    at = int(from_above.searchsorted(k))
    above = int(from_above[at - 1]) if at else 0
    return len(counts) - 1 - at, k - above


def value(high: int, low: int) -> float:
    return float(np.uint32(high << 16 | low).view(np.float32))


def sums_of_changes(grains: Iterator[Block], keep: Callable[[Block], Array]) -> Sums:
    """The sums of magnitudes of all changes and of those that `keep` keeps, by model: float64 [grains, 2, n]."""
    return np.concatenate([sums_around(g.deltas, keep(g)) for g in grains])


def products(grains: Iterator[Block]) -> Sums:
    """Inner products of the models with each other: float64 [grains, n, n]."""
    return np.concatenate([grams(g.models) for g in grains])


def products_of_deltas(grains: Iterator[Block]) -> Sums:
    """Inner products of what the models changed: float64 [grains, n, n]."""
    return np.concatenate([grams(g.deltas) for g in grains])


def products_with_base(grains: Iterator[Block]) -> Sums:
    """Inner products of the base and the models with each other, the base first: float64 [grains, 1 + n, 1 + n]."""
    return np.concatenate([grams(g.wide) for g in grains])


def products_from_base(grains: Iterator[Block]) -> Sums:
    """The same of what the models changed where there is a base, else of the models: float64 [grains, n, n]."""
    return np.concatenate([grams(g.deltas if g.has_base else g.models) for g in grains])


def l1_factors(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    """What brings each trimmed change back to its sum of magnitudes; 1 where a sum is below 1e-7, as in mergekit."""
    return tuple(b / a if b >= 1e-7 and a >= 1e-7 else 1.0 for b, a in zip(before, after, strict=True))
