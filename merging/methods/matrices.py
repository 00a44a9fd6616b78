"""Methods on the singular vectors of matrices: TSV-Merge, Iso-C and Iso-CTS.

Nothing here is done on a tall matrix as a whole. With a change D = U S V^T, V and S are the eigenvectors and the roots
of the eigenvalues of D^T D, which has the shorter side of D, and U = D V / S; so a method goes over stretches of rows
in float64, sums up products, and at the end multiplies stretches by a matrix of the shorter side. A wide matrix is
taken as its transpose. Signs and order of singular vectors cancel in all results.

In float64 the square of a singular value is known to about 1e-16 of the largest square, thus a value of 1e-5 of the
largest (below which it counts as zero) to a millionth of itself. BLAS gives the same bits for the same matrix on the
same machine, not on any.

What is no matrix, and lookup tables (embeddings and heads, whose one side is the vocabulary), get the mean of the task
vectors, as the authors' code does with all but the matrices of layers. Unlike that code: directions that are not there
(a LoRA has few) are left out, and directions of several models that are the same count once.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeAlias

import numpy as np

from merging.methods.arrays import Array
from merging.methods.parts import add_changes
from merging.methods.spec import Fraction, method
from merging.methods.task_vectors import Lambda

NO_VALUE = 1e-5  # of the largest singular value
SAME_DIRECTION = 1e-3  # of the largest singular value of a frame of unit vectors
PANEL = 2**21  # elements of a stretch of rows

Wide: TypeAlias = Any  # float64, numpy's or torch's
Rows = Callable[[list[Wide]], Wide]  # from the same rows of every model's change


def library(array: Array) -> Any:
    """The module whose functions take the array: what is used of it has the same name in both."""
    if isinstance(array, np.ndarray):
        return np
    import torch  # takes two seconds, and only a GPU needs it

    return torch


def mean_change(base: Array, models: Array, lambda_: float) -> Array:
    return add_changes(base, models, [lambda_ / len(models)] * len(models))


def upright(tensor: Array, row: int) -> Array:
    """A matrix as rows of its shorter side."""
    matrix = tensor.reshape(-1, row)
    return matrix.T if len(matrix) < row else matrix


def changes(base: Array, models: Array, row: int) -> Iterator[tuple[slice, list[Wide]]]:
    """The changes of all models, some rows at a time."""
    lib, start, ends = library(base), upright(base, row), [upright(m, row) for m in models]
    step = max(1, PANEL // start.shape[1])
    for at in range(0, len(start), step):
        rows = slice(at, at + step)
        before = lib.asarray(start[rows], dtype=lib.float64)
        yield rows, [lib.asarray(end[rows], dtype=lib.float64) - before for end in ends]


def product(base: Array, models: Array, row: int, left: Rows, right: Rows | None = None) -> Wide:
    """left^T right over all rows; left^T left where there is no right."""
    total: Wide = 0
    for _, deltas in changes(base, models, row):
        found = left(deltas)
        total = total + found.T @ (found if right is None else right(deltas))
    return total


def add_rows(base: Array, models: Array, row: int, change: Rows) -> Array:
    """The base with the change added, rounded once."""
    lib = library(base)
    found = lib.empty_like(base)
    merged, start = upright(found, row), upright(base, row)
    for rows, deltas in changes(base, models, row):
        merged[rows] = lib.asarray(start[rows] + change(deltas), dtype=lib.float32)
    return found  # type: ignore[no-any-return]


def directions(gram: Wide, most: int, largest: float | None = None) -> tuple[Wide, Wide]:
    """The main right singular vectors as columns, and their values, from D^T D; without those that are nothing."""
    lib = library(gram)
    squares, vectors = lib.linalg.eigh(gram)
    values = lib.sqrt(squares.clip(0))
    floor = NO_VALUE * (float(values[-1]) if largest is None else largest)
    first = len(values) - min(most, int((values > floor).sum()))
    return vectors[:, first:], values[first:]


def to_orthogonal(gram: Wide) -> Wide:
    """What takes a frame of unit vectors F, given F^T F, to the nearest one with orthogonal columns (Procrustes).

    Where columns depend on each other, singular values below a thousandth of the largest are left out, which makes it
    unique: the same direction twice becomes twice that direction over the square root of 2.
    """
    lib = library(gram)
    squares, vectors = lib.linalg.eigh(gram)
    values = lib.sqrt(squares.clip(0))
    there = values > SAME_DIRECTION * values[-1]
    vectors = vectors[:, there]
    return vectors / values[there] @ vectors.T


@method("TSV-Merge", paper="https://arxiv.org/abs/2412.00081", granularity="matrix")
def tsv(base: Array, models: Array, row: int, is_matrix: bool, *, lambda_: Lambda = 1.0) -> Array:
    """Add the main directions of every model's change, made orthogonal to those of the others.

    The paper's TSV-Merge (TSV-M), whose alpha is lambda. Of each of T task vectors of r = min(rows, columns)
    directions, the r // T of largest singular value are kept; the kept left vectors of all models, side by side, are
    replaced by the nearest orthogonal ones, and the right ones too; the singular values stay. One model alone is added
    whole. A model that changed nothing adds nothing, but counts in T. A matrix with r < T, a table and what is no
    matrix get the mean of the changes.

    Singular values of at most 1e-5 of a change's largest count as zero; kept vectors that are the same in several
    models count once. A whole matrix of every model is in memory at a time.
    """
    lib, count = library(base), len(models)
    share = min(row, len(base) // row) // count if is_matrix else 0
    if share == 0 or count == 1:
        return mean_change(base, models, lambda_)

    def own(i: int) -> Rows:
        return lambda deltas: deltas[i]

    kept = [directions(product(base, models, row, own(i)), share) for i in range(count)]
    right, values = (lib.concatenate(part, -1) for part in zip(*kept, strict=True))
    if not len(values):
        return base

    def left(deltas: list[Wide]) -> Wide:
        return lib.concatenate([d @ v / s for d, (v, s) in zip(deltas, kept, strict=True)], -1)

    from_left = to_orthogonal(product(base, models, row, left))
    change = from_left * (lambda_ * values) @ to_orthogonal(right.T @ right) @ right.T
    return add_rows(base, models, row, lambda deltas: left(deltas) @ change)


@method("Iso-C", paper="https://arxiv.org/abs/2502.04959", granularity="matrix")
def iso_c(base: Array, models: Array, row: int, is_matrix: bool, *, lambda_: Lambda = 1.0) -> Array:
    """Add the sum of all changes, with the same strength in each of its directions.

    The paper's algorithm, whose alpha is lambda: it searches for it on held-out data. All singular values of the sum of
    the task vectors are replaced by their mean, over those that are not zero (more than 1e-5 of the largest). A table
    and what is no matrix get the mean of the changes. A whole matrix of every model is in memory at a time.
    """
    if not is_matrix:
        return mean_change(base, models, lambda_)
    right, values = directions(product(base, models, row, total), min(row, len(base) // row))
    if not len(values):
        return base
    change = lambda_ * values.mean() * (right / values @ right.T)
    return add_rows(base, models, row, lambda deltas: total(deltas) @ change)


def total(deltas: list[Wide]) -> Wide:
    return sum(deltas[1:], deltas[0])


@method("Iso-CTS", paper="https://arxiv.org/abs/2502.04959", granularity="matrix")
def iso_cts(
    base: Array,
    models: Array,
    row: int,
    is_matrix: bool,
    *,
    common_space_fraction: Annotated[Fraction, "The share of all directions that comes from the sum."] = 0.8,
    lambda_: Lambda = 1.0,
) -> Array:
    """Add the main directions of the sum of all changes and, beside these, some of every model, all equally strong.

    The paper's algorithm, whose alpha is lambda: it searches for it on held-out data. Of r = min(rows, columns)
    directions, k = int(r * common_space_fraction) are meant for the sum of the task vectors; each of T models gets
    s = round((r - k) / T), halves to the even side, but at most r // T (unlike the authors' code, where the shares may
    exceed r), and the sum the r - s * T that are left. The s of a model are the main ones of its task vector less what
    lies in the left space of the sum's. All left vectors, side by side, are replaced by the nearest orthogonal ones,
    and the right ones too; all singular values by their mean, over those that are not zero. One model alone, or
    fraction 1, is iso_c. A table and what is no matrix get the mean of the changes.

    Zero is what is at most 1e-5 of the largest singular value of the sum, or of the model's own task vector. A whole
    matrix of every model is in memory at a time.
    """
    lib, count = library(base), len(models)
    rank = min(row, len(base) // row) if is_matrix else 0
    own = min(round((rank - int(rank * common_space_fraction)) / count), rank // count)
    if own == 0 or count == 1:
        return iso_c(base, models, row, is_matrix, lambda_=lambda_)

    common, strength = directions(product(base, models, row, total), rank - own * count)

    def shared(deltas: list[Wide]) -> Wide:
        return total(deltas) @ (common / strength)

    def whole(i: int) -> Rows:
        return lambda deltas: deltas[i]

    def rest(i: int) -> Rows:
        if len(base) // row < row:  # taken as its transpose, whose right space is the left one
            return lambda deltas: deltas[i] - deltas[i] @ common @ common.T
        inside = product(base, models, row, shared, whole(i))
        return lambda deltas: deltas[i] - shared(deltas) @ inside

    rests = [rest(i) for i in range(count)]
    largest = [
        float(lib.linalg.eigvalsh(product(base, models, row, whole(i)))[-1].clip(0)) ** 0.5 for i in range(count)
    ]
    kept = [directions(product(base, models, row, r), own, most) for r, most in zip(rests, largest, strict=True)]
    right, values = (lib.concatenate(part, -1) for part in zip(*kept, (common, strength), strict=True))
    if not len(values):
        return base

    def left(deltas: list[Wide]) -> Wide:
        mine = [r(deltas) @ v / s for r, (v, s) in zip(rests, kept, strict=True)]
        return lib.concatenate([*mine, shared(deltas)], -1)

    from_left = to_orthogonal(product(base, models, row, left))
    change = lambda_ * values.mean() * (from_left @ to_orthogonal(right.T @ right) @ right.T)
    return add_rows(base, models, row, lambda deltas: left(deltas) @ change)
