"""The steps that merge methods are made of: pure functions over one block.

Here is what each of them means. The folder loops has them for the CPU, its tile_sums.py and tile_measures.py the most
used ones for bfloat16 as it is stored, gpu.py has them for a GPU; all give the same bits. Arrays are float32, [n, m]
for the same m elements of n models, or [m].
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np

from merging.methods import loops, stored
from merging.methods.arrays import Array, Counts, Sums
from merging.methods.chance import Chance, limits

Band = tuple[float, float]  # the least and the largest that are inside
NOTHING = math.inf  # a cut that nothing reaches
ALL, NONE = (0.0, math.inf), (math.inf, math.inf)


def forms(*arrays: Array) -> ModuleType:
    """The module that has the steps for what arrays are."""
    if any(isinstance(array, stored.Lazy) for array in arrays):
        return stored
    if isinstance(arrays[0], np.ndarray):
        return loops
    from merging.methods import gpu  # torch takes two seconds to import, and only a GPU needs it

    return gpu


@lru_cache(maxsize=256)
def floats(values: tuple[float, ...]) -> Array:
    return np.array(values, np.float32)


@lru_cache(maxsize=256)
def wide_floats(values: tuple[float, ...]) -> Sums:
    return np.array(values, np.float64)


def rounded_down(value: float) -> np.float32:
    """The largest float32 that is not above: no float32 lies between the two."""
    found = np.float32(value)
    return found if found <= value else np.nextafter(found, np.float32(-np.inf))


def weighted_sum(tensors: Array, weights: Sequence[float]) -> Array:
    """The sum of w_i * x_i over the stack, in order: [m]."""
    found: Array = forms(tensors).weighted_sum(tensors, floats(tuple(weights)))
    return found


def add_weighted(base: Array, tensors: Array, weights: Sequence[float]) -> Array:
    """base + the sum of w_i * x_i over the stack, which is added up first: [m]."""
    found: Array = forms(base, tensors).add_weighted(base, tensors, floats(tuple(weights)))
    return found


def add_changes(base: Array, models: Array, weights: Sequence[float]) -> Array:
    """base + the sum of w_i * (x_i - base), in order: [m]."""
    found: Array = forms(base, models).add_changes(base, models, floats(tuple(weights)))
    return found


def keep_between(tensors: Array, bands: Sequence[Band]) -> Array:
    """Of the i-th of the stack, keep the entries of a magnitude in band_i, zero the others: [n, m]."""
    if all(band == ALL for band in bands):
        return tensors
    low, high = (floats(tuple(edges)) for edges in zip(*bands, strict=True))
    found: Array = forms(tensors).keep_between(tensors, low, high)
    return found


def keep_by_chance(tensors: Array, density: Sequence[float], chance: Chance) -> Array:
    """Keep each entry of the i-th of the stack with probability density_i, zero the others: [n, m]."""
    keys, below = chance.keys(len(tensors)), limits(density)
    found: Array = forms(tensors).keep_by_chance(tensors, keys, below, chance.start)
    return found


def keep_by_rank(tensors: Array, row: int, density: Sequence[float], epsilon: Sequence[float], chance: Chance) -> Array:
    """Keep each entry with a probability by the rank of its magnitude in its row, zero the others: [n, m].

    From density_i - epsilon_i for the smallest to density_i + epsilon_i for the largest, linear in the rank; entries of
    equal magnitude have the mean of their ranks. A row of one element has density_i, and 0 and 1 are 0 and 1.
    """
    if row == 1:
        return keep_by_chance(tensors, density, chance)
    by = wide_floats(tuple(e if 0 < d < 1 else 0.0 for d, e in zip(density, epsilon, strict=True)))
    keys, middle = chance.keys(len(tensors)), wide_floats(tuple(density))
    found: Array = forms(tensors).keep_by_rank(tensors, row, middle, by, keys, chance.start)
    return found


def blend(x: Array, y: Array, of_x: float, of_y: float) -> Array:
    """of_x * x + of_y * y: [m]."""
    found: Array = forms(x, y).blend(x, y, np.float32(of_x), np.float32(of_y))
    return found


def near_swap(base: Array, model: Array, t: float) -> Array:
    """The model where it is within t of the base, a blend with the share t / |change| of it elsewhere: [m].

    A change counts as at least a millionth.
    """
    found: Array = forms(base, model).near_swap(base, model, np.float32(t))
    return found


def mix_rows(tensors: Array, weights: Array, row: int) -> Array:
    """A weighted sum over the stack with weights of their own, [n, rows], for each row of that length: [m]."""
    found: Array = forms(tensors).mix_rows(tensors, weights, row)
    return found


def mix_columns(tensors: Array, weights: Array) -> Array:
    """A weighted sum over the stack with weights of their own, [n, columns], for each column: [m]."""
    found: Array = forms(tensors).mix_columns(tensors, weights)
    return found


def add_agreed(
    base: Array, changes: Array, factors: Sequence[float], weights: Sequence[float], *, divide: bool, by: float
) -> Array:
    """base + `by` times the sum of the f_i * x_i of the elected sign; if asked divided by the w_i of those: [m].

    The sign of the sum of all f_i * x_i is elected; + where it is zero. An entry that is zero has no sign, and does
    not vote or count. Where the weights sum to zero, but for what their sum in float32 may be wrong by, the divisor
    is 1.
    """
    least = np.float32(len(weights) * 2**-24 * sum(map(abs, weights)))
    given = floats(tuple(factors)), floats(tuple(weights)), divide, least, np.float32(by)
    found: Array = forms(base, changes).add_agreed(base, changes, *given)
    return found


def average_agreed(base: Array, changes: Array, weights: Sequence[float], *, least: float) -> Array:
    """base + the average by weight of those x_i that have the sign of the sum of all, + where that is zero: [m].

    Weights are not negative; where those that agree sum to less than `least`, that is the divisor.
    """
    found: Array = forms(base, changes).average_agreed(base, changes, floats(tuple(weights)), np.float32(least))
    return found


def spread(base: Array, models: Array) -> Array:
    """The standard deviation of each entry's changes over the models: [1, m]. In float64, then rounded.

    0 only where all changes are equal: that of any other entry is at least 2^-133, so that its upper half is not zero.
    """
    found: Array = forms(base, models).spread(base, models)
    return found


def add_own_and_shared(base: Array, deltas: Array, epsilon: float, factors: Sequence[float]) -> Array:
    """base + f_i * x_i where only that is larger than epsilon, + the mean of those that are where several are: [m]."""
    found: Array = forms(base, deltas).add_own_and_shared(base, deltas, rounded_down(epsilon), floats(tuple(factors)))
    return found


def count_own_and_shared(deltas: Array, epsilon: float) -> Counts:
    """For each of the stack, how many of its entries alone are larger than epsilon, and how many not alone: [n, 2]."""
    found: Counts = forms(deltas).count_own_and_shared(deltas, rounded_down(epsilon))
    return found


def add_consensus(base: Array, models: Array, cuts: Sequence[float], *, least: int, by: float) -> Array:
    """base + `by` times the sum of all changes, where at least so many matter: [m]. In float64.

    A change matters where it is larger than cut_i times the sum of the others.
    """
    found: Array = forms(base, models).add_consensus(base, models, wide_floats(tuple(cuts)), least, float(by))
    return found


def standing_scores(deltas: Array, bands: Sequence[Band]) -> Array:
    """How much an entry stands out in its model, and agrees with the others: [n, m]. In float64, then rounded.

    exp(n s^2) * tanh(x_i * sum of all), where s goes from 0 for magnitudes at or below the lower edge of band_i to 1 at
    or above its upper edge.
    """
    low, high = (wide_floats(tuple(edges)) for edges in zip(*bands, strict=True))
    found: Array = forms(deltas).standing_scores(deltas, low, high)
    return found


def mean_by_standing(
    base: Array, deltas: Array, scores: Array, bands: Sequence[Band], best: Sequence[Band], *, by: float
) -> Array:
    """base + `by` times the mean of the x_i, weighted by where in its band best_i the score is: [m]. In float64.

    From 0 at or below the lower edge to 1 at the upper one; 1 there when both are the same. Magnitudes are clamped to
    band_i. Where nothing has weight, nothing is added.
    """
    low, high = (wide_floats(tuple(edges)) for edges in zip(*bands, strict=True))
    cuts, largest = (wide_floats(tuple(edges)) for edges in zip(*best, strict=True))
    found: Array = forms(base, deltas, scores).mean_by_standing(
        base, deltas, scores, low, high, cuts, largest, float(by)
    )
    return found


def absolute_sums(tensors: Array) -> Sums:
    """The sum of magnitudes of each of the stack: float64 [n]."""
    found: Sums = forms(tensors).absolute_sums(tensors)
    return found


def sums_around(tensors: Array, kept: Array) -> Sums:
    """The sums of magnitudes of each of the stack, and of what is kept of each: float64 [grains, 2, n].

    It is one grain, unless the stack is as it is stored: then a stretch of it may have several (blocks.py).
    """
    if forms(tensors, kept) is stored:
        return stored.sums_around(tensors, kept)
    return np.stack([absolute_sums(tensors), absolute_sums(kept)])[None]


def square_sums(tensors: Array) -> Sums:
    """The sum of squares of each of the stack: float64 [n]."""
    found: Sums = forms(tensors).square_sums(tensors)
    return found


def gram(tensors: Array) -> Sums:
    """The inner products of each of the stack with each: float64 [n, n]."""
    found: Sums = forms(tensors).gram(tensors)
    return found


def grams(tensors: Array) -> Sums:
    """The same by grain, as in sums_around: float64 [grains, n, n]."""
    return stored.grams(tensors) if forms(tensors) is stored else gram(tensors)[None]


def row_grams(tensors: Array, row: int) -> Sums:
    """The inner products of each of the stack with each, for each row of that length: float64 [n, n, rows]."""
    found: Sums = forms(tensors).row_grams(tensors, row)
    return found


def column_grams(tensors: Array, row: int) -> Sums:
    """The inner products of each of the stack with each, for each column of rows so long: float64 [n, n, columns]."""
    found: Sums = forms(tensors).column_grams(tensors, row)
    return found


def importance(base: Array, model: Array, row: int) -> Array:
    """|change| * KL(softmax(model) || softmax(base)), with a softmax for each row of that length: [m].

    1e-8 is added to each probability. Computed in float64, rounded to float32.
    """
    found: Array = forms(base, model).importance(base, model, row)
    return found


def take_from(base: Array, model: Array, scores: Array, cut: float) -> Array:
    """The model where the score is `cut` or more, the base elsewhere: [m]."""
    found: Array = forms(base, model, scores).take_from(base, model, scores, cut)
    return found
