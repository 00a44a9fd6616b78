"""The inner loops on the CPU: what parts.py says, compiled by Numba, without Python's lock.

Every sum of float32 is rounded after each product and each addition, in the order of the models, so that vector units
of any width and GPUs give the same bits. Sums over elements are float64, in LANES lanes that are then halved.
Long rows are gone through in tiles, so that what one loop leaves the next finds in the nearest cache.
"""

import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

TILE = 4096
SMALL_TILE = 1024  # where many rows of a tile are in use at once
LANES = 256
LEAST_SPREAD = 2.0**-133  # the least float32 whose upper half is not zero
R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, R13 = (1 / math.factorial(n) for n in range(2, 14))  # of e^x
MAGNITUDE = 0x7FFFFFFF  # the bits of a float32 without its sign

# Of all files here: what is compiled holds parts of several, and is out of date when one of them changes.
SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))

njit: Callable[..., Any] = partial(numba.njit, nogil=True, error_model="numpy", no_cfunc_wrapper=True)  # untyped
part = njit(no_cpython_wrapper=True)  # compiled into the loops that call it; Python cannot


def compiled(function: Callable[..., Any]) -> Any:
    """Kept on the disk: only the first merge of a machine waits for it, and only for what it uses."""
    found = njit(cache=True)(function)  # whose stamp would be of the function's own file alone
    found._cache._cache_file._source_stamp = stamp_of(Path(function.__code__.co_filename))
    return found


def stamp_of(file: Path) -> str:
    """By which the cache knows what is compiled of a file."""
    stamp = SOURCES.copy()
    stamp.update(file.read_bytes())
    return stamp.hexdigest()


@intrinsic
def bits_of(context: Any, number: Any) -> Any:
    """The bits of a float32, as uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return numba.types.uint32(numba.types.float32), generate


@intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.uint32), generate


# Types of files: to float32, and back with the bits of the largest magnitude.


@compiled
def widen_bf16(stored, out):  # uint16 [m] -> float32 [m]
    bits = out.view(np.uint32)
    for i in range(stored.size):
        bits[i] = np.uint32(stored[i]) << np.uint32(16)


@compiled
def widen_f16(stored, out):  # uint16 [m] -> float32 [m]
    bits = out.view(np.uint32)
    for i in range(stored.size):
        bits[i] = np.uint32(stored[i] & np.uint16(0x7FFF)) << np.uint32(13)
    for i in range(stored.size):
        out[i] *= np.float32(2.0**112)  # the exponent's new bias; subnormal numbers come right as well
    for i in range(stored.size):
        special = np.uint32(0x7F800000) if stored[i] & np.uint16(0x7C00) == np.uint16(0x7C00) else np.uint32(0)
        bits[i] |= special | np.uint32(stored[i] & np.uint16(0x8000)) << np.uint32(16)


@compiled
def widen_f32(stored, out):  # float32 [m] -> float32 [m]
    for i in range(stored.size):
        out[i] = stored[i]


@compiled
def largest_magnitude(wide):  # float32 [m] -> its bits
    worst = np.uint32(0)
    for i in range(wide.size):
        magnitude = np.uint32(bits_of(wide[i]) & np.uint32(MAGNITUDE))
        worst = magnitude if magnitude > worst else worst
    return worst


@compiled
def narrow_bf16(wide, out):  # float32 [m] -> uint16 [m]
    worst = np.uint32(0)
    for i in range(wide.size):  # 32 bits after every step: Numba makes 64 of them, and vectors hold half as many
        b = bits_of(wide[i])
        magnitude = np.uint32(b & np.uint32(MAGNITUDE))
        worst = magnitude if magnitude > worst else worst
        odd = np.uint32(np.uint32(b >> np.uint32(16)) & np.uint32(1))
        out[i] = np.uint16(np.uint32(np.uint32(b + np.uint32(0x7FFF)) + odd) >> np.uint32(16))
    return worst


@compiled
def narrow_f16(wide, out):  # float32 [m] -> uint16 [m]
    """Round to nearest, ties to even. Numbers too large for float16 come out wrong, and are told by the return."""
    worst, small = np.uint32(0), np.empty(TILE, np.float32)
    for at in range(0, wide.size, TILE):
        worst = max(worst, narrow_tile(wide[at : at + TILE].view(np.uint32), small, out[at : at + TILE]))
    return worst


@part
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
    widen_f32(wide, out)
    return largest_magnitude(wide)


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
def add_weighted(base, tensors, weights):
    out = weighted_sum(tensors, weights)
    for i in range(out.size):
        out[i] += base[i]
    return out


@part
def scale(x, weight, out):
    for i in range(out.size):
        out[i] = x[i] * weight


@part
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


@part
def add_scaled_change(x, base, weight, out):
    for i in range(out.size):
        out[i] += (x[i] - base[i]) * weight


@compiled
def keep_between(tensors, low, high):
    n, m = tensors.shape
    out = np.empty((n, m), np.float32)
    for k in range(n):
        keep_row_between(tensors[k], low[k], high[k], out[k])
    return out


@part
def keep_row_between(x, low, high, out):
    for i in range(out.size):
        out[i] = x[i] if low <= abs(x[i]) <= high else np.float32(0)


@compiled
def keep_by_chance(tensors, keys, below, start):
    n, m = tensors.shape
    out, halves, off = np.empty((n, m), np.float32), np.empty(TILE + 8, np.uint16), start % 4
    for k in range(n):
        last = np.int32(below[k] - 1)  # which fits: below is a float64 from 0 to 2^31
        for at in range(0, m, TILE):
            draw(keys[k], start - off + at, halves)
            keep_up_to(tensors[k, at : at + TILE], halves[off:], halves[off + 1 :], last, out[k, at : at + TILE])
    return out


@part
def keep_up_to(x, low, high, last, out):
    for i in range(out.size):
        out[i] = x[i] if number_of(low[i], high[i]) <= last else np.float32(0)


@part
def number_of(low, high):
    """An element's random number, from its half of a stream and the next one. See chance.py."""
    upper = np.uint32(np.uint32(high & np.uint16(0x7FFF)) << np.uint32(16))
    return np.int32(np.uint32(upper | np.uint32(low)))


@compiled
def keep_by_rank(tensors, row, density, epsilon, keys, start):
    n, m = tensors.shape
    out, room, halves = np.empty((n, m), np.float32), np.empty((2, row), np.uint64), np.empty(row + 8, np.uint16)
    halves = halves[: halves.size // 4 * 4]
    for k in range(n):
        if density[k] == 0 or density[k] == 1:
            scale(tensors[k], np.float32(density[k]), out[k])
            continue
        for at in range(0, m, row):
            off = (start + at) % 4
            draw(keys[k], start + at - off, halves)
            items = sorted_magnitudes(tensors[k, at : at + row].view(np.uint32), room)
            keep_ranked(items, tensors[k, at : at + row], halves[off:], density[k], epsilon[k], out[k, at : at + row])
    return out


@part
def keep_ranked(items, x, halves, density, epsilon, out):
    """Chances are linear in the rank; entries of equal magnitude have that of the mean of their ranks."""
    first, last = 0, max(1, items.size - 1)
    while first < items.size:
        after = first + 1
        while after < items.size and items[after] >> np.uint64(32) == items[first] >> np.uint64(32):
            after += 1
        chance = density - epsilon + 2 * epsilon * ((first + after - 1) / 2) / last
        limit = np.int64(np.rint(chance * 2.0**31))
        for i in range(first, after):
            at = items[i] & np.uint64(0xFFFFFFFF)
            out[at] = x[at] if np.int64(number_of(halves[at], halves[at + 1])) < limit else np.float32(0)
        first = after


@part
def sorted_magnitudes(bits, room):
    """The entries in order of magnitude, as (magnitude << 32 | place): a radix sort, by what differs in the bits."""
    here, there = room[0], room[1]
    least, most = np.uint32(MAGNITUDE), np.uint32(0)
    for i in range(bits.size):
        least, most = min(least, bits[i] & np.uint32(MAGNITUDE)), max(most, bits[i] & np.uint32(MAGNITUDE))
    used = np.uint32(0)
    for i in range(bits.size):
        above = (bits[i] & np.uint32(MAGNITUDE)) - least
        used |= above
        here[i] = np.uint64(above) << np.uint64(32) | np.uint64(i)
    digit = 6 if bits.size < 256 else 8 if bits.size < 8192 else 11
    counts, shift = np.empty(1 << digit, np.int64), 0
    while used:
        while not used & np.uint32(1):  # numbers of bfloat16 end in many zeros
            used >>= np.uint32(1)
            shift += 1
        sort_by_digit(here, there, 32 + shift, counts)
        here, there = there, here
        used >>= np.uint32(digit)
        shift += digit
    return here


@part
def sort_by_digit(items, out, shift, counts):
    by, mask = np.uint64(shift), np.uint64(counts.size - 1)
    counts[:] = 0
    for i in range(items.size):
        counts[items[i] >> by & mask] += 1
    before = 0
    for j in range(counts.size):
        before, counts[j] = before + counts[j], before
    for i in range(items.size):
        at = items[i] >> by & mask
        out[counts[at]] = items[i]
        counts[at] += 1


@compiled
def draw(key, start, halves):
    """The uint16 halves of a stream from element `start` on; both that and their count are multiples of four."""
    words = halves.view(np.uint64)
    z = key + np.uint64(start // 4) * np.uint64(0x9E3779B97F4A7C15)
    for i in range(words.size):
        z += np.uint64(0x9E3779B97F4A7C15)
        words[i] = z
    for i in range(words.size):
        z = words[i]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words[i] = z ^ (z >> np.uint64(31))


@compiled
def add_agreed(base, changes, factors, weights, divide, by):
    m = base.size
    out, room = np.empty(m, np.float32), np.empty((3, SMALL_TILE), np.float32)
    for at in range(0, m, SMALL_TILE):
        part, from_base = out[at : at + SMALL_TILE], base[at : at + SMALL_TILE]
        sign, total, voters = room[0, : part.size], room[1, : part.size], room[2, : part.size]
        elect(changes, at, factors, sign)
        sum_of_agreeing(changes, at, factors, weights, sign, total, voters)
        if divide:
            for i in range(part.size):
                total[i] /= voters[i] if voters[i] != np.float32(0) else np.float32(1)
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


@part
def add_product(x, y, out):
    for i in range(out.size):
        out[i] += x[i] * y[i]


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


# Steps of measures: float32 [n, m] -> counts or sums.


@compiled
def count_high_halves(scores, counts):  # adds to int64 [n, 32768, 2], which leaves out the signs, or [n, 65536, 2]
    places, mask = np.empty(TILE, np.uint32), np.uint32(counts.shape[1] - 1)
    for k in range(len(scores)):
        row = counts[k].reshape(-1)
        for at in range(0, scores.shape[1], TILE):
            count_places(scores[k, at : at + TILE], mask, places, row)


@part
def count_places(scores, mask, places, counts):
    """Twice the upper half of each, and 1 more where the lower half is not zero."""
    for i in range(scores.size):
        bits = bits_of(scores[i])
        high = np.uint32(np.uint32(bits >> np.uint32(16)) & mask)
        rest = np.uint32(np.uint32(bits & np.uint32(0xFFFF)) != np.uint32(0))
        places[i] = np.uint32(np.uint32(high + high) + rest)
    for i in range(scores.size):
        counts[places[i]] += 1


@compiled
def count_low_halves(scores, bins, mask, counts):  # adds to int64 [n, cuts, 65536]
    n, m = scores.shape
    inside = np.empty(TILE + 1, np.uint16)
    for k in range(n):
        for j in range(bins.shape[1]):
            for at in range(0, m, TILE):
                found = take_inside(scores[k, at : at + TILE], bins[k, j], np.uint32(mask), inside)
                count_each(inside[:found], counts[k, j])


@part
def take_inside(scores, high, mask, out):
    """Gather the lower halves of those whose upper half is `high`; how many these are. No branch to be guessed."""
    found = 0
    for i in range(scores.size):
        bits = bits_of(scores[i])
        out[found] = np.uint16(bits)
        found += np.uint32(np.uint32(bits >> np.uint32(16)) & mask) == high
    return found


@part
def count_each(numbers, counts):
    for i in range(numbers.size):
        counts[numbers[i]] += 1


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


@part
def add_magnitudes(x, lanes):
    for i in range(x.size):
        lanes[i] += np.float64(abs(x[i]))


@compiled
def square_sums(tensors):
    n, m = tensors.shape
    out, lanes = np.empty(n, np.float64), np.empty(LANES, np.float64)
    for k in range(n):
        lanes[:] = 0
        for at in range(0, m, LANES):
            add_products(tensors[k, at : at + LANES], tensors[k, at : at + LANES], lanes)
        out[k] = halved(lanes)
    return out


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
def gram(tensors):
    n = len(tensors)
    out, lanes = np.empty((n, n), np.float64), np.empty(LANES, np.float64)
    for j in range(n):
        for k in range(j + 1):
            out[j, k] = out[k, j] = inner_product(tensors[j], tensors[k], lanes)
    return out


@part
def inner_product(x, y, lanes):
    lanes[:] = 0
    for at in range(0, x.size, LANES):
        add_products(x[at : at + LANES], y[at : at + LANES], lanes)
    return halved(lanes)


@part
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


@part
def halved(lanes):
    """The sum of LANES numbers, which are used up."""
    length = lanes.size
    while length > 1:
        length //= 2
        for i in range(length):
            lanes[i] += lanes[length + i]
    return lanes[0]


# Importance of changes, for Arcee Fusion. Exponentials and logarithms are polynomials, which vector units can compute.


@compiled
def importance(base, model, row):
    out, lanes = np.empty(base.size, np.float32), np.empty(LANES, np.float64)
    p, q, powers = np.empty(row, np.float64), np.empty(row, np.float64), np.empty(row, np.int64)
    for at in range(0, base.size, row):
        x, y = model[at : at + row], base[at : at + row]
        soften(x, p, powers, lanes)
        soften(y, q, powers, lanes)
        weigh(x, y, divergence(p, q, lanes), out[at : at + row])
    return out


@part
def weigh(x, y, factor, out):
    for i in range(out.size):
        out[i] = np.float32(abs(np.float64(x[i]) - np.float64(y[i])) * factor)


@part
def soften(x, out, powers, lanes):
    """Softmax in float64, with 1e-8 added."""
    top = x[0]
    for i in range(x.size):
        top = max(top, x[i])
    for i in range(x.size):
        out[i] = max(np.float64(x[i]) - np.float64(top), -700.0)
    for i in range(out.size):  # e^y = 2^k e^r, with |r| at most half of log 2
        k = np.floor(out[i] * 1.4426950408889634 + 0.5)
        out[i] = (out[i] - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
        powers[i] = (np.int64(k) + np.int64(1023)) << np.int64(52)
    scales = powers.view(np.float64)
    for i in range(out.size):
        r = out[i]
        e = R7 + r * (R8 + r * (R9 + r * (R10 + r * (R11 + r * (R12 + r * R13)))))
        e = 1 + r * (1 + r * (R2 + r * (R3 + r * (R4 + r * (R5 + r * (R6 + r * e))))))
        out[i] = e * scales[i]
    lanes[:] = 0
    for at in range(0, out.size, LANES):
        add_all(out[at : at + LANES], lanes)
    total = halved(lanes)
    share = 1 / total
    for i in range(out.size):
        out[i] = out[i] * share + 1e-8


@part
def add_all(x, lanes):
    for i in range(x.size):
        lanes[i] += x[i]


@part
def divergence(p, q, lanes):
    """The sum of p log(p / q), as that of p log(p / q) - (p - q): no term is negative, and no digits cancel."""
    apart = 0.0
    for i in range(p.size):
        apart = max(apart, abs(p[i] - q[i]) - 0.1 * (p[i] + q[i]))
    lanes[:] = 0
    for at in range(0, p.size, LANES):
        if apart > 0:
            add_far(p[at : at + LANES], q[at : at + LANES], lanes)
        else:
            add_near(p[at : at + LANES], q[at : at + LANES], lanes)
    return max(halved(lanes), 0.0)


@part
def add_far(p, q, lanes):
    for i in range(p.size):
        lanes[i] += p[i] * np.log(p[i] / q[i]) - (p[i] - q[i])


@part
def add_near(p, q, lanes):
    for i in range(p.size):  # log(p / q) = 2 artanh(s)
        s = (p[i] - q[i]) / (p[i] + q[i])
        z = s * s
        series = 1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * (1 / 13 + z * (1 / 15)))))))
        lanes[i] += p[i] * (2 * s * series) - (p[i] - q[i])


@compiled
def take_from(base, model, scores, cut):
    out = np.empty(base.size, np.float32)
    for i in range(out.size):
        out[i] = model[i] if np.float64(scores[i]) >= cut else base[i]
    return out
