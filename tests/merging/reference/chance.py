"""Which entries are kept by chance: SplitMix64 read by position, so that no order of work changes them.

A stream belongs to (seed, model, tensor): its key is the first 8 bytes of BLAKE2b of these. Word i of it is the key
plus (i + 1) golden steps, mixed; the stream is the bits of one word after the other, the lowest first. The 31 bits from
bit 16 i on are the number of entry i; it is kept when that is below its probability times 2^31, rounded.
"""

import hashlib
from typing import Any

import numpy as np

Array = Any  # of numpy

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # from https://prng.di.unimi.it/splitmix64.c, as are the factors below


def kept(seed: int, tensor: str, model: int, probabilities: Array) -> Array:
    """True for what is kept, in the shape of the probabilities."""
    words = mixed(key(seed, tensor, model), probabilities.size // 4 + 1)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")
    numbers = np.lib.stride_tricks.sliding_window_view(bits, 31)[: 16 * probabilities.size : 16] @ (2 ** np.arange(31))
    return numbers.reshape(probabilities.shape) < np.rint(probabilities * 2**31)


def key(seed: int, tensor: str, model: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{model}\0{tensor}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def mixed(start: int, count: int) -> Array:
    """The first words of a stream; products and sums wrap."""
    z = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)
