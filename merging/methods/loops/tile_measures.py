"""What measures find in bfloat16 rows as they are stored, a tile at a time.

The bits are those of the other loops, for each grain of so many elements, which is a whole number of tiles.
What the rows are, tiles.py says.
"""

import numpy as np

from merging.methods.loops.compiling import LANES, compiled, part
from merging.methods.loops.counts import count_each, count_places, take_inside
from merging.methods.loops.products import halved
from merging.methods.loops.tiles import TILE, load, load_kept


@compiled
def sums_around(flat, begins, base, chosen, m, grain):  # float64 [grains, 2, n]: of all, and of what is kept
    room, kept, halves = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE + 8, np.uint16)
    of_all, of_kept = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    out = np.empty((max(1, -(-m // grain)), 2, begins.size), np.float64)
    for g in range(len(out)):
        for k in range(begins.size):
            of_all[:] = 0
            of_kept[:] = 0
            for at in range(g * grain, min(m, (g + 1) * grain), TILE):
                tile, those = room[: min(TILE, m - at)], kept[: min(TILE, m - at)]
                load(flat, begins[k], base, at, tile)
                load_kept(flat, begins[k], base, chosen, k, at, halves, those)
                add_magnitudes(tile, of_all)
                add_magnitudes(those, of_kept)
            out[g, 0, k], out[g, 1, k] = halved(of_all), halved(of_kept)
    return out


@part
def add_magnitudes(tile, lanes):
    """Four to a lane at a time, so that the sum stays in registers meanwhile."""
    whole = tile.size // (4 * LANES) * 4 * LANES
    for at in range(0, whole, 4 * LANES):
        a, b = tile[at : at + LANES], tile[at + LANES : at + 2 * LANES]
        c, d = tile[at + 2 * LANES : at + 3 * LANES], tile[at + 3 * LANES : at + 4 * LANES]
        for i in range(LANES):
            lanes[i] = (
                lanes[i]
                + np.float64(abs(a[i])) + np.float64(abs(b[i])) + np.float64(abs(c[i])) + np.float64(abs(d[i]))
            )  # fmt: skip
    for at in range(whole, tile.size, LANES):
        a = tile[at : at + LANES]
        for i in range(a.size):
            lanes[i] += np.float64(abs(a[i]))


@compiled
def grams(flat, begins, base, m, grain):  # float64 [grains, n, n]
    n = begins.size
    tiles, lanes = np.empty((n, TILE), np.float32), np.empty((n * n, LANES), np.float64)
    out = np.empty((max(1, -(-m // grain)), n, n), np.float64)
    for g in range(len(out)):
        lanes[:] = 0
        for at in range(g * grain, min(m, (g + 1) * grain), TILE):
            size = min(TILE, m - at)
            for k in range(n):
                load(flat, begins[k], base, at, tiles[k, :size])
            for j in range(n):
                for k in range(j + 1):
                    add_products(tiles[j, :size], tiles[k, :size], lanes[j * n + k])
        for j in range(n):
            for k in range(j + 1):
                out[g, j, k] = out[g, k, j] = halved(lanes[j * n + k])
    return out


@part
def add_products(x, y, lanes):
    whole = x.size // (4 * LANES) * 4 * LANES
    for at in range(0, whole, 4 * LANES):
        a, b = x[at : at + LANES], x[at + LANES : at + 2 * LANES]
        c, d = x[at + 2 * LANES : at + 3 * LANES], x[at + 3 * LANES : at + 4 * LANES]
        e, f = y[at : at + LANES], y[at + LANES : at + 2 * LANES]
        g, h = y[at + 2 * LANES : at + 3 * LANES], y[at + 3 * LANES : at + 4 * LANES]
        for i in range(LANES):
            lanes[i] = (
                lanes[i]
                + np.float64(a[i]) * np.float64(e[i]) + np.float64(b[i]) * np.float64(f[i])
                + np.float64(c[i]) * np.float64(g[i]) + np.float64(d[i]) * np.float64(h[i])
            )  # fmt: skip
    for at in range(whole, x.size, LANES):
        a, e = x[at : at + LANES], y[at : at + LANES]
        for i in range(a.size):
            lanes[i] += np.float64(a[i]) * np.float64(e[i])


@compiled
def count_high_halves(flat, begins, base, m, counts):  # adds to int64 [n, 2 * bins]
    room, places, mask = np.empty(TILE, np.float32), np.empty(TILE, np.uint32), np.uint32(counts.shape[1] // 2 - 1)
    for k in range(len(counts)):
        for at in range(0, m, TILE):
            tile = room[: min(TILE, m - at)]
            load(flat, begins[k], base, at, tile)
            count_places(tile, mask, places, counts[k])


@compiled
def count_low_halves(flat, begins, base, m, bins, mask, counts):
    room, inside = np.empty(TILE, np.float32), np.empty(TILE + 1, np.uint16)
    for k in range(len(counts)):
        for at in range(0, m, TILE):
            tile = room[: min(TILE, m - at)]
            load(flat, begins[k], base, at, tile)
            for j in range(bins.shape[1]):
                found = take_inside(tile, bins[k, j], np.uint32(mask), inside)
                count_each(inside[:found], counts[k, j])
