"""Types of files: widened to float32, and float32 narrowed to them, with the bits of the largest magnitude."""

import numpy as np

from merging.methods.loops.compiling import MAGNITUDE, TILE, bits_of, compiled, part


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
