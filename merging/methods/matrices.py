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

Besides the inputs as they are stored and what comes out, a method keeps SQUARES matrices of the shorter side at most,
and STRETCHES stretches of rows besides one of every model.
"""

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Annotated, Any, TypeAlias

import numpy as np

from merging.methods.arrays import Array
from merging.methods.parts import add_changes
from merging.methods.spec import Fraction, method
from merging.methods.stored import Row
from merging.methods.task_vectors import Lambda

NO_VALUE = 1e-5  # of the largest singular value
SAME_DIRECTION = 1e-3  # of the largest singular value of a frame of unit vectors
PANEL = 2**19  # elements of a stretch of rows
SQUARES = 9  # float64 matrices of the shorter side in memory at once, of which four are eigh's
STRETCHES = 6  # and stretches of rows in float64, besides those of the models

Wide: TypeAlias = Any  # float64, numpy's or torch's
Rows = Callable[[list[Wide]], Wide]  # from the same rows of every model's change


def library(array: Array) -> Any:
    """The module whose functions take the array: what is used of it has the same name in both."""
    if isinstance(array, np.ndarray):
        return np
    import torch  # takes two seconds, and only a GPU needs it

    return torch


def mean_change(base: Array, models: Array, lambda_: float, row: int, *, is_matrix: bool) -> Array:
    by = lambda_ / len(models)
    if is_matrix:
        return add_rows(base, models, row, lambda deltas: by * total(deltas))
    return add_changes(base, models, [by] * len(models))


def as_is(base: Array, models: Array, row: int) -> Array:
    return add_rows(base, models, row, lambda deltas: -0.0)  # which changes no number, nor the sign of zero


def upright(tensor: Any, row: int) -> Any:
    """A matrix as rows of its shorter side."""
    matrix = tensor.reshape(-1, row)
    return matrix.T if len(matrix) < row else matrix


def stretch(tensor: Array | Row, row: int, rows: slice) -> Wide:
    """Some rows of the upright matrix, in float64."""
    if isinstance(tensor, Row):
        halves = upright(tensor.halves, row)[rows]
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    lib = library(tensor)
    return lib.asarray(upright(tensor, row)[rows], dtype=lib.float64)


def changes(base: Array, models: Array, row: int) -> Iterator[tuple[slice, list[Wide]]]:
    """The changes of all models, some rows at a time."""
    if isinstance(base, Row):
        base.store.settle()  # no matrix is taken apart before its numbers are known to be finite
    narrow, long = shape_of(base, row)
    step = max(1, PANEL // narrow)
    for at in range(0, long, step):
        rows = slice(at, at + step)
        before = stretch(base, row, rows)
        yield rows, [minus(stretch(model, row, rows), before) for model in models]


def minus(ends: Wide, before: Wide) -> Wide:
    ends -= before
    return ends


def shape_of(tensor: Array | Row, row: int) -> tuple[int, int]:
    """The shorter side of a matrix, and the longer one."""
    column = len(tensor) // row
    return min(row, column), max(row, column)


def product(base: Array, models: Array, row: int, left: Rows, right: Rows | None = None) -> Wide:
    """left^T right over all rows; left^T left where there is no right."""
    total: Wide = None
    for _, deltas in changes(base, models, row):
        found = left(deltas)
        part = found.T @ (found if right is None else right(deltas))
        if total is None:
            total = part
        else:
            total += part
    return total


def add_rows(base: Array, models: Array, row: int, change: Rows) -> Array:
    """The base with the change added, rounded once."""
    found = np.empty(len(base), np.float32) if isinstance(base, Row) else library(base).empty_like(base)
    merged = upright(found, row)
    for rows, deltas in changes(base, models, row):
        merged[rows] = stretch(base, row, rows) + change(deltas)
    return found  # type: ignore[no-any-return]


def total(deltas: list[Wide]) -> Wide:
    return sum(deltas[1:], deltas[0])


def model_of(i: int) -> Rows:
    return lambda deltas: deltas[i]


def beside(parts: list[Wide]) -> Wide:
    """As columns of one matrix."""
    return library(parts[0]).concatenate(parts, -1)


def joined(parts: list[tuple[Wide, Wide]]) -> tuple[Wide, Wide, list[slice]]:
    """Directions of several, side by side; their values; and where those of each are. The parts are let go."""
    ends = list(accumulate(len(values) for _, values in parts))
    places = [slice(end - len(values), end) for end, (_, values) in zip(ends, parts, strict=True)]
    found = beside([right for right, _ in parts]), beside([values for _, values in parts])
    parts.clear()
    return *found, places


def directions(gram: Wide, most: int, largest: float | None = None) -> tuple[Wide, Wide]:
    """The main right singular vectors as columns, and their values, from D^T D; without those that are nothing."""
    lib = library(gram)
    squares, vectors = lib.linalg.eigh(gram)
    values = lib.sqrt(squares.clip(0))
    floor = NO_VALUE * (float(values[-1]) if largest is None else largest)
    first = len(values) - min(most, int((values > floor).sum()))
    return part_of(vectors, first), values[first:]


def part_of(vectors: Wide, first: int) -> Wide:
    """The last columns, without keeping the others in memory."""
    return beside([vectors[:, first:]]) if first else vectors


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
    models count once. A whole matrix of every model is in memory at a time, as
    it is stored where that is bfloat16.
    """
    count = len(models)
    share = min(shape_of(base, row)) // count if is_matrix else 0
    if share == 0 or count == 1:
        return mean_change(base, models, lambda_, row, is_matrix=is_matrix)

    own = [model_of(i) for i in range(count)]
    right, values, places = joined([directions(product(base, models, row, change), share) for change in own])
    if not len(values):
        return as_is(base, models, row)

    def left(deltas: list[Wide]) -> Wide:
        return beside([change(deltas) @ right[:, at] / values[at] for change, at in zip(own, places, strict=True)])

    from_left = to_orthogonal(product(base, models, row, left)) * (lambda_ * values)
    change = from_left @ (to_orthogonal(right.T @ right) @ right.T)
    return add_rows(base, models, row, lambda deltas: left(deltas) @ change)


@method("Iso-C", paper="https://arxiv.org/abs/2502.04959", granularity="matrix")
def iso_c(base: Array, models: Array, row: int, is_matrix: bool, *, lambda_: Lambda = 1.0) -> Array:
    """Add the sum of all changes, with the same strength in each of its directions.

    The paper's algorithm, whose alpha is lambda: it searches for it on held-out data. All singular values of the sum of
    the task vectors are replaced by their mean, over those that are not zero (more than 1e-5 of the largest). A table
    and what is no matrix get the mean of the changes. In memory at a time: as for tsv.
    """
    if not is_matrix:
        return mean_change(base, models, lambda_, row, is_matrix=False)
    right, values = directions(product(base, models, row, total), min(shape_of(base, row)))
    if not len(values):
        return as_is(base, models, row)
    change = lambda_ * values.mean() * (right / values @ right.T)
    return add_rows(base, models, row, lambda deltas: total(deltas) @ change)


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

    Zero is what is at most 1e-5 of the largest singular value of the sum, or of the model's own task vector. In
    memory at a time: as for tsv.
    """
    count = len(models)
    rank = min(shape_of(base, row)) if is_matrix else 0
    own = min(round((rank - int(rank * common_space_fraction)) / count), rank // count)
    if own == 0 or count == 1:
        return iso_c(base, models, row, is_matrix, lambda_=lambda_)

    common, strength = directions(product(base, models, row, total), rank - own * count)
    of_shared = common / strength
    is_wide = len(base) // row < row  # taken as its transpose, whose right space is the left one

    def shared(deltas: list[Wide]) -> Wide:
        return total(deltas) @ of_shared

    def apart(i: int) -> tuple[Wide, Wide, Wide]:
        """Of what the i-th model changed outside the left space of the sum: values, and what makes the left vectors
        of its change and of those shared."""
        change, lib = model_of(i), library(common)
        inside = common @ common.T if is_wide else product(base, models, row, shared, change)

        def rest(deltas: list[Wide]) -> Wide:
            return change(deltas) - (change(deltas) if is_wide else shared(deltas)) @ inside

        gram = product(base, models, row, change)
        largest = float(lib.linalg.eigvalsh(gram)[-1].clip(0)) ** 0.5
        del gram
        right, values = directions(product(base, models, row, rest), own, largest)
        return right, values, inside @ (right / values)

    parts = [apart(i) for i in range(count)]
    right, values, places = joined([(mine, by) for mine, by, _ in parts] + [(common, strength)])
    if not len(values):
        return as_is(base, models, row)
    outside = [less for *_, less in parts]
    del parts

    def left(deltas: list[Wide]) -> Wide:
        both = shared(deltas)
        mine = [
            deltas[i] @ (right[:, at] / values[at]) - (deltas[i] if is_wide else both) @ outside[i]
            for i, at in enumerate(places[:-1])
        ]
        return beside([*mine, both])

    from_left = to_orthogonal(product(base, models, row, left))
    change = from_left @ (to_orthogonal(right.T @ right) @ right.T) * (lambda_ * values.mean())
    return add_rows(base, models, row, lambda deltas: left(deltas) @ change)
