"""The inner loops of a diagnosis, compiled by Numba: every tile of a block is loaded once, and all is added up from it.

A tile has the reference in row 0 and what each model changed of it in the others, as float32. Products are summed in
float64, in lanes that are then halved, as in merging/methods/loops.py: the same bits on any machine. Sums of magnitudes
are float32 within a tile, where a lane has four of them, which saves a third of their time.
"""

from typing import Any, NamedTuple

import numpy as np

from merging.methods.loops import LANES, add_wide, compiled, halved
from merging.methods.tiles import TILE, load

NONE = np.float32(0)
BYTES = 64  # signs that are counted in a byte at a time, which holds 255


@compiled
def scan_stored(flat, begins, m, counts, signs):
    """`scan_wide` of bfloat16 rows as they are stored: row i is flat[begins[i] : begins[i] + m]."""
    tiles, room = tiles_and_room(begins.size)
    for at in range(0, m, TILE):
        size = min(TILE, m - at)
        load_stored(flat, begins, at, size, tiles)
        scan_tile(tiles, size, room, counts, signs)
    return summed(room.products, room.smaller)


@compiled
def scan_wide(wide, counts, signs):  # float32 [1 + n, m]
    """Products of the reference and all changes, [1 + n, 1 + n]; by pair of models the sums of smaller magnitudes.

    These are [2, n, n]: of entries changed in one direction or against each other, and of the latter alone. Adds to
    `counts`, int64 [n, 65536], how many changes have which upper half of their bits, twice, and 1 more where the lower
    half is not zero; to `signs`, int64 [2, n, n], how many entries both changed, and how many against each other.
    """
    tiles, room = tiles_and_room(len(wide))
    for at in range(0, wide.shape[1], TILE):
        size = min(TILE, wide.shape[1] - at)
        load_wide(wide, at, size, tiles)
        scan_tile(tiles, size, room, counts, signs)
    return summed(room.products, room.smaller)


@compiled
def count_kept_stored(flat, begins, m, cuts, signs):
    """`count_kept_wide` of bfloat16 rows as they are stored."""
    tiles, room = np.empty((begins.size, TILE), np.float32), np.empty((begins.size, TILE), np.int8)
    for at in range(0, m, TILE):
        size = min(TILE, m - at)
        load_stored(flat, begins, at, size, tiles)
        count_signs(tiles, size, cuts, room, signs)


@compiled
def count_kept_wide(wide, cuts, signs):
    """Add to `signs`, int64 [2, n, n], how many entries two models both changed by their cuts or more, as above."""
    tiles, room = np.empty((len(wide), TILE), np.float32), np.empty((len(wide), TILE), np.int8)
    for at in range(0, wide.shape[1], TILE):
        size = min(TILE, wide.shape[1] - at)
        load_wide(wide, at, size, tiles)
        count_signs(tiles, size, cuts, room, signs)


class Room(NamedTuple):
    """What one thread adds up in, tile by tile."""

    signs: Any  # int8 [1 + n, TILE]
    places: Any  # uint32 [TILE]
    products: Any  # float64 [1 + n, 1 + n, LANES]
    smaller: Any  # float64 [2, n, n, LANES]
    few: Any  # float32 [2, LANES], of one tile


@compiled
def tiles_and_room(rows):
    products, smaller = np.zeros((rows, rows, LANES), np.float64), np.zeros((2, rows - 1, rows - 1, LANES), np.float64)
    signs, places = np.empty((rows, TILE), np.int8), np.empty(TILE, np.uint32)
    few = np.empty((2, LANES), np.float32)
    return np.empty((rows, TILE), np.float32), Room(signs, places, products, smaller, few)


@compiled
def load_stored(flat, begins, at, size, tiles):
    load(flat, begins[0], -1, at, tiles[0, :size])
    for k in range(1, begins.size):
        load(flat, begins[k], begins[0], at, tiles[k, :size])


@compiled
def load_wide(wide, at, size, tiles):
    tiles[0, :size] = wide[0, at : at + size]
    for k in range(1, len(wide)):
        take_off(wide[k, at : at + size], tiles[0, :size], tiles[k, :size])


@compiled
def take_off(x, base, out):
    for i in range(out.size):
        out[i] = x[i] - base[i]


@compiled
def scan_tile(tiles, size, room, counts, signs):
    n, products, smaller, few = len(tiles), room.products, room.smaller, room.few
    add_products(tiles[0, :size], tiles[0, :size], products[0, 0])
    for j in range(1, n):
        for k in range(j + 1):
            add_products(tiles[j, :size], tiles[k, :size], products[j, k])
        for k in range(1, j):
            few[:] = 0
            add_smaller(tiles[j, :size], tiles[k, :size], few[0], few[1])
            add_wide(few[0], smaller[0, j - 1, k - 1])
            add_wide(few[1], smaller[1, j - 1, k - 1])
        count_places(tiles[j, :size].view(np.uint32), room.places, counts[j - 1])
    count_signs(tiles, size, np.zeros(n - 1, np.float32), room.signs, signs)


# Loops inside of loops, since slices for so few numbers would take as long as the numbers.


@compiled
def add_products(x, y, lanes):
    whole = x.size - x.size % LANES
    for at in range(0, whole, LANES):
        for i in range(LANES):
            lanes[i] += np.float64(x[at + i]) * np.float64(y[at + i])
    for i in range(x.size - whole):
        lanes[i] += np.float64(x[whole + i]) * np.float64(y[whole + i])


@compiled
def add_smaller(x, y, all_of_them, against):
    whole = x.size - x.size % LANES
    for at in range(0, whole, LANES):
        for i in range(LANES):
            smaller = min(abs(x[at + i]), abs(y[at + i]))
            all_of_them[i] += smaller
            against[i] += smaller if (x[at + i] < NONE) != (y[at + i] < NONE) else NONE
    for i in range(x.size - whole):
        smaller = min(abs(x[whole + i]), abs(y[whole + i]))
        all_of_them[i] += smaller
        against[i] += smaller if (x[whole + i] < NONE) != (y[whole + i] < NONE) else NONE


@compiled
def count_places(bits, places, counts):
    for i in range(bits.size):
        high = np.uint32(np.uint32(bits[i] >> np.uint32(15)) & np.uint32(0xFFFE))
        places[i] = np.uint32(high + np.uint32(np.uint32(bits[i] & np.uint32(0xFFFF)) != np.uint32(0)))
    for i in range(bits.size):
        counts[places[i]] += 1


@compiled
def count_signs(tiles, size, cuts, room, signs):
    for k in range(1, len(tiles)):
        sign_of(tiles[k, :size], cuts[k - 1], room[k, :size])
        for j in range(1, k):
            both, against = count_pair(room[j, :size], room[k, :size])
            signs[0, k - 1, j - 1] += both
            signs[1, k - 1, j - 1] += against


@compiled
def sign_of(x, cut, out):
    """1 from the cut on, -1 from minus the cut on; of zero it is 0 whatever the cut."""
    for i in range(out.size):
        out[i] = np.int8((x[i] >= cut) & (x[i] > NONE)) - np.int8((x[i] <= -cut) & (x[i] < NONE))


@compiled
def count_pair(x, y):
    both, against, whole = np.int32(0), np.int32(0), x.size - x.size % BYTES
    for at in range(0, whole, BYTES):
        few, fewer = np.uint8(0), np.uint8(0)
        for i in range(BYTES):
            product = np.int8(x[at + i] * y[at + i])
            few = np.uint8(few + np.uint8(product != 0))
            fewer = np.uint8(fewer + np.uint8(product < 0))
        both += few
        against += fewer
    for i in range(whole, x.size):
        both += np.int32(x[i] * y[i] != 0)
        against += np.int32(x[i] * y[i] < 0)
    return both, against


@compiled
def summed(lanes, weighted):
    n = len(lanes)
    products, smaller = np.zeros((n, n), np.float64), np.zeros((2, n - 1, n - 1), np.float64)
    for j in range(n):
        for k in range(j + 1):
            products[j, k] = products[k, j] = halved(lanes[j, k])
    for j in range(n - 1):
        for k in range(j):
            for which in range(2):
                smaller[which, j, k] = halved(weighted[which, j, k])
    return products, smaller
