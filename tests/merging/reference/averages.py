"""Methods that go between models: averages, arcs and choices."""

from itertools import combinations
from typing import Any

import numpy as np

Array = Any  # of numpy, float64


def linear(models: Array, weight: list[float], normalize: bool = True) -> Array:
    total = sum(w * m for w, m in zip(weight, models, strict=True))
    return total / sum(weight) if normalize else total


def passthrough(models: Array, scale: list[float]) -> Array:
    return models[0] * scale[0]


def slerp(base: Array, models: Array, t: float) -> Array:
    a, b = base.ravel(), models[0].ravel()
    norm_a, norm_b = np.sqrt(sum(a * a)), np.sqrt(sum(b * b))
    unit_a = a / norm_a if norm_a > 1e-8 else a
    unit_b = b / norm_b if norm_b > 1e-8 else b
    cosine = sum(unit_a * unit_b)
    if abs(cosine) > 0.9995:
        return (1 - t) * base + t * models[0]
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * base + np.sin(t * angle) * models[0]) / np.sin(angle)


def nuslerp(models: Array, weight: list[float], nuslerp_row_wise: bool = False, nuslerp_flatten: bool = True,
            base: Array | None = None) -> Array:  # fmt: skip
    """Interpolate between two models, or between what they changed, along the arc that joins them.

    NuSLERP. https://doi.org/10.1145/325334.325242 (the arc), mergekit (weights, rows, base).
    Models: 2. Base: optional; when there is one, the arc joins the task vectors, and is added to it.
    Granularity: tensor; row with nuslerp_flatten false; with nuslerp_row_wise as well, each column is a vector.

    weight: float per model, -2..2, required. Only the ratio counts: t = w1 / (w0 + w1); 0.5 where |w0 + w1| < 1e-6.
    nuslerp_flatten: bool, true. The tensor is one vector; nuslerp_row_wise has no effect.
    nuslerp_row_wise: bool, false. Named against what it does: true takes vectors along the first dimension (columns
    of a matrix as it is stored), false along the last (rows). As in mergekit. Tensors of 0 and 1 dimensions are one
    vector.

    A vector of no length is at a right angle to all; lengths below 1e-7 count as 1e-7 when the angle is taken.
    Unlike mergekit: on a line (1 - cosine^2 at most 1e-12, where mergekit has 1e-16) the way is straight, so that
    opposite vectors do not blow rounding up.
    """
    start = 0 if base is None else base
    total = sum(weight)
    t = 0.5 if abs(total) < 1e-6 else weight[1] / total
    whole = nuslerp_flatten or models.ndim <= 2
    return start + arc(models[0] - start, models[1] - start, t, None if whole else 0 if nuslerp_row_wise else -1)


def arc(a: Array, b: Array, t: float, axis: int | None) -> Array:
    def unit(v: Array) -> Array:
        return v / np.maximum(np.sqrt((v * v).sum(axis, keepdims=True)), 1e-7)

    cosine = (unit(a) * unit(b)).sum(axis, keepdims=True).clip(-1, 1)
    on_a_line = 1 - cosine**2 <= 1e-12
    angle = np.arccos(np.where(on_a_line, 0, cosine))
    curved = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.where(on_a_line, (1 - t) * a + t * b, curved)


def multislerp(models: Array, weight: list[float], normalize_weights: bool = True, eps: float = 1e-8,
               base: Array | None = None) -> Array:  # fmt: skip
    """Average the directions of models, or of what they changed, and their lengths, each by weight.

    Multi-SLERP. https://goddard.blog/posts/multislerp-wow-what-a-cool-idea
    Models: 1 or more. Base: optional; when there is one, task vectors are averaged, and added to it.
    Granularity: tensor (lengths and dot products of all models, then one pass).

    weight: float per model, -2..2, required.
    normalize_weights: bool, true. Divide the weights by their sum; a sum of zero (|sum| < 1e-8) is an error in the
    recipe.
    eps: float, above 0, 1e-8. Added to lengths before dividing by them; a mean direction shorter than it is none.

    One model is returned as it is, whatever its weight. mergekit's step on the tangent space is not here because it
    adds nothing: at the weighted mean of the directions, the weighted tangents sum to zero.
    Unlike mergekit: where the directions have no mean (all changes are zero, or they cancel), the weighted sum of the
    tensors is taken for any number of models; mergekit does so for two and stops for more.
    """
    if len(models) == 1:
        return models[0]

    start = 0 if base is None else base
    tensors = [m - start for m in models]
    weight = [w / sum(weight) for w in weight] if normalize_weights else weight
    lengths = [np.sqrt((x * x).sum()) for x in tensors]
    mean = sum(w * x / (n + eps) for w, x, n in zip(weight, tensors, lengths, strict=True))
    length = np.sqrt((mean * mean).sum())
    if length < eps:
        return start + sum(w * x for w, x in zip(weight, tensors, strict=True))
    return start + mean / length * sum(w * n for w, n in zip(weight, lengths, strict=True))


def karcher(models: Array, max_iter: int = 10, tol: float = 1e-5) -> Array:
    """Average the directions of models on the sphere, and their lengths, all alike.

    Karcher mean. https://arxiv.org/abs/2603.04972
    Models: 1 or more. Base: unused. Granularity: tensor (dot products of all models, then one pass).

    max_iter: int, 1..1000, 10. Steps towards the mean at most.
    tol: float, above 0 and at most 0.1, 1e-5. A step, an angle or a length below it counts as none.

    There are no weights, as in mergekit. Models of length at most tol have no direction: they count in the mean
    length only; where all are so, the result is zero. Directions that cancel: the search starts at the first model.
    Unlike mergekit: a base_model that is not among the models is refused, where mergekit averages it in as one more
    model; and a direction opposite to the mean (within tol) is passed over, since no way to it is the shortest.
    """
    if len(models) == 1:
        return models[0]

    lengths = [np.sqrt((m * m).sum()) for m in models]
    units = [m / n for m, n in zip(models, lengths, strict=True) if n > tol]
    if not units:
        return np.zeros_like(models[0])
    mean = sum(units) / len(units)
    length = np.sqrt((mean * mean).sum())
    mean = units[0] if length < tol else mean / length
    for _ in range(max_iter):
        step = sum(towards(mean, unit, tol) for unit in units) / len(units)
        length = np.sqrt((step * step).sum())
        if length < tol:
            break
        mean = np.cos(length) * mean + np.sin(length) * step / length
        mean = mean / np.sqrt((mean * mean).sum())
    return sum(lengths) / len(lengths) * mean


def towards(mean: Array, unit: Array, tol: float) -> Array:
    """The tangent at `mean` that leads to `unit`, as long as the arc between them."""
    cosine = (mean * unit).sum().clip(-1, 1)
    angle = np.arccos(cosine)
    if angle < tol or angle > np.pi - tol:
        return np.zeros_like(mean)
    return angle / np.sin(angle) * (unit - cosine * mean)


def model_stock(base: Array, models: Array, filter_wise: bool = False) -> Array:
    """Move from the base towards the average, the less the more the models disagree.

    Model Stock. https://arxiv.org/abs/2403.19522
    Models: 2 or more. Base: required. Granularity: tensor; row with filter_wise.

    filter_wise: bool, false. Measure the angle for each row of the last dimension, not for the whole tensor.

    cos = mean over pairs of the cosine of their changes; t = N cos / (1 + (N - 1) cos), the paper's equation for N
    models; t may be below 0. As in mergekit, the product of two lengths counts as at least 1e-6, so that changes
    shorter than a thousandth look less alike than they are; no change is at a right angle to all. Tensors of 0 and 1
    dimensions are one row. Where |1 + (N - 1) cos| < 1e-6 the base is kept.
    """
    rows = base.shape[-1] if base.ndim > 1 and filter_wise else base.size
    deltas = (models - base).reshape(len(models), -1, rows) if rows else (models - base).reshape(len(models), 1, 0)
    lengths = np.sqrt((deltas * deltas).sum(-1, keepdims=True))
    cosines = [
        ((deltas[i] * deltas[j]).sum(-1, keepdims=True) / np.maximum(lengths[i] * lengths[j], 1e-6)).clip(-1, 1)
        for i, j in combinations(range(len(models)), 2)
    ]
    cosine, n = sum(cosines) / len(cosines), len(models)
    divisor = 1 + (n - 1) * cosine
    singular = np.abs(divisor) < 1e-6
    t = np.where(singular, 0, n * cosine / np.where(singular, 1, divisor))
    return base + (t * deltas.mean(0)).reshape(base.shape)


def nearswap(base: Array, models: Array, t: float) -> Array:
    """Take over what the other model has where it is near the base, and move by at most t elsewhere.

    NearSwap. https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001
    Models: 1. Base: required. Granularity: element.

    t: float, 0..1, required. How far an entry may move; a typical value is 0.0001.

    The share of the other model is t / max(|change|, 1e-6), at most 1; t = 0 leaves the base.
    """
    share = (t / np.maximum(np.abs(models[0] - base), 1e-6)).clip(0, 1)
    return share * models[0] + (1 - share) * base


def arcee_fusion(base: Array, models: Array) -> Array:
    """Take over the other model's entries that changed most, in rows whose distribution changed most.

    Arcee Fusion. https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md
    Models: 1. Base: required. Granularity: row for the importance, then tensor for its quantiles (exact ones: two
    histogram passes), then rows again. No parameters.

    importance = |change| * KL(softmax(model) || softmax(base)), with softmax along the last dimension and 1e-8 added
    to each probability; taken over are entries of importance >= median + 1.5 * (third quartile - first quartile).
    Quantile q of n numbers is the one at floor(q * (n - 1)) in ascending order. Rows of one element and tensors
    without dimensions have KL 0; where all importances are equal (nothing changed, one element) all is taken over.
    A KL of at most 1e-14 counts as 0: it is rounding (softmax is blind to a row that is moved as a whole).
    Unlike mergekit: quantiles are exact for any size, where mergekit draws a million of more; and KL is to be computed
    in float64: for changes below about a thousandth it is smaller than the rounding of mergekit's float32.
    """
    model = models[0]
    if base.size == 0:
        return base
    p, q = softmax(model) + 1e-8, softmax(base) + 1e-8
    divergence = (p * np.log(p / q)).sum(-1, keepdims=base.ndim > 0)
    importance = np.abs(model - base) * np.where(divergence > 1e-14, divergence, 0)
    ascending = np.sort(importance, axis=None)
    first, median, third = (ascending[quarters * (base.size - 1) // 4] for quarters in (1, 2, 3))
    return np.where(importance >= median + 1.5 * (third - first), model, base)


def softmax(x: Array) -> Array:
    if x.ndim == 0:
        return np.ones_like(x)
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def wise_ft(base: Array, models: Array, alpha: float = 0.5) -> Array:
    """Blend a fine-tune with the model it came from, to keep what that one could do.

    WiSE-FT. https://arxiv.org/abs/2109.01903, equation 1.
    Models: 1. Base: required. Granularity: element.

    alpha: float, 0..1, 0.5 (the paper's choice when nothing is known). The share of the fine-tune.
    """
    return (1 - alpha) * base + alpha * models[0]
