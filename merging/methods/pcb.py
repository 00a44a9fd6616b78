"""PCB-Merging: changes compete within their model and are balanced between the models."""

import math
from collections.abc import Generator
from functools import partial
from typing import Annotated

from merging.methods.arrays import Array, Counts
from merging.methods.measures import HIGH_BINS, Scores, changes, count_high_halves, kth_inside
from merging.methods.parts import NONE, Band, mean_by_standing, standing_scores
from merging.methods.spec import Fraction, Pass, Settings, Shape, method
from merging.methods.task_vectors import Lambda

TAIL = 10_000  # of so many changes the smallest and the largest is clamped

Bands = tuple[Band, ...]


def measure_scores(shape: Shape, settings: Settings) -> Generator[Pass, Counts, tuple[Bands, Bands]]:
    """For each model the magnitudes that are not clamped, and the scores between which its weights grow from 0 to 1."""
    numel, keep = math.prod(shape), int(settings["density"] * math.prod(shape))
    if keep == 0:
        return (), ()
    few = numel // TAIL
    bands = yield from alike((numel - few, few + 1), changes)
    best = yield from alike((min(keep, numel - 1) + 1, 1), lambda b: standing_scores(b.deltas, bands), signed=True)
    return bands, best


def alike(ranks: tuple[int, int], of: Scores, *, signed: bool = False) -> Generator[Pass, Counts, Bands]:
    """The scores of two ranks in every model."""
    high = yield partial(count_high_halves, of=of, bins=2 * HIGH_BINS if signed else HIGH_BINS)
    found = yield from kth_inside(high, [ranks] * len(high), of)
    return tuple((low, top) for low, top in found)


@method(
    "PCB-Merging",
    paper="https://arxiv.org/abs/2410.02396",
    measure=measure_scores,
    passes=lambda settings: 4,
    spared=lambda settings: 1,
)
def pcb(
    base: Array,
    deltas: Array,
    measured: tuple[Bands, Bands],
    *,
    density: Annotated[Fraction, "The share of each model's changes that is kept, the best first."] = 0.1,
    lambda_: Lambda = 1.0,
) -> Array:
    """Average changes by how much they stand out in their model and agree with the others, keeping the best of each.

    For N models: magnitudes of the lowest and the highest int(n / 10,000) of a model's n changes are clamped to the
    next one; s is the clamped magnitude, moved and scaled to 0..1; the score of a change is
    exp(N s^2) * tanh(change * sum of all changes), which is negative where a model contradicts the sum. A change weighs
    its score less the cut, by the largest score less the cut, at least 0; the cut is the largest score that is not
    kept, number int(density * n) + 1 from the top, or the smallest where all are kept. Added is the weighted mean of
    the clamped changes; nothing where no model has weight. Density 0 leaves the base; where all scores are equal, all
    weigh 1; where all magnitudes are equal, s is 0. Scores are computed in float64 and compared in float32.

    Unlike the paper's equations, which have softmax in place of exp and tanh, this is the authors' PCB_merge; unlike
    both, it is per tensor, not over the whole model. Unlike that code: the clamp spares the largest of fewer than
    10,000 changes, the number kept is of those that have weight, and equal numbers do not divide by zero.
    """
    bands, best = measured
    if not best:  # none is kept
        bands, best = ((0.0, 0.0),) * len(deltas), (NONE,) * len(deltas)
    return mean_by_standing(base, deltas, standing_scores(deltas, bands), bands, best, by=lambda_)
