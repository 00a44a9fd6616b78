"""Random choices that depend on what they are for, never on when or where they are made."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RANGE = 2**31  # of the numbers that probabilities are compared with


@dataclass(frozen=True, slots=True)
class Chance:
    """The random numbers of one stretch of one tensor, keyed by (seed, tensor, model, element).

    SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195) read by position: word number i of a
    stream is the mix of key + (i + 1) * 0x9E3779B97F4A7C15, so that any stretch can be made on its own, and the same on
    a GPU. A word serves four elements: the number of element i is the 31 bits from bit 16 * i of the stream on. So its
    upper 15 bits are its own, and its lower 16 are those that its neighbour has on top: they decide once in 32,768
    times, and make any probability exact to 2^-31.
    """

    seed: int
    tensor: str
    start: int = 0  # of the stretch in the tensor

    def keys(self, models: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
        """The key of each model's stream: [models]."""
        return np.array([stream_key(self.seed, self.tensor, model) for model in range(models)], np.uint64)


def stream_key(seed: int, tensor: str, model: int) -> int:
    text = f"{seed}\0{model}\0{tensor}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def limits(probabilities: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Below which of RANGE numbers an entry is kept."""
    return np.array([round(p * RANGE) for p in probabilities], np.float64)
