"""Sums over the blocks of a tensor, whose bits do not depend on the order in which blocks are finished."""

import math
import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True)
class Total:
    """Whole numbers are added as they come. Fractions are kept by grain, and added at the end with one rounding.

    Threads add what they found themselves: torch would use all cores for it in the thread that waits for them.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: Tensor | None = None
    parts: dict[int, Tensor] = field(default_factory=dict)  # block -> float64 [grains, ...]

    def add(self, block: int, found: Tensor) -> None:
        with self.lock:
            if found.dtype == torch.int64:
                self.whole = found if self.whole is None else self.whole.add_(found)
            else:
                self.parts[block] = found

    def value(self) -> Tensor:
        if self.whole is not None:
            return self.whole
        rows = torch.cat([self.parts[block] for block in sorted(self.parts)])
        sums = [math.fsum(column) for column in rows.flatten(1).T.tolist()]
        return torch.tensor(sums, dtype=torch.float64).view(rows.shape[1:])
