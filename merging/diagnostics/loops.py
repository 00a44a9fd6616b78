"""The inner loops of a diagnosis, compiled by Numba: every tile of a block is loaded once, and all is added up from it.

A tile has the reference in row 0 and what each model changed of it in the others, as float32. Products and sums of
magnitudes are float64, in lanes that are then halved, as in merging/methods/loops.py: the same bits on any machine.
"""

import numpy as np

from merging.methods.loops import LANES, add_products, compiled, halved
from merging.methods.tiles import TILE, load_all

BYTES = 64  # signs that are counted in a byte at a time, which holds 255


@compiled
def scan_stored(flat, begins, m, counts, signs):
    """`scan_wide` of bfloat16 rows as they are stored: row i is flat[begins[i] : begins[i] + m]."""
    tiles, room, places, lanes, weighted = rooms(begins.size)
    for at in range(0, m, TILE):
        size = min(TILE, m - at)
        load_stored(flat, begins, at, size, tiles)
        scan_tile(tiles, size, room, places, lanes, weighted, counts, signs)
    return summed(lanes, weighted)


@compiled
def scan_wide(wide, counts, signs):  # float32 [1 + n, m]
    """Products of the reference and all changes, [1 + n, 1 + n]; by pair of models the sums of smaller magnitudes.

    These are [2, n, n]: of entries changed in one direction or against each other, and of the latter alone. Adds to
    `counts`, int64 [n, 65536], how many changes have which upper half of their bits, twice, and 1 more where the lower
    half is not zero; to `signs`, int64 [2, n, n], how many entries both changed, and how many against each other.
    """
    tiles, room, places, lanes, weighted = rooms(len(wide))
    for at in range(0, wide.shape[1], TILE):
        size = min(TILE, wide.shape[1] - at)
        load_wide(wide, at, size, tiles)
        scan_tile(tiles, size, room, places, lanes, weighted, counts, signs)
    return summed(lanes, weighted)


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


@compiled
def rooms(rows):
    tiles, room, places = np.empty((rows, TILE), np.float32), np.empty((rows, TILE), np.int8), np.empty(TILE, np.uint32)
    lanes, weighted = np.zeros((rows, rows, LANES), np.float64), np.zeros((2, rows - 1, rows - 1, LANES), np.float64)
    return tiles, room, places, lanes, weighted


@compiled
def load_stored(flat, begins, at, size, tiles):
    load_all(flat, begins[0], -1, at, tiles[0, :size])
    for k in range(1, begins.size):
        load_all(flat, begins[k], begins[0], at, tiles[k, :size])


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
def scan_tile(tiles, size, room, places, lanes, weighted, counts, signs):
    n = len(tiles)
    for i in range(0, size, LANES):
        end = min(i + LANES, size)
        for j in range(n):
            for k in range(j + 1):
                add_products(tiles[j, i:end], tiles[k, i:end], lanes[j, k])
        for j in range(1, n):
            for k in range(1, j):
                add_smaller(tiles[j, i:end], tiles[k, i:end], weighted[0, j - 1, k - 1], weighted[1, j - 1, k - 1])
    for j in range(1, n):
        count_places(tiles[j, :size].view(np.uint32), places, counts[j - 1])
    count_signs(tiles, size, np.zeros(n - 1, np.float32), room, signs)


@compiled
def add_smaller(x, y, all_of_them, against):
    for i in range(x.size):
        smaller = min(abs(x[i]), abs(y[i]))
        all_of_them[i] += np.float64(smaller)
        against[i] += np.float64(smaller if (x[i] < np.float32(0)) != (y[i] < np.float32(0)) else np.float32(0))


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
        out[i] = np.int8((x[i] >= cut) & (x[i] > np.float32(0))) - np.int8((x[i] <= -cut) & (x[i] < np.float32(0)))


@compiled
def count_pair(x, y):
    both, against = np.int32(0), np.int32(0)
    for at in range(0, x.size, BYTES):
        few, fewer = np.uint8(0), np.uint8(0)
        some, others = x[at : at + BYTES], y[at : at + BYTES]
        for i in range(some.size):
            product = np.int8(some[i] * others[i])
            few = np.uint8(few + np.uint8(product != 0))
            fewer = np.uint8(fewer + np.uint8(product < 0))
        both += few
        against += fewer
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
