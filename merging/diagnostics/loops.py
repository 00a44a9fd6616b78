"""The inner loops of a diagnosis, compiled by Numba: every tile of a block is loaded once, and all is added up from it.

A tile has the reference in row 0 and what each model changed of it in the others, as float32. Within a tile sums are
float32, of SPAN numbers to a lane; from tile to tile they are float64, in lanes that are then halved, as in
merging/methods/loops: the same bits on any machine, and off by less than a millionth of the norms. A tile that is not
whole, or whose squares float32 would lose, is added up in float64.
"""

from typing import Any, NamedTuple

import numpy as np

from merging.budget import GRAIN
from merging.methods.loops.compiling import MAGNITUDE, bits_of, compiled, part
from merging.methods.loops.counts import count_places
from merging.methods.loops.products import halved
from merging.methods.loops.standing import add_wide
from merging.methods.loops.tiles import TILE, load

LANES = 64
SPAN = TILE // LANES  # 16, which add_up_in_fours has written out
BYTES = 64  # marks that are counted in a byte at a time, which holds 255
HALF = 0x7FFF  # the upper half of the bits, without the sign
# Marks of an entry: 1 where it was changed, 2 where by the cut or more, 4 where downwards.
CHANGED = np.uint8(1)
# The largest sum of squares in a lane, as bits: between these, no product of two such rows is lost in float32.
LEAST, MOST = np.uint32(0x1E3CE508), np.uint32(0x7149F2CA)  # 1e-20, 1e30


@compiled
def count_stored(flat, begins, m, counts):
    """`count_wide` of bfloat16 rows as they are stored: row i is flat[begins[i] : begins[i] + m]."""
    tile, places = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for k in range(1, begins.size):
        for at in range(0, m, TILE):
            size = min(TILE, m - at)
            load(flat, begins[k], begins[0], at, tile[:size])
            count_places(tile[:size], np.uint32(HALF), places, counts[k - 1])


@compiled
def count_wide(wide, counts):  # float32 [1 + n, m]
    """Add to int64 [n, 65536] how many changes have which upper half of their bits, twice, and 1 more where the lower
    half is not zero.
    """
    tile, places = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for k in range(1, len(wide)):
        for at in range(0, wide.shape[1], TILE):
            size = min(TILE, wide.shape[1] - at)
            take_off(wide[k, at : at + size], wide[0, at : at + size], tile[:size])
            count_places(tile[:size], np.uint32(HALF), places, counts[k - 1])


@compiled
def scan_stored(flat, begins, m, cuts, marks):
    """`scan_wide` of bfloat16 rows as they are stored."""
    tiles, room, found = room_for(begins.size, m)
    for grain in range(len(found)):
        clear(room)
        for at in range(grain * GRAIN, min(m, (grain + 1) * GRAIN), TILE):
            size = min(TILE, m - at)
            load(flat, begins[0], -1, at, tiles[0, :size])
            for k in range(1, begins.size):
                load(flat, begins[k], begins[0], at, tiles[k, :size])
            scan_tile(tiles, size, room, cuts, marks)
        sum_up(room, found[grain])
    return found


@compiled
def scan_wide(wide, cuts, marks):  # float32 [1 + n, m]
    """A row of sums for each grain: products of the reference and all changes, [1 + n, 1 + n]; magnitudes of changes,
    [n]; and for each pair of models magnitudes of the sum and of the difference of their changes, [2, n, n].

    Adds to `marks`, int64 [4, n, n], how many entries both changed, and how many against each other; and how many both
    changed by their cuts or more, and against each other. On the diagonals, what one model changed.
    """
    tiles, room, found = room_for(len(wide), wide.shape[1])
    for grain in range(len(found)):
        clear(room)
        for at in range(grain * GRAIN, min(wide.shape[1], (grain + 1) * GRAIN), TILE):
            size = min(TILE, wide.shape[1] - at)
            tiles[0, :size] = wide[0, at : at + size]
            for k in range(1, len(wide)):
                take_off(wide[k, at : at + size], wide[0, at : at + size], tiles[k, :size])
            scan_tile(tiles, size, room, cuts, marks)
        sum_up(room, found[grain])
    return found


class Room(NamedTuple):
    """What one thread adds up in, tile by tile."""

    marks: Any  # uint8 [n, TILE]
    products: Any  # float64 [1 + n, 1 + n, LANES]
    magnitudes: Any  # float64 [n, LANES]
    apart: Any  # float64 [2, n, n, LANES]
    few: Any  # float32 [LANES], of one tile
    is_narrow: Any  # bool [1 + n]: rows whose products fit float32, in one tile


@part
def room_for(rows, m):
    """Tiles, room, and the sums of every grain; one, of nothing, where there are none."""
    n = rows - 1
    products, magnitudes = np.empty((rows, rows, LANES), np.float64), np.empty((n, LANES), np.float64)
    apart, few, is_narrow = (
        np.empty((2, n, n, LANES), np.float64),
        np.empty(LANES, np.float32),
        np.empty(rows, np.bool_),
    )
    found = np.empty((max(1, (m + GRAIN - 1) // GRAIN), rows * rows + n + 2 * n * n), np.float64)
    room = Room(np.empty((n, TILE), np.uint8), products, magnitudes, apart, few, is_narrow)
    return np.empty((rows, TILE), np.float32), room, found


@part
def clear(room):
    room.products[:] = 0
    room.magnitudes[:] = 0
    room.apart[:] = 0


@part
def take_off(x, base, out):
    for i in range(out.size):
        out[i] = x[i] - base[i]


@part
def scan_tile(tiles, size, room, cuts, marks):
    for k in range(len(tiles)):
        room.is_narrow[k] = False
        if size == TILE:
            multiply_span(tiles[k], tiles[k], room.few)
            room.is_narrow[k] = LEAST <= largest_of(room.few.view(np.uint32)) <= MOST
        if room.is_narrow[k]:
            add_wide(room.few, room.products[k, k])
        else:
            add_products(tiles[k, :size], tiles[k, :size], room.products[k, k])
        if k > 0:
            if room.is_narrow[k]:
                add_magnitudes_of_span(tiles[k], room.magnitudes[k - 1])
            else:
                add_magnitudes(tiles[k, :size], room.magnitudes[k - 1])
            mark(tiles[k, :size], bits_of(cuts[k - 1]), room.marks[k - 1, :size])
            count_pair(room.marks[k - 1, :size], room.marks[k - 1, :size], marks[:, k - 1, k - 1])
        for j in range(k):
            pair_up(tiles, size, room, j, k, marks)


@part
def pair_up(tiles, size, room, j, k, marks):
    x, y = tiles[k], tiles[j]
    are_narrow = room.is_narrow[j] and room.is_narrow[k]
    if are_narrow:
        multiply_span(x, y, room.few)
        add_wide(room.few, room.products[k, j])
    else:
        add_products(x[:size], y[:size], room.products[k, j])
    if j == 0:
        return
    of_sum, of_difference = room.apart[0, k - 1, j - 1], room.apart[1, k - 1, j - 1]
    if are_narrow:
        add_apart_of_span(x, y, of_sum, of_difference)
    else:
        add_apart(x[:size], y[:size], of_sum, of_difference)
    count_pair(room.marks[k - 1, :size], room.marks[j - 1, :size], marks[:, k - 1, j - 1])


@part
def largest_of(bits):  # of what is not negative, as it orders the numbers
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = bits[i] if bits[i] > largest else largest
    return largest


# In float64, by the lane that a number is in. Loops inside of loops, since slices for so few numbers would take as long
# as the numbers.


@part
def add_products(x, y, lanes):
    whole = x.size - x.size % LANES
    for at in range(0, whole, LANES):
        for i in range(LANES):
            lanes[i] += np.float64(x[at + i]) * np.float64(y[at + i])
    for i in range(x.size - whole):
        lanes[i] += np.float64(x[whole + i]) * np.float64(y[whole + i])


@part
def add_magnitudes(x, lanes):
    whole = x.size - x.size % LANES
    for at in range(0, whole, LANES):
        for i in range(LANES):
            lanes[i] += np.float64(abs(x[at + i]))
    for i in range(x.size - whole):
        lanes[i] += np.float64(abs(x[whole + i]))


@part
def add_apart(x, y, of_sum, of_difference):
    whole = x.size - x.size % LANES
    for at in range(0, whole, LANES):
        for i in range(LANES):
            of_sum[i] += abs(np.float64(x[at + i]) + np.float64(y[at + i]))
            of_difference[i] += abs(np.float64(x[at + i]) - np.float64(y[at + i]))
    for i in range(x.size - whole):
        of_sum[i] += abs(np.float64(x[whole + i]) + np.float64(y[whole + i]))
        of_difference[i] += abs(np.float64(x[whole + i]) - np.float64(y[whole + i]))


# Of a whole tile: the SPAN numbers of each lane at once, so that they are added up in registers.


@part
def multiply_span(x, y, lanes):  # into float32: with float64 in the same loop it takes ten times as long
    for i in range(LANES):
        first = four_products(x, y, i) + four_products(x, y, i + 4 * LANES)
        lanes[i] = first + (four_products(x, y, i + 8 * LANES) + four_products(x, y, i + 12 * LANES))


@part
def four_products(x, y, i):
    first = x[i] * y[i] + x[i + LANES] * y[i + LANES]
    return first + (x[i + 2 * LANES] * y[i + 2 * LANES] + x[i + 3 * LANES] * y[i + 3 * LANES])


@part
def add_magnitudes_of_span(x, lanes):
    for i in range(LANES):
        first = four_magnitudes(x, i) + four_magnitudes(x, i + 4 * LANES)
        lanes[i] += np.float64(first + (four_magnitudes(x, i + 8 * LANES) + four_magnitudes(x, i + 12 * LANES)))


@part
def four_magnitudes(x, i):
    return (abs(x[i]) + abs(x[i + LANES])) + (abs(x[i + 2 * LANES]) + abs(x[i + 3 * LANES]))


@part
def add_apart_of_span(x, y, of_sum, of_difference):
    for i in range(LANES):
        first = four_sums(x, y, i) + four_sums(x, y, i + 4 * LANES)
        of_sum[i] += np.float64(first + (four_sums(x, y, i + 8 * LANES) + four_sums(x, y, i + 12 * LANES)))
        first = four_differences(x, y, i) + four_differences(x, y, i + 4 * LANES)
        second = four_differences(x, y, i + 8 * LANES) + four_differences(x, y, i + 12 * LANES)
        of_difference[i] += np.float64(first + second)


@part
def four_sums(x, y, i):
    first = abs(x[i] + y[i]) + abs(x[i + LANES] + y[i + LANES])
    return first + (abs(x[i + 2 * LANES] + y[i + 2 * LANES]) + abs(x[i + 3 * LANES] + y[i + 3 * LANES]))


@part
def four_differences(x, y, i):
    first = abs(x[i] - y[i]) + abs(x[i + LANES] - y[i + LANES])
    return first + (abs(x[i + 2 * LANES] - y[i + 2 * LANES]) + abs(x[i + 3 * LANES] - y[i + 3 * LANES]))


# Signs.


@part
def mark(x, cut, out):  # the cut as its bits, which are not zero
    for i in range(out.size):
        bits = bits_of(x[i])
        magnitude = np.uint32(bits & np.uint32(MAGNITUDE))
        changed = np.uint32(magnitude != np.uint32(0))
        kept = np.uint32(np.uint32(magnitude >= cut) << np.uint32(1))
        down = np.uint32(np.uint32(bits >> np.uint32(29)) & np.uint32(4))
        out[i] = np.uint8(np.uint32(np.uint32(changed | kept) | down))


@part
def count_pair(x, y, found):  # found: int64 [4]
    whole = x.size - x.size % BYTES
    for at in range(0, whole, BYTES):
        both, against, kept, kept_against = np.uint8(0), np.uint8(0), np.uint8(0), np.uint8(0)
        for i in range(BYTES):
            shared = np.uint8(x[at + i] & y[at + i])
            apart = np.uint8(np.uint8(x[at + i] ^ y[at + i]) >> np.uint8(2))
            changed, is_kept = np.uint8(shared & CHANGED), np.uint8(np.uint8(shared >> np.uint8(1)) & CHANGED)
            both = np.uint8(both + changed)
            against = np.uint8(against + np.uint8(changed & apart))
            kept = np.uint8(kept + is_kept)
            kept_against = np.uint8(kept_against + np.uint8(is_kept & apart))
        found[0] += both
        found[1] += against
        found[2] += kept
        found[3] += kept_against
    for i in range(whole, x.size):
        shared, apart = x[i] & y[i], (x[i] ^ y[i]) >> 2
        found[0] += shared & 1
        found[1] += shared & apart & 1
        found[2] += shared >> 1 & 1
        found[3] += shared >> 1 & apart & 1


@part
def sum_up(room, found):
    rows, n = len(room.products), len(room.magnitudes)
    for k in range(rows):
        for j in range(k + 1):
            found[k * rows + j] = found[j * rows + k] = halved(room.products[k, j])
    for k in range(n):
        found[rows * rows + k] = halved(room.magnitudes[k])
    pairs = found[rows * rows + n :]
    pairs[:] = 0
    for which in range(2):
        for k in range(n):
            for j in range(k):
                pairs[(which * n + k) * n + j] = halved(room.apart[which, k, j])
