"""Entries that are kept, by their magnitude, by chance or by both; all others become zero."""

import numpy as np

from merging.methods.loops.compiling import MAGNITUDE, TILE, compiled, part
from merging.methods.loops.sums import scale


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
