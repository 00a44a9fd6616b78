"""The inner loops of a diagnosis, compiled by Numba: every tile of a block is loaded once, and all is added up from it.

A tile has the reference in row 0 and what each model changed of it in the others, as float32. Within a tile sums are
float32, of sixteen numbers to a lane; from tile to tile they are float64, in lanes that are then halved, as in
merging/methods/loops: the same bits on any machine, and off by less than a millionth of the norms. A tile whose squares
float32 would lose is added up in float64.
"""

from typing import Any, NamedTuple

import numpy as np

from merging.budget import GRAIN
from merging.methods.loops.compiling import MAGNITUDE, bits_of, compiled, part
from merging.methods.loops.counts import count_places
from merging.methods.loops.products import halved
from merging.methods.loops.tiles import TILE, load

LANES = 64  # sixteen numbers of a tile to each
BYTES = 64  # marks that are counted in a byte at a time, which holds 255
HALF = 0x7FFF  # the upper half of the bits, without the sign
# Marks of an entry: 1 where it was changed, 2 where by the cut or more, 4 where downwards.
CHANGED = np.uint8(1)
# The largest sum of squares in a lane, as bits: between these, no product of two such rows is lost in float32.
LEAST, MOST = np.uint32(0x1E3CE508), np.uint32(0x7149F2CA)  # 1e-20, 1e30


@compiled
def count_stored(flat, begins, m, start, every, counts):
    """`count_wide` of bfloat16 rows as they are stored: row i is flat[begins[i] : begins[i] + m]."""
    tile, places = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for k in range(1, begins.size):
        for first in range(0, m, every * TILE):
            at = first + one_of(start + first, every) * TILE
            size = max(0, min(TILE, m - at))
            load(flat, begins[k], begins[0], at, tile[:size])
            count_places(tile[:size], np.uint32(HALF), places, counts[k - 1])


@compiled
def count_wide(wide, start, every, counts):  # float32 [1 + n, m], from element `start` of the tensor on
    """Add to int64 [n, 65536] how many changes have which upper half of their bits, twice, and 1 more where the lower
    half is not zero. Of so many tiles, which is a power of two, one is looked at.
    """
    tile, places = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for k in range(1, len(wide)):
        for first in range(0, wide.shape[1], every * TILE):
            at = first + one_of(start + first, every) * TILE
            size = max(0, min(TILE, wide.shape[1] - at))
            take_off(wide[k, at : at + size], wide[0, at : at + size], tile[:size])
            count_places(tile[:size], np.uint32(HALF), places, counts[k - 1])


@part
def one_of(place, every):
    """Which tile of those from there on: at random, since the columns of a matrix come again and again."""
    return np.int64(np.uint64(place) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % every


@compiled
def scan_stored(flat, begins, m, cuts, marks):
    """`scan_wide` of bfloat16 rows as they are stored."""
    room, found = room_for(begins.size, m)
    for grain in range(len(found)):
        clear(room)
        for at in range(grain * GRAIN, min(m, (grain + 1) * GRAIN), TILE):
            size = min(TILE, m - at)
            load(flat, begins[0], -1, at, room.tiles[0, :size])
            for k in range(1, begins.size):
                load(flat, begins[k], begins[0], at, room.tiles[k, :size])
            room.tiles[:, size:] = 0
            scan_tile(room, cuts, marks)
        sum_up(room, found[grain])
    return found


@compiled
def scan_wide(wide, cuts, marks):  # float32 [1 + n, m]
    """A row of sums for each grain: products of the reference and all changes, [1 + n, 1 + n]; their magnitudes,
    [1 + n]; and for each pair of models magnitudes of the sum and of the difference of their changes, [2, n, n].

    Adds to `marks`, int64 [4, n, n], how many entries both changed, and how many against each other; and how many both
    changed by their cuts or more, and against each other. On the diagonals, what one model changed.
    """
    room, found = room_for(len(wide), wide.shape[1])
    for grain in range(len(found)):
        clear(room)
        for at in range(grain * GRAIN, min(wide.shape[1], (grain + 1) * GRAIN), TILE):
            size = min(TILE, wide.shape[1] - at)
            room.tiles[0, :size] = wide[0, at : at + size]
            for k in range(1, len(wide)):
                take_off(wide[k, at : at + size], wide[0, at : at + size], room.tiles[k, :size])
            room.tiles[:, size:] = 0
            scan_tile(room, cuts, marks)
        sum_up(room, found[grain])
    return found


class Room(NamedTuple):
    """What one thread adds up in, tile by tile."""

    tiles: Any  # float32 [1 + n, TILE]
    marks: Any  # uint8 [n, TILE]
    products: Any  # float64 [1 + n, 1 + n, LANES]
    magnitudes: Any  # float64 [1 + n, LANES]
    apart: Any  # float64 [2, n, n, LANES]
    few: Any  # float32 [2, LANES], of one tile
    is_narrow: Any  # bool [1 + n]: rows whose products fit float32, in one tile


@part
def room_for(rows, m):
    """Room, and the sums of every grain; one, of nothing, where there are none."""
    n = rows - 1
    products, magnitudes = np.empty((rows, rows, LANES), np.float64), np.empty((rows, LANES), np.float64)
    apart, few = np.empty((2, n, n, LANES), np.float64), np.empty((2, LANES), np.float32)
    tiles, marks = np.empty((rows, TILE), np.float32), np.empty((n, TILE), np.uint8)
    found = np.empty((max(1, (m + GRAIN - 1) // GRAIN), rows * rows + rows + 2 * n * n), np.float64)
    return Room(tiles, marks, products, magnitudes, apart, few, np.empty(rows, np.bool_)), found


@part
def clear(room):
    room.products[:] = 0
    room.magnitudes[:] = 0
    room.apart[:] = 0


@part
def take_off(x, base, out):
    for i in range(out.size):
        out[i] = x[i] - base[i]


# Rows are told by their numbers: a slice takes as long as a hundred entries.


@part
def scan_tile(room, cuts, marks):
    for k in range(len(room.tiles)):
        scan_row(room.tiles, k, room)
        if k > 0:
            mark(room.tiles, k, bits_of(cuts[k - 1]), room.marks)
            count_pair(room.marks, k - 1, k - 1, marks)
        for j in range(k):
            if room.is_narrow[j] and room.is_narrow[k]:
                multiply(room.tiles, k, j, room.few)
                add_few(room.few, 0, room.products, k, j)
            else:
                multiply_wide(room.tiles, k, j, room.products)
        for j in range(1, k):
            if room.is_narrow[j] and room.is_narrow[k]:
                take_apart(room.tiles, k, j, room.few)
                add_few(room.few, 0, room.apart[0], k - 1, j - 1)
                add_few(room.few, 1, room.apart[1], k - 1, j - 1)
            else:
                take_apart_wide(room.tiles, k, j, room.apart)
            count_pair(room.marks, k - 1, j - 1, marks)


@part
def scan_row(tiles, k, room):
    """A row alone, which tells whether its products fit float32."""
    add_up(tiles, k, room.few)
    is_zero = largest_of(room.few) == np.uint32(0)
    for i in range(LANES):
        room.few[1, i] = room.few[0, i]
    multiply(tiles, k, k, room.few)
    room.is_narrow[k] = is_zero or LEAST <= largest_of(room.few) <= MOST
    if room.is_narrow[k]:
        add_few(room.few, 0, room.products, k, k)
        for i in range(LANES):
            room.magnitudes[k, i] += np.float64(room.few[1, i])
    else:
        multiply_wide(tiles, k, k, room.products)
        add_up_wide(tiles, k, room.magnitudes)


@part
def largest_of(few):  # of what is not negative, as its bits order it
    largest = np.uint32(0)
    for i in range(LANES):
        largest = max(largest, bits_of(few[0, i]))
    return largest


@part
def add_few(
    few, which, lanes, k, j
):  # float32 to float64, apart from what made it: in one loop that is ten times as slow
    for i in range(LANES):
        lanes[k, j, i] += np.float64(few[which, i])


# The numbers of a lane at once, so that they are added up in registers.


@part
def add_up(tiles, k, few):
    for i in range(LANES):
        first = four_magnitudes(tiles, k, i) + four_magnitudes(tiles, k, i + 4 * LANES)
        few[0, i] = first + (four_magnitudes(tiles, k, i + 8 * LANES) + four_magnitudes(tiles, k, i + 12 * LANES))


@part
def four_magnitudes(tiles, k, i):
    first = abs(tiles[k, i]) + abs(tiles[k, i + LANES])
    return first + (abs(tiles[k, i + 2 * LANES]) + abs(tiles[k, i + 3 * LANES]))


@part
def multiply(tiles, k, j, few):
    for i in range(LANES):
        first = four_products(tiles, k, j, i) + four_products(tiles, k, j, i + 4 * LANES)
        few[0, i] = first + (four_products(tiles, k, j, i + 8 * LANES) + four_products(tiles, k, j, i + 12 * LANES))


@part
def four_products(tiles, k, j, i):
    first = tiles[k, i] * tiles[j, i] + tiles[k, i + LANES] * tiles[j, i + LANES]
    third = tiles[k, i + 2 * LANES] * tiles[j, i + 2 * LANES]
    return first + (third + tiles[k, i + 3 * LANES] * tiles[j, i + 3 * LANES])


@part
def take_apart(tiles, k, j, few):
    for i in range(LANES):
        first = four_sums(tiles, k, j, i) + four_sums(tiles, k, j, i + 4 * LANES)
        few[0, i] = first + (four_sums(tiles, k, j, i + 8 * LANES) + four_sums(tiles, k, j, i + 12 * LANES))
    for i in range(LANES):
        first = four_differences(tiles, k, j, i) + four_differences(tiles, k, j, i + 4 * LANES)
        second = four_differences(tiles, k, j, i + 8 * LANES) + four_differences(tiles, k, j, i + 12 * LANES)
        few[1, i] = first + second


@part
def four_sums(tiles, k, j, i):
    first = abs(tiles[k, i] + tiles[j, i]) + abs(tiles[k, i + LANES] + tiles[j, i + LANES])
    third = abs(tiles[k, i + 2 * LANES] + tiles[j, i + 2 * LANES])
    return first + (third + abs(tiles[k, i + 3 * LANES] + tiles[j, i + 3 * LANES]))


@part
def four_differences(tiles, k, j, i):
    first = abs(tiles[k, i] - tiles[j, i]) + abs(tiles[k, i + LANES] - tiles[j, i + LANES])
    third = abs(tiles[k, i + 2 * LANES] - tiles[j, i + 2 * LANES])
    return first + (third + abs(tiles[k, i + 3 * LANES] - tiles[j, i + 3 * LANES]))


# The same in float64, for tiles that float32 would lose.


@part
def multiply_wide(tiles, k, j, products):
    for i in range(TILE):
        products[k, j, i % LANES] += np.float64(tiles[k, i]) * np.float64(tiles[j, i])


@part
def add_up_wide(tiles, k, magnitudes):
    for i in range(TILE):
        magnitudes[k, i % LANES] += np.float64(abs(tiles[k, i]))


@part
def take_apart_wide(tiles, k, j, apart):
    for i in range(TILE):
        x, y = np.float64(tiles[k, i]), np.float64(tiles[j, i])
        apart[0, k - 1, j - 1, i % LANES] += abs(x + y)
        apart[1, k - 1, j - 1, i % LANES] += abs(x - y)


# Signs.


@part
def mark(tiles, k, cut, marks):  # the cut as its bits, which are not zero
    for i in range(TILE):
        bits = bits_of(tiles[k, i])
        magnitude = np.uint32(bits & np.uint32(MAGNITUDE))
        changed = np.uint32(magnitude != np.uint32(0))
        kept = np.uint32(np.uint32(magnitude >= cut) << np.uint32(1))
        down = np.uint32(np.uint32(bits >> np.uint32(29)) & np.uint32(4))
        marks[k - 1, i] = np.uint8(np.uint32(np.uint32(changed | kept) | down))


@part
def count_pair(marks, k, j, found):  # found: int64 [4, n, n]
    for at in range(0, TILE, BYTES):
        both, against, kept, kept_against = np.uint8(0), np.uint8(0), np.uint8(0), np.uint8(0)
        for i in range(BYTES):
            shared = np.uint8(marks[k, at + i] & marks[j, at + i])
            apart = np.uint8(np.uint8(marks[k, at + i] ^ marks[j, at + i]) >> np.uint8(2))
            changed, is_kept = np.uint8(shared & CHANGED), np.uint8(np.uint8(shared >> np.uint8(1)) & CHANGED)
            both = np.uint8(both + changed)
            against = np.uint8(against + np.uint8(changed & apart))
            kept = np.uint8(kept + is_kept)
            kept_against = np.uint8(kept_against + np.uint8(is_kept & apart))
        found[0, k, j] += both
        found[1, k, j] += against
        found[2, k, j] += kept
        found[3, k, j] += kept_against


@part
def sum_up(room, found):
    rows = len(room.products)
    n = rows - 1
    for k in range(rows):
        found[rows * rows + k] = halved(room.magnitudes[k])
        for j in range(k + 1):
            found[k * rows + j] = found[j * rows + k] = halved(room.products[k, j])
    pairs = found[rows * rows + rows :]
    pairs[:] = 0
    for which in range(2):
        for k in range(n):
            for j in range(k):
                pairs[(which * n + k) * n + j] = halved(room.apart[which, k, j])
