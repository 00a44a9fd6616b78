"""Scores of PCB, by a change's size within its model and its agreement with all others, and means by them."""

import math

import numpy as np

from merging.methods.loops.compiling import SMALL_TILE, compiled, part


@compiled
def standing_scores(deltas, low, high):
    n, m = deltas.shape
    out, room = np.empty((n, m), np.float32), np.empty((4, SMALL_TILE), np.float64)
    for at in range(0, m, SMALL_TILE):
        size = min(SMALL_TILE, m - at)
        total, standing, agreement, spare = room[0, :size], room[1, :size], room[2, :size], room[3, :size]
        total[:] = 0
        for k in range(n):
            add_wide(deltas[k, at : at + SMALL_TILE], total)
        for k in range(n):
            stand(deltas[k, at : at + SMALL_TILE], total, low[k], high[k], n, standing, agreement)
            exp_each(standing, spare)
            tanh_each(agreement)
            multiply(standing, agreement, out[k, at : at + SMALL_TILE])
    return out


@part
def multiply(x, y, out):
    for i in range(out.size):
        out[i] = np.float32(x[i] * y[i])


@part
def add_wide(x, out):
    for i in range(out.size):
        out[i] += np.float64(x[i])


@part
def stand(x, total, low, high, models, standing, agreement):
    over = 1 / (high - low) if high > low else 0.0
    for i in range(total.size):
        change = np.float64(x[i])
        share = (min(max(abs(change), low), high) - low) * over
        standing[i] = models * share * share
        agreement[i] = change * total[i]


@part
def exp_each(x, spare):
    """In place, for 0 <= x < 700, to 1e-15 of it; in steps that vector units have, which math.exp has not."""
    powers = spare.view(np.int64)
    for i in range(x.size):
        k = np.floor(x[i] * 1.4426950408889634 + 0.5)
        r = x[i] - k * 0.6931471803691238 - k * 1.9082149292705877e-10  # ln 2 in two parts
        p = r * (1 / 39916800 + r * (1 / 479001600 + r / 6227020800))
        p = r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + p)))
        p = r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + p)))
        x[i] = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + p))))
        powers[i] = (np.int64(k) + 1023) << 52
    for i in range(x.size):
        x[i] *= spare[i]


@part
def tanh_each(x):
    """In place, to 1e-14 of it: its series where x is small, which products of changes are; else by exp."""
    largest = 0.0
    for i in range(x.size):
        largest = max(largest, abs(x[i]))
    if largest < 0.1:
        for i in range(x.size):
            x[i] = tanh_of_small(x[i])
        return
    for i in range(x.size):
        small, e = tanh_of_small(x[i]), math.exp(2 * min(abs(x[i]), 20.0))
        far = 1 - 2 / (e + 1)
        x[i] = small if abs(x[i]) < 0.1 else far if x[i] > 0 else -far


@part
def tanh_of_small(x):
    z = x * x
    p = z * (-17 / 315 + z * (62 / 2835 + z * (-1382 / 155925 + z * (21844 / 6081075))))
    return x * (1 + z * (-1 / 3 + z * (2 / 15 + p)))


@compiled
def mean_by_standing(base, deltas, scores, low, high, cuts, largest, by):
    n, m = deltas.shape
    out, room = np.empty(m, np.float32), np.empty((2, SMALL_TILE), np.float64)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        change, total = room[0, : part.size], room[1, : part.size]
        room[:] = 0
        for k in range(n):
            add_standing(
                deltas[k, at : at + SMALL_TILE], scores[k, at : at + SMALL_TILE], low[k], high[k], cuts[k], largest[k],
                change, total,
            )  # fmt: skip
        for i in range(part.size):
            mean = change[i] / (total[i] if total[i] != 0 else 1.0)
            part[i] = np.float32(np.float64(from_base[i]) + mean * by)
    return out


@part
def add_standing(x, scores, low, high, cut, largest, change, total):
    over = 1 / (largest - cut) if largest > cut else 0.0
    for i in range(total.size):
        magnitude = min(max(np.float64(abs(x[i])), low), high)
        clamped = magnitude if x[i] > 0 else -magnitude if x[i] < 0 else 0.0
        score = np.float64(scores[i])
        weight = max(score - cut, 0.0) * over if largest > cut else (1.0 if score >= cut else 0.0)
        change[i] += weight * clamped
        total[i] += weight
