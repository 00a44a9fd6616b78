"""How far apart changes are, which are one model's own, and which matter to enough models."""

import numpy as np

from merging.methods.loops.compiling import SMALL_TILE, compiled, part

LEAST_SPREAD = 2.0**-133  # the least float32 whose upper half is not zero


@compiled
def spread(base, models):
    n, m = models.shape
    out, room = np.empty((1, m), np.float32), np.empty((3, SMALL_TILE), np.float64)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[0, at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        mean, squares, differs = room[0, : part.size], room[1, : part.size], room[2, : part.size]
        room[:] = 0
        for k in range(n):
            add_wide_change(models[k, at : at + SMALL_TILE], from_base, mean)
        for i in range(mean.size):
            mean[i] /= n
        for k in range(n):
            add_square(
                models[k, at : at + SMALL_TILE], models[0, at : at + SMALL_TILE], from_base, mean, squares, differs
            )
        for i in range(part.size):
            part[i] = max(np.float32(np.sqrt(squares[i] / n)), np.float32(LEAST_SPREAD)) * np.float32(differs[i])
    return out


@part
def add_wide_change(x, base, out):
    for i in range(out.size):
        out[i] += np.float64(x[i]) - np.float64(base[i])


@part
def add_square(x, first, base, mean, squares, differs):
    for i in range(mean.size):
        off = np.float64(x[i]) - np.float64(base[i]) - mean[i]
        squares[i] += off * off
        differs[i] = 1.0 if x[i] != first[i] else differs[i]


@compiled
def add_own_and_shared(base, deltas, epsilon, factors):
    n, m = deltas.shape
    out, room = np.empty(m, np.float32), np.empty(SMALL_TILE, np.float32)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        count = room[: part.size]
        count_changed(deltas, at, epsilon, count)
        part[:] = 0
        for k in range(n):
            add_changed(deltas[k, at : at + SMALL_TILE], epsilon, factors[k], count, part)
        for i in range(part.size):
            part[i] = part[i] / max(count[i], np.float32(1)) + from_base[i]
    return out


@part
def count_changed(deltas, at, epsilon, count):
    count[:] = 0
    for k in range(len(deltas)):
        x = deltas[k, at : at + count.size]
        for i in range(count.size):
            count[i] += np.float32(1) if abs(x[i]) > epsilon else np.float32(0)


@part
def add_changed(x, epsilon, factor, count, out):
    for i in range(out.size):
        own = x[i] * factor if count[i] == np.float32(1) else x[i]
        out[i] += own if abs(x[i]) > epsilon else np.float32(0)


@compiled
def count_own_and_shared(deltas, epsilon):  # int64 [n, 2]
    n, m = deltas.shape
    out, room = np.zeros((n, 2), np.int64), np.empty(SMALL_TILE, np.float32)
    for at in range(0, m, SMALL_TILE):
        count = room[: min(SMALL_TILE, m - at)]
        count_changed(deltas, at, epsilon, count)
        for k in range(n):
            own, shared = own_and_shared(deltas[k, at : at + SMALL_TILE], epsilon, count)
            out[k, 0] += own
            out[k, 1] += shared
    return out


@part
def own_and_shared(x, epsilon, count):
    own, changed = np.int32(0), np.int32(0)
    for i in range(count.size):
        changed += np.int32(abs(x[i]) > epsilon)
        own += np.int32((abs(x[i]) > epsilon) & (count[i] == np.float32(1)))
    return own, changed - own


@compiled
def add_consensus(base, models, cuts, least, by):
    n, m = models.shape
    out, room = np.empty(m, np.float32), np.empty((2, SMALL_TILE), np.float64)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        total, matters = room[0, : part.size], room[1, : part.size]
        room[:] = 0
        for k in range(n):
            add_wide_change(models[k, at : at + SMALL_TILE], from_base, total)
        for k in range(n):
            count_if_it_matters(models[k, at : at + SMALL_TILE], from_base, cuts[k], total, matters)
        for i in range(part.size):
            agreed = total[i] if matters[i] >= least else 0.0
            part[i] = np.float32(np.float64(from_base[i]) + agreed * by)
    return out


@part
def count_if_it_matters(x, base, cut, total, matters):
    for i in range(total.size):
        change = np.float64(x[i]) - np.float64(base[i])
        matters[i] += 1.0 if abs(change) > cut * abs(total[i] - change) else 0.0
