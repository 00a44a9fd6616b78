"""What kernels add up of bfloat16 rows as they are stored, a tile at a time: into uint16 or float32 [m].

Each adds up as its namesake among the other loops does, in the same order: the bits are the same, and tests hold both
to it. All return the bits of the largest magnitude. What the rows are, tiles.py says.
"""

import numpy as np

from merging.methods.loops.compiling import compiled, part
from merging.methods.loops.sums import add_scaled
from merging.methods.loops.tiles import TILE, change, load_kept, store, tile_of, wide
from merging.methods.loops.votes import add_agreeing


@compiled
def weighted_sum(flat, begins, weights, out):
    room, worst = np.empty(TILE, np.float32), np.uint32(0)
    for at in range(0, out.size, TILE):
        here = out[at : at + TILE]
        total = room[: here.size]
        total[:] = np.float32(-0.0)  # which changes nothing that is added to it
        add_rows(flat, begins, weights, at, total)
        worst = max(worst, store(total, here))
    return worst


@part
def add_rows(flat, begins, weights, at, total):
    """Two rows at a time, so that the sum stays in registers meanwhile."""
    size = total.size
    for k in range(0, weights.size - 1, 2):
        v, w = weights[k], weights[k + 1]
        x, y = tile_of(flat, begins[k], at, size), tile_of(flat, begins[k + 1], at, size)
        for i in range(size):
            total[i] = total[i] + wide(x, i) * v + wide(y, i) * w
    if weights.size % 2:
        v, x = weights[-1], tile_of(flat, begins[-1], at, size)
        for i in range(size):
            total[i] = total[i] + wide(x, i) * v


@compiled
def add_changes(flat, begins, base, weights, start, out):
    """`start` and the weighted sum of what the rows changed, in order, and then the base."""
    room, worst = np.empty(TILE, np.float32), np.uint32(0)
    for at in range(0, out.size, TILE):
        here = out[at : at + TILE]
        total = room[: here.size]
        total[:] = start
        add_changed_rows(flat, begins, base, weights, at, total)
        worst = max(worst, store(total, here))
    return worst


@part
def add_changed_rows(flat, begins, base, weights, at, total):
    """And the base with the last one or two: every loop more over a tile is seen in a merge in memory."""
    n, size = weights.size, total.size
    from_base, last = tile_of(flat, base, at, size), n - 2 + n % 2
    for k in range(0, last, 2):
        v, w = weights[k], weights[k + 1]
        x, y = tile_of(flat, begins[k], at, size), tile_of(flat, begins[k + 1], at, size)
        for i in range(size):
            total[i] = total[i] + change(x, from_base, i) * v + change(y, from_base, i) * w
    v, x = weights[last], tile_of(flat, begins[last], at, size)
    if n % 2:
        for i in range(size):
            total[i] = total[i] + change(x, from_base, i) * v + wide(from_base, i)
    else:
        w, y = weights[n - 1], tile_of(flat, begins[n - 1], at, size)
        for i in range(size):
            total[i] = total[i] + change(x, from_base, i) * v + change(y, from_base, i) * w + wide(from_base, i)


@part
def add_wide(stored, out):
    for i in range(out.size):
        out[i] += wide(stored, i)


@compiled
def add_kept(flat, begins, base, chosen, weights, onto, out):
    """The weighted sum of what is kept of the rows, in order, and then the row at `onto`."""
    room, rest, halves = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE + 8, np.uint16)
    worst = np.uint32(0)
    for at in range(0, out.size, TILE):
        here = out[at : at + TILE]
        total, kept = room[: here.size], rest[: here.size]
        total[:] = np.float32(-0.0)
        for k in range(weights.size):
            load_kept(flat, begins[k], base, chosen, k, at, halves, kept)
            add_scaled(kept, weights[k], total)
        add_wide(tile_of(flat, onto, at, here.size), total)
        worst = max(worst, store(total, here))
    return worst


@compiled
def blend(flat, x, y, of_x, of_y, out):
    room, worst = np.empty(TILE, np.float32), np.uint32(0)
    for at in range(0, out.size, TILE):
        here = out[at : at + TILE]
        total, a, b = room[: here.size], tile_of(flat, x, at, here.size), tile_of(flat, y, at, here.size)
        for i in range(here.size):
            total[i] = wide(a, i) * of_x + wide(b, i) * of_y
        worst = max(worst, store(total, here))
    return worst


@compiled
def add_agreed(flat, begins, base, chosen, onto, factors, weights, divide, least, by, out):  # noqa: PLR0913 - as parts.py
    n = weights.size
    tiles, halves = np.empty((n + 3, TILE), np.float32), np.empty(TILE + 8, np.uint16)
    worst = np.uint32(0)
    for at in range(0, out.size, TILE):
        here = out[at : at + TILE]
        sign, total, voters = tiles[n, : here.size], tiles[n + 1, : here.size], tiles[n + 2, : here.size]
        for k in range(n):
            load_kept(flat, begins[k], base, chosen, k, at, halves, tiles[k, : here.size])
        vote(tiles, factors, sign)
        total[:] = 0
        voters[:] = 0
        for k in range(n):
            add_agreeing(tiles[k, : here.size], factors[k], weights[k], sign, total, voters)
        finish_vote(tile_of(flat, onto, at, here.size), sign, voters, divide, least, by, total)
        worst = max(worst, store(total, here))
    return worst


@part
def vote(tiles, factors, sign):
    sign[:] = np.float32(-0.0)
    for k in range(factors.size):
        add_scaled(tiles[k, : sign.size], factors[k], sign)
    for i in range(sign.size):
        sign[i] = np.float32(1) if sign[i] >= np.float32(0) else np.float32(-1)


@part
def finish_vote(base, sign, voters, divide, least, by, total):
    if divide:
        for i in range(total.size):
            mean = total[i] * sign[i] / (voters[i] if abs(voters[i]) > least else np.float32(1))
            total[i] = mean * by + wide(base, i)
    else:
        for i in range(total.size):
            total[i] = total[i] * sign[i] * by + wide(base, i)
