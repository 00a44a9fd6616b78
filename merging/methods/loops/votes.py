"""Sums of those entries whose sign most weight has elected, as in TIES."""

import numpy as np

from merging.methods.loops.compiling import SMALL_TILE, compiled, part
from merging.methods.loops.sums import add_scaled, scale


@compiled
def add_agreed(base, changes, factors, weights, divide, least, by):
    m = base.size
    out, room = np.empty(m, np.float32), np.empty((3, SMALL_TILE), np.float32)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        sign, total, voters = room[0, : part.size], room[1, : part.size], room[2, : part.size]
        elect(changes, at, factors, sign)
        sum_of_agreeing(changes, at, factors, weights, sign, total, voters)
        if divide:
            for i in range(part.size):
                total[i] /= voters[i] if abs(voters[i]) > least else np.float32(1)
        for i in range(part.size):
            part[i] = total[i] * by + from_base[i]
    return out


@compiled
def average_agreed(base, changes, weights, least):
    n, m = changes.shape
    out, room = np.empty(m, np.float32), np.empty((3, SMALL_TILE), np.float32)
    alike = np.ones(n, np.float32)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        sign, total, voters = room[0, : part.size], room[1, : part.size], room[2, : part.size]
        elect(changes, at, alike, sign)
        sum_of_agreeing(changes, at, weights, weights, sign, total, voters)
        for i in range(part.size):
            part[i] = total[i] / max(voters[i], least) + from_base[i]
    return out


@part
def elect(changes, at, votes, sign):
    """1 where the sum of all v_i * x_i is zero or more, else -1; for a tile."""
    scale(changes[0, at : at + sign.size], votes[0], sign)
    for k in range(1, len(changes)):
        add_scaled(changes[k, at : at + sign.size], votes[k], sign)
    for i in range(sign.size):
        sign[i] = np.float32(1) if sign[i] >= np.float32(0) else np.float32(-1)


@part
def sum_of_agreeing(changes, at, factors, weights, sign, total, voters):
    """The sum of those f_i * x_i that have the sign, and the sum of the w_i of those; for a tile."""
    total[:] = 0
    voters[:] = 0
    for k in range(len(changes)):
        add_agreeing(changes[k, at : at + sign.size], factors[k], weights[k], sign, total, voters)
    for i in range(total.size):
        total[i] *= sign[i]


@part
def add_agreeing(x, factor, weight, sign, total, voters):
    for i in range(total.size):
        agreeing = x[i] * factor * sign[i]
        agrees = agreeing > np.float32(0)
        total[i] += agreeing if agrees else np.float32(0)
        voters[i] += weight if agrees else np.float32(0)
