"""Tiles of bfloat16 rows as they are stored: widened, and their changes chosen, in the nearest cache.

A float32 copy of a block does not fit the nearest caches; a tile does. Row k of `flat` begins at begins[k], and the row
at `base` is taken off where that is not -1. Whole numbers are brought back to 32 bits after every step: Numba widens
them to 64, which halves what a vector unit does at once.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.extending import overload

from merging.methods.loops import (
    compiled,
    draw,
    float_of,
    keep_below,
    keep_row_between,
    narrow_bf16,
    narrow_f32,
    part,
)

TILE = 1024  # a multiple of 4 * LANES, and even: random numbers come in pairs


class Between(NamedTuple):
    """Of each row the entries of a magnitude between these are kept."""

    low: Any  # float32 [n]
    high: Any


class ByChance(NamedTuple):
    """Of each row the entries whose random number is below the limit are kept, see chance.py."""

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


def keep(chosen, k, at, numbers, tile, out):
    """What is kept of a tile of row k, zero elsewhere.

    Into another tile: a loop that reads and writes one array is not vectorised.
    """


@overload(keep)
def keep_as(chosen, k, at, numbers, tile, out):
    """By its type: the loops of a way to choose are only compiled where it is used."""
    return keep_between if chosen.instance_class is Between else keep_by_chance


def keep_between(chosen, k, at, numbers, tile, out):
    keep_row_between(tile, chosen.low[k], chosen.high[k], out)


def keep_by_chance(chosen, k, at, numbers, tile, out):
    odd = chosen.first % 2
    draw(chosen.keys[k], chosen.first - odd + at, numbers)
    keep_below(tile, numbers[odd:], chosen.below[k], out)


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
    room, numbers = np.empty(TILE, np.float32), np.empty(TILE + 2, np.int32)
    for k in range(len(out)):
        for at in range(0, out.shape[1], TILE):
            one = out[k, at : at + TILE]
            load(flat, begins[k], base, at, room[: one.size])
            keep(chosen, k, at, numbers, room, one)
