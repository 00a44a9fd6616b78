"""What methods must know of a whole tensor before they can compute a block of it."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from merging.methods.arrays import Array, Counts, Sums
from merging.methods.parts import absolute_sums, forms, gram
from merging.methods.spec import Block, Pass, Settings, Shape

HIGH_BINS, LOW_BINS = 2**15, 2**16  # of the bits of a positive float32, split in two
NOTHING = math.inf  # a cut that nothing reaches


def magnitude_cuts(shape: Shape, settings: Settings) -> Generator[Pass, Counts, tuple[float, ...]]:
    """For each model the magnitude of its k-th largest change, k = int(density * size). Exact; nothing is sorted."""
    numel = math.prod(shape)
    return (yield from kth_magnitudes(numel, [int(density * numel) for density in settings["density"]]))


def kth_magnitudes(numel: int, ranks: Sequence[int]) -> Generator[Pass, Counts, tuple[float, ...]]:
    """For each model the magnitude of its k-th largest change; infinity for k = 0, which keeps nothing.

    The bits of a positive float32 grow with its value: counting the high half of the bits finds the bin in which the
    k-th largest lies, counting the low half inside that bin finds the value.
    """
    if all(k in (0, numel) for k in ranks):
        return tuple(0.0 if k else NOTHING for k in ranks)
    high = yield count_high_halves
    bins = [find_bin(counts, k) for counts, k in zip(high, ranks, strict=True)]
    inside = np.array([b for b, _ in bins])
    low = yield lambda grains: count_low_halves(grains, inside)
    found = zip(ranks, bins, low, strict=True)
    return tuple(
        0.0 if k == numel else cut(b, find_bin(counts, rest)[0]) if k else NOTHING for k, (b, rest), counts in found
    )


def count_high_halves(grains: Iterator[Block]) -> Counts:
    """How many changes of each model have which upper 15 bits: int64 [n, 32768]."""
    counts: Counts | None = None
    for block in grains:
        counts = np.zeros((len(block.models), HIGH_BINS), np.int64) if counts is None else counts
        forms(block.models).count_high_halves(block.deltas, counts)
    assert counts is not None, "a block has a grain"
    return counts


def count_low_halves(grains: Iterator[Block], bins: Counts) -> Counts:
    """How many changes of each model, of those in its bin, have which lower 16 bits: int64 [n, 65536]."""
    counts = np.zeros((len(bins), LOW_BINS), np.int64)
    for block in grains:
        forms(block.models).count_low_halves(block.deltas, bins, counts)
    return counts


def find_bin(counts: Counts, k: int) -> tuple[int, int]:
    """The bin of the k-th largest (k from 1), and which of the largest in that bin it is."""
    from_above = counts[::-1].cumsum()
    at = int(from_above.searchsorted(max(k, 1)))
    above = int(from_above[at - 1]) if at else 0
    return len(counts) - 1 - at, max(k, 1) - above


def cut(high: int, low: int) -> float:
    return float(np.uint32(high << 16 | low).view(np.float32))


def sums_around(grains: Iterator[Block], keep: Callable[[Block], Array]) -> Sums:
    """The sums of magnitudes of all changes and of those that `keep` keeps, by model: float64 [grains, 2, n]."""
    return np.stack([np.stack([absolute_sums(g.deltas), absolute_sums(keep(g))]) for g in grains])


def products(grains: Iterator[Block]) -> Sums:
    """Inner products of the models with each other: float64 [grains, n, n]."""
    return np.stack([gram(g.models) for g in grains])


def products_of_deltas(grains: Iterator[Block]) -> Sums:
    """Inner products of what the models changed: float64 [grains, n, n]."""
    return np.stack([gram(g.deltas) for g in grains])


def products_with_base(grains: Iterator[Block]) -> Sums:
    """Inner products of the base and the models with each other, the base first: float64 [grains, 1 + n, 1 + n]."""
    return np.stack([gram(g.wide) for g in grains])


def products_from_base(grains: Iterator[Block]) -> Sums:
    """The same of what the models changed where there is a base, else of the models: float64 [grains, n, n]."""
    return np.stack([gram(g.deltas if g.has_base else g.models) for g in grains])


def l1_factors(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    """What brings each trimmed change back to its sum of magnitudes; 1 where a sum is below 1e-7, as in mergekit."""
    return tuple(b / a if b >= 1e-7 and a >= 1e-7 else 1.0 for b, a in zip(before, after, strict=True))
