"""The inner loops on bfloat16 rows as they are stored: widened, and their changes chosen, a tile at a time.

A float32 copy of a block does not fit the nearest caches; a tile does. Each loop adds up as its namesake in loops.py
does, in the same order: the bits are the same, and tests hold both to it. Whole numbers are brought back to 32 bits
after every step: Numba widens them to 64, which halves what a vector unit does at once.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from merging.methods.loops import (
    LANES,
    add_agreeing,
    add_magnitudes,
    add_products,
    add_scaled,
    compiled,
    count_each,
    count_places,
    draw,
    halved,
    keep_below,
    keep_row_between,
    narrow_bf16,
    narrow_f32,
    take_inside,
)  # fmt: skip

TILE = 1024  # a multiple of LANES, and even: random numbers come in pairs
ALL, BETWEEN, BY_CHANCE = 0, 1, 2  # which entries of a row are kept


class Rows(NamedTuple):
    """Rows that a loop goes through: row k begins at flat[begins[k]], and `base` is taken off where that is not -1."""

    flat: Any  # uint16: bfloat16 numbers
    begins: Any  # int64 [n]
    base: int
    kept: int  # ALL, BETWEEN or BY_CHANCE
    low: Any  # float32 [n]: BETWEEN these magnitudes
    high: Any
    keys: Any  # uint64 [n]: of the random numbers, see chance.py
    below: Any  # float64 [n]: BY_CHANCE where the number is below
    first: int  # the place of the first element in its tensor


class Row(NamedTuple):
    """One of them. A loop that is handed on all arrays of Rows for every tile takes twice as long."""

    flat: Any
    begin: int
    base: int
    kept: int
    low: Any
    high: Any
    key: Any
    below: Any
    first: int


class Room(NamedTuple):
    """What loading a tile takes."""

    tile: Any  # float32 [TILE]
    numbers: Any  # int32 [TILE + 2]


@intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.uint32), generate


# One number of a row. Compiled into the loops that use it.


@compiled
def wide(stored, i):
    return float_of(np.uint32(np.uint32(stored[i]) << np.uint32(16)))


@compiled
def change(stored, base, i):
    return wide(stored, i) - wide(base, i)


@compiled
def largest_bits(flat, begins, count):  # the bits of the largest magnitude
    worst = np.uint16(0)
    for begin in begins:
        worst = max(worst, largest_half(flat[begin : begin + count]))
    return np.uint32(worst) << np.uint32(16)


@compiled
def largest_half(stored):  # uint16 [m]
    worst = np.uint16(0)
    for i in range(stored.size):
        worst = max(worst, np.uint16(stored[i] & np.uint16(0x7FFF)))
    return worst


# Tiles.


@compiled
def tiles_and_room(count):
    return np.empty((count, TILE), np.float32), Room(np.empty(TILE, np.float32), np.empty(TILE + 2, np.int32))


@compiled
def tile_of(flat, begin, at, size):
    return flat[begin + at : begin + at + size]


@compiled
def row_of(rows, k):
    low = high = np.float32(0)
    key, below, kept = np.uint64(0), np.int32(0), rows.kept
    if kept == BETWEEN:
        low, high = rows.low[k], rows.high[k]
    elif kept == BY_CHANCE and rows.below[k] == 2.0**31:
        kept = ALL
    elif kept == BY_CHANCE:
        key, below = rows.keys[k], np.int32(rows.below[k])
    return Row(rows.flat, rows.begins[k], rows.base, kept, low, high, key, below, rows.first)


@compiled
def load(row, at, room, out):
    """A tile of a row: what is kept of it, zero elsewhere."""
    if row.kept == ALL:
        load_all(row.flat, row.begin, row.base, at, out)
        return
    whole = room.tile[: out.size]  # a loop that reads and writes one array is not vectorised
    load_all(row.flat, row.begin, row.base, at, whole)
    keep(row, at, room.numbers, whole, out)


@compiled
def load_all(flat, begin, base, at, out):
    stored = tile_of(flat, begin, at, out.size)
    if base < 0:
        for i in range(out.size):
            out[i] = wide(stored, i)
    else:
        start = tile_of(flat, base, at, out.size)
        for i in range(out.size):
            out[i] = change(stored, start, i)


@compiled
def keep(row, at, numbers, whole, out):
    if row.kept == ALL:
        out[:] = whole
    elif row.kept == BETWEEN:
        keep_row_between(whole, row.low, row.high, out)
    else:
        odd = row.first % 2
        draw(row.key, row.first - odd + at, numbers)
        keep_below(whole, numbers[odd:], row.below, out)


@compiled
def store(tile, out):
    """Round a tile where the output is bfloat16; the bits of its largest magnitude before that."""
    return narrow_bf16(tile, out) if out.itemsize == 2 else narrow_f32(tile, out)


@compiled
def write_rows(rows, out):  # float32 [n, m]
    _, room = tiles_and_room(0)
    for k in range(len(out)):
        for at in range(0, out.shape[1], TILE):
            load(row_of(rows, k), at, room, out[k, at : at + TILE])


# Kernels: into uint16 or float32 [m]; the bits of the largest magnitude.


@compiled
def weighted_sum(rows, weights, out):
    return sum_up(rows, weights, np.float32(-0.0), -1, out)  # which changes nothing that is added to it


@compiled
def add_weighted(base, rows, weights, out):
    return sum_up(rows, weights, np.float32(-0.0), base, out)


@compiled
def add_changes(base, rows, weights, out):
    return sum_up(rows, weights, np.float32(0), base, out)


@compiled
def sum_up(rows, weights, start, base, out):
    """`start` and the weighted sum of the rows, in order, and then the base where there is one."""
    tiles, room = tiles_and_room(2)
    worst = np.uint32(0)
    for at in range(0, out.size, TILE):
        part = out[at : at + TILE]
        total, one = tiles[0, : part.size], tiles[1, : part.size]
        total[:] = start
        if rows.kept != ALL:
            for k in range(weights.size):
                load(row_of(rows, k), at, room, one)
                add_scaled(one, weights[k], total)
        elif rows.base < 0:
            add_rows(rows.flat, rows.begins, weights, at, total)
        else:
            add_changed_rows(rows.flat, rows.begins, rows.base, weights, at, total)
        if base >= 0:
            add_wide(tile_of(rows.flat, base, at, part.size), total)
        worst = max(worst, store(total, part))
    return worst


@compiled
def add_rows(flat, begins, weights, at, total):
    """Several rows at a time, so that the sum stays in registers meanwhile."""
    k, size = 0, total.size
    while weights.size - k >= 4:
        w, x, y, z = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        a, b = tile_of(flat, begins[k], at, size), tile_of(flat, begins[k + 1], at, size)
        c, d = tile_of(flat, begins[k + 2], at, size), tile_of(flat, begins[k + 3], at, size)
        for i in range(size):
            total[i] = total[i] + wide(a, i) * w + wide(b, i) * x + wide(c, i) * y + wide(d, i) * z
        k += 4
    while weights.size - k >= 2:
        w, x = weights[k], weights[k + 1]
        a, b = tile_of(flat, begins[k], at, size), tile_of(flat, begins[k + 1], at, size)
        for i in range(size):
            total[i] = total[i] + wide(a, i) * w + wide(b, i) * x
        k += 2
    if weights.size > k:
        w, a = weights[k], tile_of(flat, begins[k], at, size)
        for i in range(size):
            total[i] = total[i] + wide(a, i) * w


@compiled
def add_changed_rows(flat, begins, base_begin, weights, at, total):
    k, size = 0, total.size
    base = tile_of(flat, base_begin, at, size)
    while weights.size - k >= 3:
        w, x, y = weights[k], weights[k + 1], weights[k + 2]
        a, b = tile_of(flat, begins[k], at, size), tile_of(flat, begins[k + 1], at, size)
        c = tile_of(flat, begins[k + 2], at, size)
        for i in range(size):
            total[i] = total[i] + change(a, base, i) * w + change(b, base, i) * x + change(c, base, i) * y
        k += 3
    while weights.size - k >= 1:
        w, a = weights[k], tile_of(flat, begins[k], at, size)
        for i in range(size):
            total[i] = total[i] + change(a, base, i) * w
        k += 1


@compiled
def add_wide(stored, out):
    for i in range(out.size):
        out[i] += wide(stored, i)


@compiled
def blend(rows, x, y, of_x, of_y, out):
    tiles, _ = tiles_and_room(1)
    worst = np.uint32(0)
    for at in range(0, out.size, TILE):
        part = out[at : at + TILE]
        total, a, b = tiles[0, : part.size], tile_of(rows.flat, x, at, part.size), tile_of(rows.flat, y, at, part.size)
        for i in range(part.size):
            total[i] = wide(a, i) * of_x + wide(b, i) * of_y
        worst = max(worst, store(total, part))
    return worst


@compiled
def add_agreed(base, rows, factors, weights, divide, by, out):
    n = weights.size
    tiles, room = tiles_and_room(n + 3)
    worst = np.uint32(0)
    for at in range(0, out.size, TILE):
        part = out[at : at + TILE]
        sign, total, voters = tiles[n, : part.size], tiles[n + 1, : part.size], tiles[n + 2, : part.size]
        for k in range(n):
            load(row_of(rows, k), at, room, tiles[k, : part.size])
        vote(tiles, factors, sign)
        total[:] = 0
        voters[:] = 0
        for k in range(n):
            add_agreeing(tiles[k, : part.size], factors[k], weights[k], sign, total, voters)
        finish_vote(tile_of(rows.flat, base, at, part.size), sign, voters, divide, by, total)
        worst = max(worst, store(total, part))
    return worst


@compiled
def vote(tiles, factors, sign):
    sign[:] = np.float32(-0.0)
    for k in range(factors.size):
        add_scaled(tiles[k, : sign.size], factors[k], sign)
    for i in range(sign.size):
        sign[i] = np.float32(1) if sign[i] >= np.float32(0) else np.float32(-1)


@compiled
def finish_vote(base, sign, voters, divide, by, total):
    if divide:
        for i in range(total.size):
            mean = total[i] * sign[i] / (voters[i] if voters[i] != np.float32(0) else np.float32(1))
            total[i] = mean * by + wide(base, i)
    else:
        for i in range(total.size):
            total[i] = total[i] * sign[i] * by + wide(base, i)


# Measures.


@compiled
def absolute_sums(rows, m):
    tiles, room = tiles_and_room(1)
    out, lanes = np.empty(rows.begins.size, np.float64), np.empty(LANES, np.float64)
    for k in range(out.size):
        lanes[:] = 0
        for at in range(0, m, TILE):
            tile = tiles[0, : min(TILE, m - at)]
            load(row_of(rows, k), at, room, tile)
            for i in range(0, tile.size, LANES):
                add_magnitudes(tile[i : i + LANES], lanes)
        out[k] = halved(lanes)
    return out


@compiled
def sums_around(rows, m):  # float64 [2, n]: of all, and of what is kept
    tiles, room = tiles_and_room(2)
    out, lanes = np.empty((2, rows.begins.size), np.float64), np.empty((2, LANES), np.float64)
    for k in range(rows.begins.size):
        lanes[:] = 0
        for at in range(0, m, TILE):
            size = min(TILE, m - at)
            load_all(rows.flat, rows.begins[k], rows.base, at, tiles[0, :size])
            keep(row_of(rows, k), at, room.numbers, tiles[0, :size], tiles[1, :size])
            for i in range(0, size, LANES):
                end = min(i + LANES, size)
                add_magnitudes(tiles[0, i:end], lanes[0])
                add_magnitudes(tiles[1, i:end], lanes[1])
        out[0, k], out[1, k] = halved(lanes[0]), halved(lanes[1])
    return out


@compiled
def gram(rows, m):
    n = rows.begins.size
    tiles, room = tiles_and_room(n)
    lanes = np.zeros((n, n, LANES), np.float64)
    for at in range(0, m, TILE):
        size = min(TILE, m - at)
        for k in range(n):
            load(row_of(rows, k), at, room, tiles[k, :size])
        for j in range(n):
            for k in range(j + 1):
                for i in range(0, size, LANES):
                    end = min(i + LANES, size)
                    add_products(tiles[j, i:end], tiles[k, i:end], lanes[j, k])
    out = np.empty((n, n), np.float64)
    for j in range(n):
        for k in range(j + 1):
            out[j, k] = out[k, j] = halved(lanes[j, k])
    return out


@compiled
def count_high_halves(rows, m, counts):
    tiles, room = tiles_and_room(1)
    places, mask = np.empty(TILE, np.uint32), np.uint32(counts.shape[1] - 1)
    for k in range(len(counts)):
        row = counts[k].reshape(-1)
        for at in range(0, m, TILE):
            tile = tiles[0, : min(TILE, m - at)]
            load(row_of(rows, k), at, room, tile)
            count_places(tile.view(np.uint32), mask, places, row)


@compiled
def count_low_halves(rows, m, bins, mask, counts):
    tiles, room = tiles_and_room(1)
    inside = np.empty(TILE + 1, np.uint16)
    for k in range(len(counts)):
        for at in range(0, m, TILE):
            tile = tiles[0, : min(TILE, m - at)]
            load(row_of(rows, k), at, room, tile)
            for j in range(bins.shape[1]):
                found = take_inside(tile.view(np.uint32), bins[k, j], np.uint32(mask), inside)
                count_each(inside[:found], counts[k, j])
