"""The inner loops on the CPU: what parts.py says, compiled by Numba, without Python's lock.

Every sum of float32 is rounded after each product and each addition, in the order of the models, so that vector units
of any width and GPUs give the same bits. Sums over elements are float64, in LANES lanes that are then halved.
Long rows are gone through in tiles, so that what one loop leaves the next finds in the nearest cache.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

TILE = 4096
LANES = 256
MAGNITUDE = 0x7FFFFFFF  # the bits of a float32 without its sign

# What is compiled is kept on the disk: only the first merge of a machine waits for it.
compiled: Callable[[Any], Any] = numba.njit(cache=True, nogil=True, error_model="numpy")


# Types of files: to float32 and back, with the bits of the largest magnitude.


@compiled
def widen_bf16(stored, out):  # uint16 [m] -> float32 [m]
    bits, worst = out.view(np.uint32), np.uint32(0)
    for i in range(stored.size):
        bits[i] = np.uint32(stored[i]) << np.uint32(16)
        worst = max(worst, bits[i] & np.uint32(MAGNITUDE))
    return worst


@compiled
def widen_f16(stored, out):  # uint16 [m] -> float32 [m]
    bits, worst = out.view(np.uint32), np.uint32(0)
    for i in range(stored.size):
        bits[i] = np.uint32(stored[i] & np.uint16(0x7FFF)) << np.uint32(13)
    for i in range(stored.size):
        out[i] *= np.float32(2.0**112)  # the exponent's new bias; subnormal numbers come right as well
    for i in range(stored.size):
        special = np.uint32(0x7F800000) if stored[i] & np.uint16(0x7C00) == np.uint16(0x7C00) else np.uint32(0)
        found = bits[i] | special
        worst = max(worst, found)
        bits[i] = found | np.uint32(stored[i] & np.uint16(0x8000)) << np.uint32(16)
    return worst


@compiled
def widen_f32(stored, out):  # float32 [m] -> float32 [m]
    bits, worst = stored.view(np.uint32), np.uint32(0)
    for i in range(stored.size):
        out[i] = stored[i]
        worst = max(worst, bits[i] & np.uint32(MAGNITUDE))
    return worst


@compiled
def narrow_bf16(wide, out):  # float32 [m] -> uint16 [m]
    bits, worst = wide.view(np.uint32), np.uint32(0)
    for i in range(wide.size):
        b = bits[i]
        worst = max(worst, b & np.uint32(MAGNITUDE))
        out[i] = np.uint16((b + np.uint32(0x7FFF) + (b >> np.uint32(16) & np.uint32(1))) >> np.uint32(16))
    return worst


@compiled
def narrow_f16(wide, out):  # float32 [m] -> uint16 [m]
    """Round to nearest, ties to even. Numbers too large for float16 come out wrong, and are told by the return."""
    worst, small = np.uint32(0), np.empty(TILE, np.float32)
    for at in range(0, wide.size, TILE):
        worst = max(worst, narrow_tile(wide[at : at + TILE].view(np.uint32), small, out[at : at + TILE]))
    return worst


@compiled
def narrow_tile(bits, small, out):
    small_bits, worst = small.view(np.uint32), np.uint32(0)
    for i in range(out.size):
        small_bits[i] = bits[i] & np.uint32(MAGNITUDE)
    for i in range(out.size):  # the last bit of numbers from one half on is float16's smallest step
        small[i] += np.float32(0.5)
    for i in range(out.size):
        magnitude = bits[i] & np.uint32(MAGNITUDE)
        worst = max(worst, magnitude)
        odd = magnitude >> np.uint32(13) & np.uint32(1)
        normal = (magnitude - np.uint32(112 << 23) + np.uint32(0xFFF) + odd) >> np.uint32(13)
        subnormal = small_bits[i] - np.uint32(0x3F000000)
        found = subnormal if magnitude < np.uint32(113 << 23) else normal
        out[i] = np.uint16(found | bits[i] >> np.uint32(16) & np.uint32(0x8000))
    return worst


@compiled
def narrow_f32(wide, out):  # float32 [m] -> float32 [m]
    return widen_f32(wide, out)


# Steps of kernels: float32 [n, m] -> float32 [m] or [n, m]. Every inner loop runs from 0 over slices: only then does
# the compiler know that no index is negative, which Python would count from the end.


@compiled
def weighted_sum(tensors, weights):
    n, m = tensors.shape
    out = np.empty(m, np.float32)
    for at in range(0, m, TILE):
        part = out[at : at + TILE]
        scale(tensors[0, at : at + TILE], weights[0], part)
        for k in range(1, n):
            add_scaled(tensors[k, at : at + TILE], weights[k], part)
    return out


@compiled
def scale(x, weight, out):
    for i in range(out.size):
        out[i] = x[i] * weight


@compiled
def add_scaled(x, weight, out):
    for i in range(out.size):
        out[i] += x[i] * weight


@compiled
def add_changes(base, models, weights):
    n, m = models.shape
    out = np.empty(m, np.float32)
    for at in range(0, m, TILE):
        part, from_base = out[at : at + TILE], base[at : at + TILE]
        part[:] = 0
        for k in range(n):
            add_scaled_change(models[k, at : at + TILE], from_base, weights[k], part)
        for i in range(part.size):
            part[i] += from_base[i]
    return out


@compiled
def add_scaled_change(x, base, weight, out):
    for i in range(out.size):
        out[i] += (x[i] - base[i]) * weight


@compiled
def keep_from(tensors, cuts):
    n, m = tensors.shape
    out = np.empty((n, m), np.float32)
    for k in range(n):
        keep_row_from(tensors[k], cuts[k], out[k])
    return out


@compiled
def keep_row_from(x, cut, out):
    for i in range(out.size):
        out[i] = x[i] if abs(x[i]) >= cut else np.float32(0)


@compiled
def keep_by_chance(tensors, keys, below, start):
    n, m = tensors.shape
    out, numbers, odd = np.empty((n, m), np.float32), np.empty(TILE + 2, np.int32), start % 2
    for k in range(n):
        if below[k] == 2.0**31:
            out[k] = tensors[k]
            continue
        for at in range(0, m, TILE):
            draw(keys[k], start - odd + at, numbers)
            keep_below(tensors[k, at : at + TILE], numbers[odd:], np.int32(below[k]), out[k, at : at + TILE])
    return out


@compiled
def keep_below(x, numbers, limit, out):
    for i in range(out.size):
        out[i] = x[i] if (numbers[i] & np.int32(MAGNITUDE)) < limit else np.float32(0)


@compiled
def draw(key, start, numbers):
    """Random int32 numbers for the elements from `start` on; both that and their count are even. See chance.py."""
    words = numbers.view(np.uint64)
    z = key + np.uint64(start // 2) * np.uint64(0x9E3779B97F4A7C15)
    for i in range(words.size):
        z += np.uint64(0x9E3779B97F4A7C15)
        words[i] = z
    for i in range(words.size):
        z = words[i]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words[i] = z ^ (z >> np.uint64(31))


@compiled
def sum_of_agreeing(changes, factors, weights):
    n, m = changes.shape
    total, voters, sign = np.zeros(m, np.float32), np.zeros(m, np.float32), np.empty(TILE, np.float32)
    for at in range(0, m, TILE):
        part = total[at : at + TILE]
        elected = sign[: part.size]
        scale(changes[0, at : at + TILE], factors[0], elected)
        for k in range(1, n):
            add_scaled(changes[k, at : at + TILE], factors[k], elected)
        for i in range(elected.size):
            elected[i] = np.float32(1) if elected[i] >= np.float32(0) else np.float32(-1)
        for k in range(n):
            add_agreeing(changes[k, at : at + TILE], factors[k], weights[k], elected, part, voters[at : at + TILE])
        for i in range(part.size):
            part[i] *= elected[i]
    return total, voters


@compiled
def add_agreeing(x, factor, weight, sign, total, voters):
    for i in range(total.size):
        agreeing = x[i] * factor * sign[i]
        agrees = agreeing > np.float32(0)
        total[i] += agreeing if agrees else np.float32(0)
        voters[i] += weight if agrees else np.float32(0)


@compiled
def blend(x, y, of_x, of_y):
    out = np.empty(x.size, np.float32)
    for i in range(out.size):
        out[i] = x[i] * of_x + y[i] * of_y
    return out


@compiled
def near_swap(base, model, t):
    out = np.empty(base.size, np.float32)
    for i in range(out.size):
        share = min(t / max(abs(model[i] - base[i]), np.float32(1e-6)), np.float32(1))
        out[i] = model[i] * share + base[i] * (np.float32(1) - share)
    return out


@compiled
def mix_rows(tensors, weights, row):
    n, m = tensors.shape
    out = np.empty(m, np.float32)
    for r in range(weights.shape[1]):
        at, end = r * row, (r + 1) * row
        part = out[at:end]
        scale(tensors[0, at:end], weights[0, r], part)
        for k in range(1, n):
            add_scaled(tensors[k, at:end], weights[k, r], part)
    return out


@compiled
def mix_columns(tensors, weights):
    n, m = tensors.shape
    row = weights.shape[1]
    out = np.empty(m, np.float32)
    out[:] = 0
    for at in range(0, m, max(1, row)):
        for k in range(n):
            add_product(tensors[k, at : at + row], weights[k], out[at : at + row])
    return out


@compiled
def add_product(x, y, out):
    for i in range(out.size):
        out[i] += x[i] * y[i]


# Steps of measures: float32 [n, m] -> counts or sums.


@compiled
def count_high_halves(tensors, counts):  # adds to int64 [n, 32768]
    for k in range(len(tensors)):
        bits, row = tensors[k].view(np.uint32), counts[k]
        for i in range(bits.size):
            row[bits[i] >> np.uint32(16) & np.uint32(0x7FFF)] += 1


@compiled
def count_low_halves(tensors, bins, counts):  # adds to int64 [n, 65536]
    for k in range(len(tensors)):
        bits, row, high = tensors[k].view(np.uint32), counts[k], np.uint32(bins[k])
        for i in range(bits.size):
            if bits[i] >> np.uint32(16) & np.uint32(0x7FFF) == high:
                row[bits[i] & np.uint32(0xFFFF)] += 1


@compiled
def absolute_sums(tensors):
    n, m = tensors.shape
    out, lanes = np.empty(n, np.float64), np.empty(LANES, np.float64)
    for k in range(n):
        lanes[:] = 0
        for at in range(0, m, LANES):
            add_magnitudes(tensors[k, at : at + LANES], lanes)
        out[k] = halved(lanes)
    return out


@compiled
def add_magnitudes(x, lanes):
    for i in range(x.size):
        lanes[i] += np.float64(abs(x[i]))


@compiled
def gram(tensors):
    n = len(tensors)
    out, lanes = np.empty((n, n), np.float64), np.empty(LANES, np.float64)
    for j in range(n):
        for k in range(j + 1):
            out[j, k] = out[k, j] = inner_product(tensors[j], tensors[k], lanes)
    return out


@compiled
def inner_product(x, y, lanes):
    lanes[:] = 0
    for at in range(0, x.size, LANES):
        add_products(x[at : at + LANES], y[at : at + LANES], lanes)
    return halved(lanes)


@compiled
def add_products(x, y, lanes):
    for i in range(x.size):
        lanes[i] += np.float64(x[i]) * np.float64(y[i])


@compiled
def row_grams(tensors, row):
    n, m = tensors.shape
    out, lanes = np.empty((n, n, m // row), np.float64), np.empty(LANES, np.float64)
    for r in range(m // row):
        at, end = r * row, (r + 1) * row
        for j in range(n):
            for k in range(j + 1):
                out[j, k, r] = out[k, j, r] = inner_product(tensors[j, at:end], tensors[k, at:end], lanes)
    return out


@compiled
def column_grams(tensors, row):
    n, m = tensors.shape
    out = np.zeros((n, n, row), np.float64)
    for at in range(0, m, row):
        for j in range(n):
            for k in range(j + 1):
                add_products(tensors[j, at : at + row], tensors[k, at : at + row], out[j, k])
    for j in range(n):
        for k in range(j):
            out[k, j] = out[j, k]
    return out


@compiled
def halved(lanes):
    """The sum of LANES numbers, which are used up."""
    length = lanes.size
    while length > 1:
        length //= 2
        for i in range(length):
            lanes[i] += lanes[length + i]
    return lanes[0]
