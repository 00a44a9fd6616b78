"""How sure a score is: intervals from resampled examples, and the difference of two models on the same ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from evaluation.marks import (
    BINS,
    CHOSEN,
    CONFIDENCES,
    COUNT,
    EXACT,
    NLL,
    RIGHT,
    TOKENS,
    Floats,
    Marks,
    columns,
)  # fmt: skip
from merging.errors import MergeError

RESAMPLES = 2000
AT_ONCE = 4_000_000  # numbers of the resampling in memory
OUTSIDE = 0.05  # of the resamples lie outside of an interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A score, and between what it lies in 95 % of the resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measure:
    """A score as a function of the summed columns, [..., columns] -> [...]."""

    name: str
    title: str
    of: Callable[[Floats], Floats]
    more_is_better: bool
    needs_options: bool = False
    is_share: bool = False


def mean_nll(sums: Floats) -> Floats:
    return np.asarray(sums[..., NLL] / sums[..., TOKENS])


def perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(np.minimum(mean_nll(sums), 700)))  # which is the largest that a number can hold


def share_exact(sums: Floats) -> Floats:
    return np.asarray(sums[..., EXACT] / sums[..., COUNT])


def share_right(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # a resample may have no example with options
        return np.asarray(sums[..., RIGHT] / sums[..., CHOSEN])


def calibration_error(sums: Floats) -> Floats:
    """The mean gap between confidence and accuracy, each bin by how much is in it."""
    counts, confidences, rights = (sums[..., CONFIDENCES + BINS * i :][..., :BINS] for i in range(3))
    return np.asarray(np.abs(confidences - rights).sum(-1) / counts.sum(-1))


MEASURES: Final[Mapping[str, Measure]] = {
    one.name: one
    for one in (
        Measure("nll", "NLL", mean_nll, more_is_better=False),
        Measure("perplexity", "Perplexity", perplexity, more_is_better=False),
        Measure("exact", "Exact match", share_exact, more_is_better=True, is_share=True),
        Measure("accuracy", "Accuracy", share_right, more_is_better=True, needs_options=True, is_share=True),
        Measure("ece", "ECE", calibration_error, more_is_better=False),
    )
}


def resampled(rows: Floats, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """The sums over examples drawn anew, with replacement, again and again: [resamples, columns].

    The same seed draws the same examples, of whichever models the rows are: differences are paired.
    """
    count, chance = len(rows), np.random.default_rng(seed)
    step = max(1, AT_ONCE // count)
    edges = [*range(0, resamples, step), resamples]
    parts = [chance.multinomial(count, np.full(count, 1 / count), last - first) for first, last in pairwise(edges)]
    return np.concatenate([part @ rows for part in parts])


def interval(marks: Marks, measure: Measure, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The percentile interval of one score."""
    return intervals(marks, [measure], seed, resamples)[measure.name]


def intervals(
    marks: Marks, measures: Sequence[Measure], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """The same of several, for which the examples are drawn once."""
    rows = columns(marks)
    drawn = resampled(rows, seed, resamples)
    return {measure.name: interval_of(measure, rows, drawn) for measure in measures}


def interval_of(measure: Measure, rows: Floats, drawn: Floats) -> Interval:
    """Where all examples came out alike, resampling shows nothing: the bound is then exact."""
    value = float(measure.of(rows.sum(0)))
    low, high = bounds(measure.of(drawn))
    if measure.is_share and value in (0.0, 1.0):
        count = rows[:, CHOSEN].sum() if measure.needs_options else len(rows)
        reach = 1 - (OUTSIDE / 2) ** (1 / count)  # Clopper and Pearson's
        return Interval(value, value * (1 - reach), 1.0 if value else reach)
    return Interval(value, min(low, value), max(high, value))


def bounds(values: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(values, (OUTSIDE / 2, 1 - OUTSIDE / 2))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more a model scores than another on the same examples, and in which share of the resamples it does."""

    change: Interval
    share_above: float

    @property
    def is_clear(self) -> bool:
        return self.change.low > 0 or self.change.high < 0


def compare(first: Marks, second: Marks, measure: Measure, seed: int = 0) -> Difference:
    """The first less the second. Raises MergeError where they are not of the same examples."""
    if [one.task for one in first] != [one.task for one in second]:
        raise MergeError("The two models were scored on different examples. Score both on the same set.")
    mine, other = columns(first), columns(second)
    change = measure.of(resampled(mine, seed)) - measure.of(resampled(other, seed))
    value = float(measure.of(mine.sum(0)) - measure.of(other.sum(0)))
    return Difference(Interval(value, *bounds(change)), float(np.mean(change > 0)))
