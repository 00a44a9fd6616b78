"""Tiles of bfloat16 rows as they are stored: widened, and their changes chosen, in the nearest cache.

A float32 copy of a block does not fit the nearest caches; a tile does. Row k of `flat` begins at begins[k], and the row
at `base` is taken off where that is not -1. Whole numbers are brought back to 32 bits after every step: Numba widens
them to 64, which halves what a vector unit does at once.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.extending import overload

from merging.methods.loops.compiling import compiled, float_of, part
from merging.methods.loops.dtypes import narrow_bf16, narrow_f32
from merging.methods.loops.keeping import draw, number_of

TILE = 1024  # a multiple of 4 * LANES, and of 4: random numbers come in fours


class Between(NamedTuple):
    """Of what each row changed the entries of a magnitude between these are kept."""

    low: Any  # float32 [n]
    high: Any


class ByChance(NamedTuple):
    """Of what each row changed the entries whose random number is below a limit are kept, see chance.py."""

    keys: Any  # uint64 [n]
    below: Any  # float64 [n]
    first: int  # the place of the first element in its tensor


# One number of a row.


@part
def wide(stored, i):
    return float_of(np.uint32(np.uint32(stored[i]) << np.uint32(16)))


@part
def change(stored, base, i):
    return wide(stored, i) - wide(base, i)


@compiled
def largest_bits(flat, begins, count):  # the bits of the largest magnitude
    worst = np.uint16(0)
    for begin in begins:
        worst = max(worst, largest_half(flat[begin : begin + count]))
    return np.uint32(worst) << np.uint32(16)


@part
def largest_half(stored):  # uint16 [m]
    worst = np.uint16(0)
    for i in range(stored.size):
        magnitude = np.uint16(stored[i] & np.uint16(0x7FFF))
        worst = magnitude if magnitude > worst else worst
    return worst


# Tiles.


@part
def tile_of(flat, begin, at, size):
    return flat[begin + at : begin + at + size]


@part
def load(flat, begin, base, at, out):
    """A tile of a row."""
    stored = tile_of(flat, begin, at, out.size)
    if base < 0:
        for i in range(out.size):
            out[i] = wide(stored, i)
    else:
        start = tile_of(flat, base, at, out.size)
        for i in range(out.size):
            out[i] = change(stored, start, i)


def load_kept(flat, begin, base, chosen, k, at, halves, out):
    """A tile of row k, which begins there: what is kept of its change, zero elsewhere."""


@overload(load_kept)
def load_as_chosen(flat, begin, base, chosen, k, at, halves, out):
    """By its type: the loops of a way to choose are only compiled where it is used.

    A plain tuple, because what is kept on the disk cannot be read any more once a class in it has another name.
    """
    return load_between if len(chosen) == len(Between._fields) else load_by_chance


def load_between(flat, begin, base, chosen, k, at, halves, out):
    stored, start = tile_of(flat, begin, at, out.size), tile_of(flat, base, at, out.size)
    low, high = chosen[0][k], chosen[1][k]
    for i in range(out.size):
        one = change(stored, start, i)
        out[i] = one if low <= abs(one) <= high else np.float32(0)


def load_by_chance(flat, begin, base, chosen, k, at, halves, out):
    stored, start = tile_of(flat, begin, at, out.size), tile_of(flat, base, at, out.size)
    keys, below, first = chosen
    off, last = first % 4, np.int32(below[k] - 1)
    draw(keys[k], first - off + at, halves)
    low, high = halves[off:], halves[off + 1 :]
    for i in range(out.size):
        one = change(stored, start, i)  # first: only where it is kept would be a branch to be guessed
        out[i] = one if number_of(low[i], high[i]) <= last else np.float32(0)


def store(wide, out):
    """Round a tile where the output is bfloat16; the bits of its largest magnitude before that."""


@overload(store)
def store_as(wide, out):
    return narrow_bf16.py_func if out.dtype == numba.types.uint16 else narrow_f32.py_func


@compiled
def write_rows(flat, begins, base, out):  # float32 [n, m]
    for k in range(len(out)):
        load(flat, begins[k], base, 0, out[k])


@compiled
def write_kept(flat, begins, base, chosen, out):
    halves = np.empty(TILE + 8, np.uint16)
    for k in range(len(out)):
        for at in range(0, out.shape[1], TILE):
            load_kept(flat, begins[k], base, chosen, k, at, halves, out[k, at : at + TILE])
