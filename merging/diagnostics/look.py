"""One tensor of a diagnosis: two looks at its blocks, then the sums that all numbers follow from."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from merging.blocks import Piece, Stage, looked_at
from merging.device import Cpu
from merging.diagnostics import loops
from merging.diagnostics.patch import (
    ENTRIES,
    Planned,
    linear_distances,
    patch_distances,
)
from merging.diagnostics.sampling import choose_entries
from merging.diagnostics.sums import SHARES, Curve, Numbers, Sums
from merging.methods.arrays import Array, Bytes, Counts, Found
from merging.methods.spec import Block
from merging.methods.stored import Rows
from merging.plan import Step
from merging.totals import Total

PLACES = 65_536  # see loops.count_wide
# In larger tensors the magnitudes of one tile in so many are counted: the cuts and the energy curve are then right to
# two thousandths as a rule, and counting, which no vector unit does, takes a quarter of the time. All else is of all of
# them.
COUNTED, EVERY = 2**20, 4


@dataclass
class Look:
    """What is found of a tensor. What takes memory is there only while the tensor is looked at."""

    step: Step  # of what is read: the reference first
    numel: int  # of the whole tensor
    keep: float  # the share that trimming keeps
    planned: Planned | None
    found: Sums = field(init=False)  # when the stages have ended

    @property
    def wants_patch(self) -> bool:
        """Whether the planned merge is computed on some entries."""
        planned, whole = self.planned, self.step.numel == self.numel <= ENTRIES
        return planned is not None and not planned.is_linear and (whole or not planned.needs_whole)

    def stages(self) -> Generator[Stage, Total, None]:
        """What is done with every block."""
        n, numel = len(self.step.inputs) - 1, self.step.numel
        magnitudes, marks = Tally((n, PLACES)), Tally((4, n, n))
        patch = Patch(self.step) if self.wants_patch else None
        yield partial(count, every=EVERY if numel > COUNTED else 1, magnitudes=magnitudes, patch=patch)
        curves = [Curve.of(row) for row in magnitudes.total()]
        cuts = np.array([curve.cut(self.keep) for curve in curves], np.float32)
        row = (yield partial(scan, cuts=cuts, marks=marks)).value()
        self.found = self.sums(row, marks.total(), curves, patch)

    def sums(self, row: Numbers, marks: Counts, curves: list[Curve], patch: "Patch | None") -> Sums:
        """In entries of the whole tensor."""
        looked, n = self.step.numel, len(curves)
        by = self.numel / looked if looked else 1.0
        products, smaller, smaller_against = split(row, n)
        both, against, kept_both, kept_against = marks
        kept = np.diag(kept_both).astype(np.float64)
        merged, merged_null = self.distances(products, patch)
        return Sums(
            numel=float(self.numel), looked=float(looked), products=products * by,
            unchanged=(looked - np.diag(both)) * by,
            energy=np.stack([c.energy(SHARES) * self.numel / max(1, c.count) for c in curves]),
            both=both * by, against=against * by, smaller=smaller * by, smaller_against=smaller_against * by,
            kept=kept * by, kept_both=kept_both * by, kept_against=kept_against * by,
            kept_null=np.outer(kept, kept) / max(1, looked) * by, merged=merged * by, merged_null=merged_null * by,
        )  # fmt: skip

    def distances(self, products: Numbers, patch: "Patch | None") -> tuple[float, float]:
        """Of the planned merge and of one of unrelated changes, squared; NaN where that is not computed."""
        if self.planned is None or not self.step.numel:
            return (np.nan, np.nan) if self.planned is None else (0.0, 0.0)
        if self.planned.is_linear:
            return linear_distances(self.planned, products)
        if patch is None:
            return np.nan, np.nan
        merged, unrelated, parents = patch_distances(self.planned, patch.wide(), patch.sample.shape)
        by = float(np.diag(products)[1:].sum()) / parents if parents else self.step.numel / patch.sample.count
        return merged * by, unrelated * by


@dataclass
class Tally:
    """Whole numbers, counted in as many places at once as there are threads, and then added up."""

    shape: tuple[int, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)
    free: list[Counts] = field(default_factory=list)

    @contextmanager
    def lent(self) -> Iterator[Counts]:
        """Counts to add to."""
        with self.lock:
            mine = self.free.pop() if self.free else np.zeros(self.shape, np.int64)
        yield mine
        with self.lock:
            self.free.append(mine)

    def total(self) -> Counts:
        total, *others = self.free
        for more in others:
            total += more
        self.free.clear()
        return total


def count(piece: Piece, every: int, magnitudes: Tally, patch: "Patch | None") -> Found:
    """The first look at a block: how large the changes are, from which the cuts follow."""
    if patch is not None:
        patch.take(piece)
    unchecked = replace(piece, unchecked=False)  # the second look goes over all entries
    with magnitudes.lent() as counts:
        for block in looked_at(piece.grains(), unchecked.widened):
            wide: Any = block.wide
            if isinstance(wide, Rows):
                loops.count_stored(wide.store.flat, wide.begins, wide.store.count, block.chance.start, every, counts)
            else:
                loops.count_wide(wide, block.chance.start, every, counts)
    return np.zeros(1, np.int64)


def scan(piece: Piece, cuts: Array, marks: Tally) -> Found:
    """The second look: the sums of each grain, a row for each."""
    checked = replace(piece, unchecked=True)
    with marks.lent() as found:
        return np.concatenate([scan_block(block, cuts, found) for block in looked_at(piece.grains(), checked.widened)])


def scan_block(block: Block, cuts: Array, marks: Counts) -> Numbers:
    wide: Any = block.wide
    if not isinstance(wide, Rows):
        found: Numbers = loops.scan_wide(wide, cuts, marks)
        return found
    found = loops.scan_stored(wide.store.flat, wide.begins, wide.store.count, cuts, marks)
    wide.store.told(bool(np.isfinite(found).all()), wide)
    return found


def split(row: Numbers, n: int) -> tuple[Numbers, Numbers, Numbers]:
    """Products, and of each pair the sums of the smaller magnitudes: of all entries, and of those changed against each
    other.

    |x + y| is |x| + |y| where the signs agree, and else less by twice the smaller one; with |x - y| it is the other way
    round.
    """
    products, magnitudes, apart = np.split(row, [(1 + n) ** 2, (1 + n) * (2 + n)])
    both = np.add.outer(magnitudes[1:], magnitudes[1:])
    of_sum, of_difference = np.tril(apart.reshape(2, n, n), -1)
    against = np.tril(np.maximum(0, both - of_sum) / 2, -1)
    with_each_other = np.tril(np.maximum(0, both - of_difference) / 2, -1)
    return products.reshape(1 + n, 1 + n), against + with_each_other, against


class Patch:
    """Some entries of every input, taken as the blocks come by."""

    def __init__(self, step: Step) -> None:
        self.step, self.sample = step, choose_entries(step.shape, ENTRIES)
        self.raw: list[Bytes] = [
            np.empty(self.sample.count * i.nbytes // max(1, i.numel), np.uint8) for i in step.inputs
        ]

    def take(self, piece: Piece) -> None:
        at = 0
        for begin, end in self.sample.stretches:
            first, last = max(begin, piece.start), min(end, piece.start + piece.count)
            if first < last:
                for i, size in enumerate(piece.job.sizes):
                    from_block = piece.raw(i)[(first - piece.start) * size : (last - piece.start) * size]
                    self.raw[i][(at + first - begin) * size : (at + last - begin) * size] = from_block
            at += end - begin

    def wide(self) -> Any:
        """float32 [1 + n, m]."""
        rows = [
            Cpu().widen(raw, [0], self.sample.count, [info.dtype])[0]
            for raw, info in zip(self.raw, self.step.inputs, strict=True)
        ]
        return np.stack(rows)
