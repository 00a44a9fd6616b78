"""Random choices that depend on what they are for, never on when or where they are made."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


@dataclass(frozen=True, slots=True)
class Chance:
    """The random numbers of one stretch of one tensor, keyed by (seed, tensor, model, element).

    SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195) read by position: word number i of a
    stream is the mix of key + (i + 1) * GOLDEN, so that any stretch can be made on its own, and the same on a GPU.
    A word serves two elements, with 31 bits each.
    """

    seed: int
    tensor: str
    start: int = 0  # of the stretch in the tensor; even, since elements share words in pairs
    device: str = "cpu"

    def keep(self, model: int, probability: float, count: int) -> Tensor:
        """An int32 mask [count]: all bits set with `probability`, else none."""
        below = round(probability * 2**31)  # of 31-bit numbers, so that the difference has a sign
        if below == 2**31:
            return torch.full((count,), -1, dtype=torch.int32, device=self.device)
        return self.numbers(model, count).bitwise_and_(0x7FFFFFFF).sub_(below).bitwise_right_shift_(31)

    def numbers(self, model: int, count: int) -> Tensor:
        """Uniform int32 numbers [count] for the elements of the stretch."""
        assert self.start % 2 == 0, "a stretch must start at an even element"
        key = stream_key(self.seed, self.tensor, model)
        words = counters((count + 1) // 2, self.device) + signed(key + self.start // 2 * GOLDEN)
        return mix(words).view(torch.int32)[:count]


def stream_key(seed: int, tensor: str, model: int) -> int:
    text = f"{seed}\0{model}\0{tensor}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@lru_cache(maxsize=2)
def counters(count: int, device: str) -> Tensor:
    """GOLDEN times 1, 2, 3 and so on."""
    return torch.arange(1, count + 1, dtype=torch.int64, device=device).mul_(signed(GOLDEN))


def mix(words: Tensor) -> Tensor:
    """SplitMix64's output function, in place, on int64 (whose products wrap like unsigned ones)."""
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        words.bitwise_xor_(shift_right(words, shift)).mul_(signed(factor))
    return words.bitwise_xor_(shift_right(words, 31))


def shift_right(words: Tensor, by: int) -> Tensor:
    """Shift as if unsigned: torch's shift repeats the sign."""
    return words.bitwise_right_shift(by).bitwise_and_((1 << (64 - by)) - 1)


def signed(word: int) -> int:
    """The int64 with the same 64 bits."""
    return ((word + 2**63) % 2**64) - 2**63
