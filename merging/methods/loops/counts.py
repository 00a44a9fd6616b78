"""Counts of magnitudes by the halves of their bits, from which exact ranks are found."""

import numpy as np

from merging.methods.loops.compiling import TILE, bits_of, compiled, part


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
