"""Sums over the blocks of a tensor, whose bits do not depend on the order in which blocks are finished."""

import math
import threading
from dataclasses import dataclass, field

import numpy as np

from merging.methods import Method
from merging.methods.arrays import Counts, Found, Measured, Sums
from merging.methods.spec import Block, Settings, Shape


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


def measure_alone(method: Method, block: Block, shape: Shape, settings: Settings) -> Measured:
    """What a method wants to know of a whole tensor, where one block is all of it."""
    if method.measure is None:
        return None
    passes = method.measure(shape, settings)
    try:
        look = next(passes)
        while True:
            total = Total()
            total.add(0, look(iter([block])))
            look = passes.send(total.value())
    except StopIteration as found:
        return found.value
