"""The steps that merge methods are made of: pure functions over one block.

Here is what each of them means; loops.py has them for the CPU, gpu.py for a GPU, and both give the same bits. Arrays
are float32, [n, m] for the same m elements of n models, or [m].
"""

from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np

from merging.methods import loops
from merging.methods.arrays import Array, Sums
from merging.methods.chance import Chance, limits


def forms(array: Array) -> ModuleType:
    """The module that has the steps for what an array is."""
    if isinstance(array, np.ndarray):
        return loops
    from merging.methods import gpu  # torch takes two seconds to import, and only a GPU needs it

    return gpu


@lru_cache(maxsize=256)
def floats(values: tuple[float, ...]) -> Array:
    return np.array(values, np.float32)


def weighted_sum(tensors: Array, weights: Sequence[float]) -> Array:
    """The sum of w_i * x_i over the stack, in order: [m]."""
    found: Array = forms(tensors).weighted_sum(tensors, floats(tuple(weights)))
    return found


def add_changes(base: Array, models: Array, weights: Sequence[float]) -> Array:
    """base + the sum of w_i * (x_i - base), in order: [m]."""
    found: Array = forms(models).add_changes(base, models, floats(tuple(weights)))
    return found


def keep_from(tensors: Array, cuts: Sequence[float]) -> Array:
    """Of the i-th of the stack, keep the entries of magnitude cut_i or more, zero the others: [n, m]."""
    if not any(cuts):
        return tensors
    found: Array = forms(tensors).keep_from(tensors, floats(tuple(cuts)))
    return found


def keep_by_chance(tensors: Array, density: Sequence[float], chance: Chance) -> Array:
    """Keep each entry of the i-th of the stack with probability density_i, zero the others: [n, m]."""
    keys, below = chance.keys(len(tensors)), limits(density)
    found: Array = forms(tensors).keep_by_chance(tensors, keys, below, chance.start)
    return found


def sum_of_agreeing(changes: Array, factors: Sequence[float], weights: Sequence[float]) -> tuple[Array, Array]:
    """The sum of those f_i * x_i that have the elected sign, and the sum of the w_i of those: [m] both.

    The sign of the sum of all f_i * x_i is elected; + where it is zero. An entry that is zero has no sign, and does
    not vote or count.
    """
    found: tuple[Array, Array] = forms(changes).sum_of_agreeing(changes, floats(tuple(factors)), floats(tuple(weights)))
    return found


def blend(x: Array, y: Array, of_x: float, of_y: float) -> Array:
    """of_x * x + of_y * y: [m]."""
    found: Array = forms(x).blend(x, y, np.float32(of_x), np.float32(of_y))
    return found


def near_swap(base: Array, model: Array, t: float) -> Array:
    """The model where it is within t of the base, a blend with the share t / |change| of it elsewhere: [m].

    A change counts as at least a millionth.
    """
    found: Array = forms(base).near_swap(base, model, np.float32(t))
    return found


def mix_rows(tensors: Array, weights: Array, row: int) -> Array:
    """A weighted sum over the stack with weights of their own, [n, rows], for each row of that length: [m]."""
    found: Array = forms(tensors).mix_rows(tensors, weights, row)
    return found


def mix_columns(tensors: Array, weights: Array) -> Array:
    """A weighted sum over the stack with weights of their own, [n, columns], for each column: [m]."""
    found: Array = forms(tensors).mix_columns(tensors, weights)
    return found


def zero_to_one(x: Array) -> Array:
    """A divisor in which zeros have become ones."""
    found: Array = x + (x == 0)
    return found


def absolute_sums(tensors: Array) -> Sums:
    """The sum of magnitudes of each of the stack: float64 [n]."""
    found: Sums = forms(tensors).absolute_sums(tensors)
    return found


def gram(tensors: Array) -> Sums:
    """The inner products of each of the stack with each: float64 [n, n]."""
    found: Sums = forms(tensors).gram(tensors)
    return found


def row_grams(tensors: Array, row: int) -> Sums:
    """The inner products of each of the stack with each, for each row of that length: float64 [n, n, rows]."""
    found: Sums = forms(tensors).row_grams(tensors, row)
    return found


def column_grams(tensors: Array, row: int) -> Sums:
    """The inner products of each of the stack with each, for each column of rows so long: float64 [n, n, columns]."""
    found: Sums = forms(tensors).column_grams(tensors, row)
    return found
