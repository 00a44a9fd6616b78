"""One tensor of a diagnosis: two looks at its blocks, then the sums that all numbers follow from."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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

PLACES = 65_536  # see loops.scan_wide


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
        n = len(self.step.inputs) - 1
        tally, patch = Tally(n), Patch(self.step) if self.wants_patch else None
        products, smaller = split((yield partial(scan, tally=tally, patch=patch)).value(), n)
        counts, signs = tally.total()
        curves = [Curve.of(row) for row in counts]
        k = max(1, int(self.keep * self.step.numel))
        cuts = np.array([curve.cut(k) for curve in curves], np.float32)
        kept = (yield partial(count_kept, cuts=cuts)).value()
        self.found = self.sums(products, smaller, curves, signs, kept, cuts, self.distances(products, patch))

    def sums(
        self, products: Numbers, smaller: Numbers, curves: list[Curve], signs: Counts, kept: Counts, cuts: Array,
        distances: tuple[float, float],
    ) -> Sums:  # fmt: skip
        """In entries of the whole tensor."""
        by = self.numel / self.step.numel if self.step.numel else 1.0
        reached = np.array([float(c.reaching(float(cut))) for c, cut in zip(curves, cuts, strict=True)])
        merged, merged_null = distances
        return Sums(
            numel=float(self.numel), looked=float(self.step.numel), products=products * by,
            unchanged=np.array([float(c.zeros) for c in curves]) * by,
            energy=np.stack([c.energy(SHARES) for c in curves]) * by,
            both=signs[0] * by, against=signs[1] * by,
            smaller=smaller[0] * by, smaller_against=smaller[1] * by,
            kept=reached * by, kept_both=kept[0] * by, kept_against=kept[1] * by,
            kept_null=np.outer(reached, reached) / max(1, self.step.numel) * by,
            merged=merged * by, merged_null=merged_null * by,
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

    models: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    free: list[tuple[Counts, Counts]] = field(default_factory=list)

    @contextmanager
    def lent(self) -> Iterator[tuple[Counts, Counts]]:
        """Counts of magnitudes and of signs to add to; see loops.scan_wide."""
        with self.lock:
            mine = self.free.pop() if self.free else None
        n = self.models
        mine = mine or (np.zeros((n, PLACES), np.int64), np.zeros((2, n, n), np.int64))
        yield mine
        with self.lock:
            self.free.append(mine)

    def total(self) -> tuple[Counts, Counts]:
        (counts, signs), *others = self.free
        for more_counts, more_signs in others:
            counts += more_counts
            signs += more_signs
        self.free.clear()
        return counts, signs


def scan(piece: Piece, tally: Tally, patch: "Patch | None") -> Found:
    """The first look at a block."""
    if patch is not None:
        patch.take(piece)
    with tally.lent() as (counts, signs):
        return np.concatenate([scan_block(block, counts, signs) for block in looked_at(piece.grains(), piece.widened)])


def count_kept(piece: Piece, cuts: Array) -> Found:
    """The second look: how often two models both keep an entry, and against each other."""
    n = len(cuts)
    signs = np.zeros((2, n, n), np.int64)
    for block in looked_at(piece.grains(), piece.widened):
        wide: Any = block.wide
        if isinstance(wide, Rows):
            loops.count_kept_stored(wide.store.flat, wide.begins, wide.store.count, cuts, signs)
        else:
            loops.count_kept_wide(wide, cuts, signs)
    return signs


def scan_block(block: Block, counts: Counts, signs: Counts) -> Numbers:
    """The sums of each grain, a row for each."""
    wide: Any = block.wide
    if not isinstance(wide, Rows):
        found: Numbers = loops.scan_wide(wide, counts, signs)
        return found
    found = loops.scan_stored(wide.store.flat, wide.begins, wide.store.count, counts, signs)
    wide.store.told(bool(np.isfinite(found).all()), wide)
    return found


def split(row: Numbers, n: int) -> tuple[Numbers, Numbers]:
    end = (1 + n) ** 2
    return row[:end].reshape(1 + n, 1 + n), row[end:].reshape(2, n, n)


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
