"""What methods must know of a whole tensor before they can compute a block of it."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from merging.methods.spec import Block, Pass, Settings

HIGH_BINS, LOW_BINS = 2**15, 2**16  # of the bits of a positive float32, split in two
FEW = 32
NOTHING = math.inf  # a cut that nothing reaches


def magnitude_cuts(numel: int, settings: Settings) -> Generator[Pass, Tensor, tuple[float, ...]]:
    """For each model the magnitude of its k-th largest change, k = int(density * numel). Exact; nothing is sorted.

    The bits of a positive float32 grow with its value: counting the high half of the bits finds the bin in which the
    k-th largest lies, counting the low half inside that bin finds the value. k = 0 gives infinity: nothing is kept.
    """
    keep = [int(density * numel) for density in settings["density"]]
    if all(k in (0, numel) for k in keep):
        return tuple(0.0 if k else NOTHING for k in keep)
    high = yield count_high_halves
    bins = [find_bin(counts, k) for counts, k in zip(high, keep, strict=True)]
    low = yield partial(count_low_halves, bins=[b for b, _ in bins])
    found = zip(keep, bins, low, strict=True)
    return tuple(
        0.0 if k == numel else cut(b, find_bin(counts, rest)[0]) if k else NOTHING for k, (b, rest), counts in found
    )


def count_high_halves(grains: Iterator[Block]) -> Tensor:
    """How many changes of each model have which upper 15 bits: int64 [n, 32768]."""
    return count_keys((magnitude_bits(block).bitwise_right_shift_(16) for block in grains), HIGH_BINS)


def count_low_halves(grains: Iterator[Block], bins: Sequence[int]) -> Tensor:
    """How many changes of each model, of those in its bin, have which lower 16 bits: int64 [n, 65536].

    All others are counted as well, before and after the bin: to pick out what is inside takes longer.
    """
    before = torch.tensor([[(b << 16) - 1] for b in bins], dtype=torch.int32)
    keys = ((magnitude_bits(g) - before.to(g.models.device)).clamp_(0, LOW_BINS + 1) for g in grains)
    return count_keys(keys, LOW_BINS + 2)[:, 1:-1]


def magnitude_bits(block: Block) -> Tensor:
    """int32 [n, elements] that is ordered as the magnitudes of the changes are."""
    return block.deltas.view(torch.int32) & 0x7FFFFFFF


def count_keys(keys: Iterable[Tensor], bins: int) -> Tensor:
    """How often each key occurs in each row, over all tensors of keys: int64 [n, bins]."""
    counts: list[Tensor] = []
    for rows in keys:
        found = [torch.bincount(row, minlength=bins) for row in rows]
        counts = [a.add_(b) for a, b in zip(counts, found, strict=True)] if counts else found
    return torch.stack(counts)


def find_bin(counts: Tensor, k: int) -> tuple[int, int]:
    """The bin of the k-th largest (k from 1), and which of the largest in that bin it is."""
    from_above = counts.numpy()[::-1].cumsum()  # numpy's, because torch would take all cores for so little
    at = int(from_above.searchsorted(max(k, 1)))
    above = int(from_above[at - 1]) if at else 0
    return len(counts) - 1 - at, max(k, 1) - above


def cut(high: int, low: int) -> float:
    return torch.tensor(high << 16 | low, dtype=torch.int32).view(torch.float32).item()


def sums_around(grains: Iterator[Block], keep: Callable[[Block], Tensor]) -> Tensor:
    """The sums of magnitudes of all changes and of those that `keep` keeps, by model: float64 [grains, 2, n]."""
    return torch.stack([torch.stack([absolute_sums(g.deltas), absolute_sums(keep(g))]) for g in grains])


def absolute_sums(tensors: Tensor) -> Tensor:
    """The sum of magnitudes of each row: float64 [n]."""
    return row_sums(tensors.abs().double())


def row_sums(rows: Tensor) -> Tensor:
    """The sum of each row of a float64 tensor, which is used up: float64 [n].

    The second half is added to the first until a few numbers are left, and these with one rounding. Only additions
    of element to element, so that vector units of any width and GPUs give the same bits.
    """
    while (length := rows.shape[1]) > FEW:
        half = -(-length // 2)
        rows[:, : length - half].add_(rows[:, half:])
        rows = rows[:, :half]
    return torch.tensor([math.fsum(row) for row in rows.tolist()], dtype=torch.float64)


def l1_factors(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    """What brings each trimmed change back to its sum of magnitudes; 1 where a sum is below 1e-7, as in mergekit."""
    return tuple(b / a if b >= 1e-7 and a >= 1e-7 else 1.0 for b, a in zip(before, after, strict=True))
