"""Some entries of one tensor of every model: what histograms and walkthroughs are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from merging.checkpoint import Checkpoint
from merging.device import Cpu
from merging.diagnostics.diagnosis import compare, last_parts
from merging.diagnostics.patch import WHOLE, Planned, merge_patch
from merging.diagnostics.sampling import choose_entries, read_sample
from merging.engine import Options
from merging.errors import MergeError
from merging.methods.arrays import Array, Sums
from merging.methods.spec import Shape
from merging.recipe import ModelRef, Recipe
from merging.settings import nearest

MOST = 1_000_000  # entries that a histogram looks at
BINS = 41
TAIL = 0.001  # of the changes, may lie beyond the ends of a histogram


@dataclass(frozen=True, eq=False)
class Entries:
    """The same entries of every model."""

    tensor: str
    models: tuple[str, ...]  # the last parts of their names, without the base
    wide: Array  # [1 + n, m], the base first
    shape: Shape  # that these make
    numel: int  # of the whole tensor
    planned: Planned | None  # how the recipe merges them; None where that cannot be told from a part

    @property
    def deltas(self) -> Array:
        found: Array = self.wide[1:] - self.wide[0]
        return found

    @property
    def merged(self) -> Array | None:
        """What the planned merge changes of the base: [m]."""
        return None if self.planned is None else merge_patch(self.planned, self.wide, self.shape) - self.wide[0]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How the changes of one tensor are spread, before the method and after it; the zeros are told apart."""

    tensor: str
    method: str
    models: tuple[str, ...]
    edges: tuple[float, ...]
    before: tuple[tuple[float, ...], ...]  # of each model, the share of the entries in each bin
    after: tuple[float, ...] | None
    zeros: tuple[float, ...]  # of each model the share of entries that are not changed at all
    zeros_after: float | None
    untouched: float  # the share of entries that no model changed
    looked: int
    entries: int

    @property
    def rows(self) -> list[tuple[str, tuple[float, ...], float]]:
        """Of each model, then of the merge: its name, the share in each bin, the share that is not changed."""
        before = list(zip(self.models, self.before, self.zeros, strict=True))
        return before + ([] if self.after is None else [(f"after {self.method}", self.after, self.zeros_after or 0.0)])


def read_entries(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], tensor: str, count: int = MOST) -> Entries:
    """Read at most so many entries of a tensor. Raises MergeError where there is no such tensor, or no base."""
    if recipe.base is None:
        raise MergeError("Changes are measured from a base: give the recipe a base_model.")
    compared = compare(recipe, checkpoints, Options(), None)
    step = next((s for s in compared.steps if s.name == tensor), None)
    if step is None:
        raise MergeError(
            f"There is no tensor {tensor!r} to look at. {nearest(tensor, [s.name for s in compared.steps])}"
        )
    sample = choose_entries(step.shape, count)
    opened = [checkpoints[compared.plan.models[i]] for i in step.sources]
    rows = [
        Cpu().widen(read_sample(checkpoint, info, tensor, sample), [0], sample.count, [info.dtype])[0]
        for checkpoint, info in zip(opened, step.inputs, strict=True)
    ]
    planned = compared.planned.get(tensor)
    if planned is not None and planned.granularity in WHOLE and sample.count < step.numel:
        planned = None
    return Entries(
        tensor, last_parts(tuple(c.label for c in opened[1:])), np.stack(rows), sample.shape, step.numel, planned
    )


def histogram(entries: Entries, method: str) -> Histogram:
    """Of the changes, in bins of equal width around zero; what lies beyond is in the outermost ones."""
    rows = [*entries.deltas] + ([] if (merged := entries.merged) is None else [merged])
    edges = np.linspace(-1, 1, BINS + 1) * reach(np.stack(rows))
    shares = [tuple(map(float, share_by_bin(row, edges))) for row in rows]
    zeros = [float((row == 0).mean()) if row.size else 0.0 for row in rows]
    n = len(entries.models)
    return Histogram(
        entries.tensor, method, entries.models, tuple(map(float, edges)), tuple(shares[:n]),
        shares[n] if merged is not None else None, tuple(zeros[:n]), zeros[n] if merged is not None else None,
        float((entries.deltas == 0).all(0).mean()) if entries.wide.shape[1] else 0.0,
        entries.wide.shape[1], entries.numel,
    )  # fmt: skip


def reach(rows: Array) -> float:
    """The magnitude that all but a few of the changes keep below; of the longest row."""
    changed = [np.abs(row[row != 0]) for row in rows]
    return max((float(np.quantile(row, 1 - TAIL)) for row in changed if row.size), default=1.0)


def share_by_bin(row: Array, edges: Sums) -> Sums:
    """The share of all entries in each bin, without those that are zero."""
    inside = np.clip(row[row != 0].astype(np.float64), edges[0], edges[-1])
    found: Sums = np.histogram(inside, edges)[0] / max(1, row.size)
    return found
