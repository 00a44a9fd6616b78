"""Sums over the blocks of a tensor, whose bits do not depend on the order in which blocks are finished."""

import math
import threading
from dataclasses import dataclass, field

import numpy as np

from merging.methods.arrays import Counts, Found, Sums


@dataclass(slots=True)
class Total:
    """Whole numbers are added as they come. Fractions are kept by grain, and added at the end with one rounding."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: Counts | None = None
    parts: dict[int, Sums] = field(default_factory=dict)  # block -> float64 [grains, ...]

    def add(self, block: int, found: Found) -> None:
        with self.lock:
            if found.dtype != np.int64:
                self.parts[block] = found
            elif self.whole is None:
                self.whole = found
            else:
                self.whole += found

    def value(self) -> Found:
        if self.whole is not None:
            return self.whole
        rows = np.concatenate([self.parts[block] for block in sorted(self.parts)])
        sums = [math.fsum(column) for column in rows.reshape(len(rows), -1).T.tolist()]
        return np.array(sums, np.float64).reshape(rows.shape[1:])
