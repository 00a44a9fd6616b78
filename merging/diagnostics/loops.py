"""The inner loops of a diagnosis, compiled by Numba: every tile of a block is loaded once, and all is added up from it.

A tile has the reference in row 0 and what each model changed of it in the others, as float32. Within a tile sums are
float32, where a lane has four numbers; from tile to tile they are float64, in lanes that are then halved, as in
merging/methods/loops.py: the same bits on any machine, and off by less than a millionth of the norms.
"""

from typing import Any, NamedTuple

import numpy as np

from merging.budget import GRAIN
from merging.methods.loops import LANES, add_wide, compiled, halved
from merging.methods.tiles import TILE, load

NONE = np.float32(0)
BYTES = 64  # signs that are counted in a byte at a time, which holds 255
# The largest sum of squares in a lane, as bits: between these, no product of two such rows is lost in float32.
LEAST, MOST = np.uint32(0x1E3CE508), np.uint32(0x7149F2CA)  # 1e-20, 1e30


@compiled
def scan_stored(flat, begins, m, counts, signs):
    """`scan_wide` of bfloat16 rows as they are stored: row i is flat[begins[i] : begins[i] + m]."""
    tiles, room, found = room_for(begins.size, m)
    for grain in range(len(found)):
        clear(room)
        for at in range(grain * GRAIN, min(m, (grain + 1) * GRAIN), TILE):
            size = min(TILE, m - at)
            load_stored(flat, begins, at, size, tiles)
            scan_tile(tiles, size, room, counts, signs)
        sum_up(room.products, room.smaller, found[grain])
    return found


@compiled
def scan_wide(wide, counts, signs):  # float32 [1 + n, m]
    """A row of sums for each grain: products of the reference and all changes, [1 + n, 1 + n], then of the smaller
    magnitudes of each pair of models, [2, n, n]: of all entries, and of those changed against each other.

    Adds to `counts`, int64 [n, 65536], how many changes have which upper half of their bits, twice, and 1 more where
    the lower half is not zero; to `signs`, int64 [2, n, n], how many entries both changed, and how many against each
    other.
    """
    tiles, room, found = room_for(len(wide), wide.shape[1])
    for grain in range(len(found)):
        clear(room)
        for at in range(grain * GRAIN, min(wide.shape[1], (grain + 1) * GRAIN), TILE):
            size = min(TILE, wide.shape[1] - at)
            load_wide(wide, at, size, tiles)
            scan_tile(tiles, size, room, counts, signs)
        sum_up(room.products, room.smaller, found[grain])
    return found


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
    is_narrow: Any  # bool [1 + n]: rows whose products fit float32, in one tile
    cuts: Any  # float32 [n], zeros


@compiled
def room_for(rows, m):
    """Tiles, room, and the sums of every grain; one, of nothing, where there are none."""
    products, smaller = np.empty((rows, rows, LANES), np.float64), np.empty((2, rows - 1, rows - 1, LANES), np.float64)
    signs, places = np.empty((rows, TILE), np.int8), np.empty(TILE, np.uint32)
    few, is_narrow, cuts = np.empty((2, LANES), np.float32), np.empty(rows, np.bool_), np.zeros(rows - 1, np.float32)
    found = np.empty((max(1, (m + GRAIN - 1) // GRAIN), rows**2 + 2 * (rows - 1) ** 2), np.float64)
    return np.empty((rows, TILE), np.float32), Room(signs, places, products, smaller, few, is_narrow, cuts), found


@compiled
def clear(room):
    room.products[:] = 0
    room.smaller[:] = 0


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
    multiply_rows(tiles, size, room.few[0], room.is_narrow, room.products)
    few, smaller = room.few, room.smaller
    for j in range(1, len(tiles)):
        for k in range(1, j):
            few[:] = 0
            add_smaller(tiles[j, :size], tiles[k, :size], few[0], few[1])
            add_wide(few[0], smaller[0, j - 1, k - 1])
            add_wide(few[1], smaller[1, j - 1, k - 1])
        count_places(tiles[j, :size].view(np.uint32), room.places, counts[j - 1])
    count_signs(tiles, size, room.cuts, room.signs, signs)


@compiled
def multiply_rows(tiles, size, few, is_narrow, products):
    for j in range(len(tiles)):
        is_narrow[j] = False
        if size == TILE:
            square_fours(tiles[j], few)
            is_narrow[j] = LEAST <= largest_of(few.view(np.uint32)) <= MOST
        if is_narrow[j]:
            add_wide(few, products[j, j])
        else:
            add_products(tiles[j, :size], tiles[j, :size], products[j, j])
        for k in range(j):
            if is_narrow[j] and is_narrow[k]:
                add_products_of_four(tiles[j], tiles[k], products[j, k])
            else:
                add_products(tiles[j, :size], tiles[k, :size], products[j, k])


@compiled
def largest_of(bits):  # of what is not negative, as it orders the numbers
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = bits[i] if bits[i] > largest else largest
    return largest


# Loops inside of loops, since slices for so few numbers would take as long as the numbers.


@compiled
def add_products(x, y, lanes):
    whole = x.size - x.size % LANES
    for at in range(0, whole, LANES):
        for i in range(LANES):
            lanes[i] += np.float64(x[at + i]) * np.float64(y[at + i])
    for i in range(x.size - whole):
        lanes[i] += np.float64(x[whole + i]) * np.float64(y[whole + i])


# Of a whole tile, the four numbers of each lane at once, so that they are added up in registers.


@compiled
def square_fours(x, lanes):
    for i in range(LANES):
        a, b, c, d = x[i], x[i + LANES], x[i + 2 * LANES], x[i + 3 * LANES]
        lanes[i] = (a * a + b * b) + (c * c + d * d)


@compiled
def add_products_of_four(x, y, lanes):
    for i in range(LANES):
        first = x[i] * y[i] + x[i + LANES] * y[i + LANES]
        second = x[i + 2 * LANES] * y[i + 2 * LANES] + x[i + 3 * LANES] * y[i + 3 * LANES]
        lanes[i] += np.float64(first + second)


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
def sum_up(lanes, weighted, found):
    n = len(lanes)
    for j in range(n):
        for k in range(j + 1):
            found[j * n + k] = found[k * n + j] = halved(lanes[j, k])
    pairs = found[n * n :]
    pairs[:] = 0
    for which in range(2):
        for j in range(n - 1):
            for k in range(j):
                pairs[(which * (n - 1) + j) * (n - 1) + k] = halved(weighted[which, j, k])
