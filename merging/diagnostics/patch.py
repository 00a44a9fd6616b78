"""What a method makes of a few entries of a tensor, held as float32: the planned merge on a small scale."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from merging.budget import row_of
from merging.methods import Method
from merging.methods.arrays import Array, Sums
from merging.methods.chance import Chance
from merging.methods.spec import Block, Granularity, Settings, Shape, compute
from merging.totals import measure_alone

ENTRIES = 16_384  # of a tensor, at most
# Each entry of the merge is the same weighted sum of those of the models, so its distance follows from inner products.
LINEAR = frozenset({"linear", "passthrough", "task_arithmetic", "lines", "wise_ft"})
WHOLE: tuple[Granularity, ...] = ("tensor", "matrix")  # these cannot be computed of a part


@dataclass(frozen=True, slots=True)
class Planned:
    """How a recipe merges one tensor."""

    method: Method
    settings: Settings
    rows: tuple[int, ...]  # which rows of a patch the method is given, in its order; the base is row 0
    has_base: bool  # the first of these is the method's base
    name: str
    granularity: Granularity
    seed: int = 0
    depth: float | None = None

    @property
    def is_linear(self) -> bool:
        return self.method.name in LINEAR

    @property
    def needs_whole(self) -> bool:
        return self.granularity in WHOLE


def merge_patch(planned: Planned, wide: Array, shape: Shape) -> Array:
    """The merge of a patch: float32 [1 + n, m], the reference first and the models themselves after it."""
    rows = np.ascontiguousarray(wide[list(planned.rows)])
    chance = Chance(planned.seed, planned.name, 0)
    is_matrix = planned.granularity == "matrix"
    block = Block(rows, planned.has_base, chance, row_of(shape), planned.depth, is_matrix)
    return np.asarray(
        compute(planned.method, block, measure_alone(planned.method, block, shape, planned.settings), planned.settings)
    )


def coefficients(planned: Planned, rows: int) -> Sums:
    """How much of each row a linear method adds up: what it makes of unit vectors."""
    return merge_patch(planned, np.eye(rows, dtype=np.float32), (rows,)).astype(np.float64)


def linear_distances(planned: Planned, products: Sums) -> tuple[float, float]:
    """The squared distance from the reference of a linear merge, and that of unrelated changes of the same norms.

    `products` are those of the reference and the changes: a merge of shares c is (sum c - 1) of the reference and c_i
    of each change.
    """
    shares = coefficients(planned, len(products))
    shares[0] = shares.sum() - 1
    unrelated = products.copy()
    unrelated[1:, 1:] = np.diag(np.diag(products)[1:])
    return max(0.0, float(shares @ products @ shares)), max(0.0, float(shares @ unrelated @ shares))


def patch_distances(planned: Planned, wide: Array, shape: Shape) -> tuple[float, float, float]:
    """Of a patch: the squared distances of the merge, of a merge of unrelated changes, and of all models together.

    Unrelated are each model's own changes in an order of their own, so that no entry meets its counterpart.
    """
    shuffled = wide.copy()
    for k in range(1, len(wide)):
        shuffled[k] = wide[0] + (wide[k] - wide[0])[order_of(wide.shape[1], k)]
    found = [squared(merge_patch(planned, rows, shape), rows[0]) for rows in (wide, shuffled)]
    return found[0], found[1], sum(squared(model, wide[0]) for model in wide[1:])


@lru_cache(256)
def order_of(count: int, k: int) -> NDArray[np.int64]:
    """An order of so many entries, another for each k."""
    return np.random.default_rng([count, k]).permutation(count)


def squared(x: Array, y: Array) -> float:
    apart = x.astype(np.float64) - y.astype(np.float64)
    return float(apart @ apart)
