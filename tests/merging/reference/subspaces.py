"""Methods on the singular vectors of matrices.

What a matrix's singular vectors are is a question of the whole tensor, but not of more than the Gram matrices of its
smaller side: with tau = U S V^T, U = tau V / S, so that one pass sums tau_i^T tau_j for all pairs (float64), and one
row pass multiplies each tau_i by a square matrix. Signs and order of singular vectors cancel in all results here.

Only tensors of two dimensions are matrices. Others get the mean of the task vectors, as in the authors' code. So do
lookup tables (`table`: embeddings and heads, whose one side is the vocabulary; merging/heads.py has their names): what
they hold is one vector for each token, not directions of a layer. It also spares the largest Gram matrices.

Unlike the authors' code: directions that are not there are left out. A singular value of at most 1e-5 of the matrix's
largest counts as zero (a LoRA has few directions; the authors' code then takes whatever vectors the solver returns),
and directions of several models that are the same count once (see `orthogonal`).
"""

from typing import Any

import numpy as np

Array = Any  # of numpy, float64

NO_VALUE = 1e-5  # of the largest singular value
SAME_DIRECTION = 1e-3  # of the largest singular value of a frame of unit vectors


def tsv(base: Array, models: Array, lambda_: float = 1.0, table: bool = False) -> Array:
    """Add the main directions of every model's change, made orthogonal to those of the others.

    TSV-M. https://arxiv.org/abs/2412.00081, the algorithm of TSV-Merge (its alpha is lambda).
    Models: 1 or more. Base: required. Granularity: tensor (Gram matrices, then rows).

    lambda: float, -3..3, 1.0. What the merged change is multiplied by.

    Of each of T task vectors of r = min(rows, columns) directions, the r // T of largest singular value are kept; the
    kept left vectors of all models, side by side, are replaced by the nearest orthogonal ones, and the right ones too;
    the singular values stay. One model alone is added whole. A matrix with r < T gets the mean. A model that changed
    nothing adds nothing, but counts in T.
    """
    deltas = models - base
    share = min(base.shape) // len(models) if base.ndim == 2 else 0
    if table or share == 0:
        return base + lambda_ * deltas.mean(0)
    parts = [directions(delta, share) for delta in deltas]
    left, values, right = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return base + lambda_ * (orthogonal(left) * values) @ orthogonal(right).T


def iso_c(base: Array, models: Array, lambda_: float = 1.0, table: bool = False) -> Array:
    """Add the sum of all changes, with the same strength in each of its directions.

    Iso-C. https://arxiv.org/abs/2502.04959, the algorithm of that name (its alpha is lambda).
    Models: 1 or more. Base: required. Granularity: tensor (one Gram matrix of the sum, then rows).

    lambda: float, -3..3, 1.0. What the merged change is multiplied by; the paper searches for it on held-out data.

    All singular values of the sum of the task vectors are replaced by their mean, over those that are not zero.
    """
    deltas = models - base
    if table or base.ndim != 2 or base.size == 0:
        return base + lambda_ * deltas.mean(0)
    left, values, right = directions(deltas.sum(0), min(base.shape))
    return base + lambda_ * (values.mean() if values.size else 0) * left @ right.T


def iso_cts(base: Array, models: Array, common_space_fraction: float = 0.8, lambda_: float = 1.0,
            table: bool = False) -> Array:  # fmt: skip
    """Add the main directions of the sum of all changes and, beside these, some of every model, all equally strong.

    Iso-CTS. https://arxiv.org/abs/2502.04959, the algorithm of that name (its alpha is lambda).
    Models: 1 or more. Base: required. Granularity: tensor (Gram matrices, then rows).

    common_space_fraction: float, 0..1, 0.8. The share of all directions that comes from the sum.
    lambda: float, -3..3, 1.0. What the merged change is multiplied by; the paper searches for it on held-out data.

    Of r = min(rows, columns) directions, k = int(r * common_space_fraction) are meant for the sum of the task vectors;
    each of T models gets s = round((r - k) / T), halves to the even side, but at most r // T, and the sum the r - s * T
    that are left. The s of a model are the main ones of its task vector less what lies in the left space of the sum's.
    All left vectors, side by side, are replaced by the nearest orthogonal ones, and the right ones too; all singular
    values by their mean, over those that are not zero. One model alone, or fraction 1, is iso_c.
    Unlike the authors' code: s is at most r // T, so that the shares never exceed r.
    """
    deltas = models - base
    if table or base.ndim != 2 or base.size == 0:
        return base + lambda_ * deltas.mean(0)
    rank, count = min(base.shape), len(models)
    own = min(round((rank - int(rank * common_space_fraction)) / count), rank // count)
    common = directions(deltas.sum(0), rank - own * count)
    rest = [delta - common[0] @ common[0].T @ delta for delta in deltas]
    parts = [directions(r, own, beside=delta) for r, delta in zip(rest, deltas, strict=True)]
    left, values, right = (np.concatenate(part, axis=-1) for part in zip(*parts, common, strict=True))
    return base + lambda_ * (values.mean() if values.size else 0) * orthogonal(left) @ orthogonal(right).T


def directions(matrix: Array, most: int, beside: Array | None = None) -> tuple[Array, Array, Array]:
    """The main left singular vectors as columns, their values, and the right ones as columns.

    Values that are nothing beside the largest of the matrix (or of `beside`) are left out.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    largest = values.max(initial=0) if beside is None else np.linalg.svd(beside, compute_uv=False).max(initial=0)
    count = min(most, int((values > NO_VALUE * largest).sum()))
    return left[:, :count], values[:count], right[:count].T


def orthogonal(columns: Array) -> Array:
    """The nearest matrix with orthogonal columns of length 1: U V^T of the SVD (orthogonal Procrustes).

    Where columns (all of length 1) depend on each other, singular values below a thousandth of the largest are left
    out, which makes it unique: the same direction twice becomes twice that direction over the square root of 2.
    """
    left, values, right = np.linalg.svd(columns, full_matrices=False)
    there = values > SAME_DIRECTION * values.max(initial=0)
    return left[:, there] @ right[there]
