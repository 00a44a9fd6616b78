"""What is added up of a tensor, and adds up over tensors: all numbers of a diagnosis follow from it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from merging.methods import measures
from merging.methods.arrays import Counts

Numbers: TypeAlias = NDArray[np.float64]
SMALLEST = 2.0**-149  # above zero, of a float32

# Of which largest entries the energy is told; the curve is drawn through these.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class Sums:
    """Of n models, all in entries of the whole tensor, also where a sample was read. NaN where it is not known."""

    numel: float
    looked: float  # entries that were read
    products: Numbers  # [1 + n, 1 + n], of the reference and what each model changed of it
    unchanged: Numbers  # [n] entries
    energy: Numbers  # [n, shares] squared norm of the largest changes, tensor by tensor
    both: Numbers  # [n, n], below the diagonal: entries that both changed
    against: Numbers  # of these, those changed against each other
    smaller: Numbers  # sums of the smaller of both magnitudes
    smaller_against: Numbers
    kept: Numbers  # [n] entries that trimming keeps
    kept_both: Numbers  # [n, n]
    kept_against: Numbers
    kept_null: Numbers  # [n, n] what kept_both is expected to be of unrelated models
    merged: float  # squared distance of the planned merge from the reference
    merged_null: float  # the same, of unrelated changes of the same magnitudes


def added(parts: Iterable[Sums]) -> Sums:
    """The sums of several tensors; parts of the same models."""
    first, *others = parts
    totals = {f.name: getattr(first, f.name) for f in fields(Sums)}
    for part in others:
        totals = {name: total + getattr(part, name) for name, total in totals.items()}
    return replace(first, **totals)


@dataclass(frozen=True, eq=False)
class Curve:
    """The magnitudes of one model's changes of a tensor, from the counts of the upper halves of their bits.

    Exact for numbers with a lower half of zero, which differences of bfloat16 numbers nearly all are; others count as
    the middle of their bin, which is at most 2^-8 of their magnitude away.
    """

    places: Counts  # that are used, the largest magnitude first; see loops.count_wide
    numbers: Counts  # how many changes there are at each

    @staticmethod
    def of(counts: Counts) -> "Curve":
        used = np.flatnonzero(counts)[::-1]
        return Curve(used, counts[used])

    @property
    def count(self) -> int:
        """How many changes there are in all."""
        return int(self.numbers.sum())

    def cut(self, share: float) -> float:
        """The magnitude that such a share of the changes reaches, without the lower half of its bits; above zero.

        Infinity where there are no changes.
        """
        if not len(self.places):
            return math.inf
        at = int(self.numbers.cumsum().searchsorted(max(1, int(share * self.count))))
        return max(measures.value(int(self.places[at]) >> 1, 0), SMALLEST)

    def energy(self, shares: Iterable[float]) -> Numbers:
        """The squared norm of the largest shares of the entries; a bin that a share cuts counts in part."""
        counts, values = self.numbers.astype(np.float64), middles(self.places)
        entries = np.r_[0.0, counts.cumsum()]
        energies = np.r_[0.0, (counts * values * values).cumsum()]
        found: Numbers = np.interp(np.array(list(shares)) * entries[-1], entries, energies)
        return found


def middles(places: Counts) -> Numbers:
    """The magnitude that stands for a place in the counts."""
    bits = (places >> 1 << 16 | (places & 1) << 15).astype(np.uint32)
    return bits.view(np.float32).astype(np.float64)
