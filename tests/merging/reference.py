"""Every method once more in float64, written to be obvious and not fast; nothing is shared with the engine.

Random masks are the one thing that cannot be known here: they are arguments.
"""

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


def task_arithmetic(
    base: Array, models: Array, weight: list[float], normalize: bool = False, lambda_: float = 1
) -> Array:
    change = sum(w * (m - base) for w, m in zip(weight, models, strict=True))
    return base + lambda_ * (change / sum(weight) if normalize else change)


def trim(delta: Array, density: float) -> Array:
    keep = int(density * delta.size)
    if keep == 0:
        return np.zeros_like(delta)
    threshold = np.sort(np.abs(delta).ravel())[::-1][keep - 1]
    return np.where(np.abs(delta) >= threshold, delta, 0)


def rescaled(kept: Array, delta: Array) -> Array:
    before, after = np.abs(delta).sum(), np.abs(kept).sum()
    return kept if before < 1e-7 or after < 1e-7 else kept * before / after


def vote(base: Array, deltas: list[Array], weight: list[float], normalize: bool, lambda_: float) -> Array:
    weighted = np.array([w * d for w, d in zip(weight, deltas, strict=True)])
    majority = np.where(weighted.sum(0) >= 0, 1, -1)
    agree = np.sign(weighted) == majority
    change = np.where(agree, weighted, 0).sum(0)
    if normalize:
        divisor = sum(np.where(a, w, 0) for a, w in zip(agree, weight, strict=True))
        change = change / np.where(divisor == 0, 1, divisor)
    return base + lambda_ * change


def ties(base: Array, models: Array, weight: list[float], density: list[float], normalize: bool = True,
         rescale: bool = False, lambda_: float = 1) -> Array:  # fmt: skip
    deltas = [m - base for m in models]
    kept = [trim(d, p) for d, p in zip(deltas, density, strict=True)]
    if rescale:
        kept = [rescaled(k, d) for k, d in zip(kept, deltas, strict=True)]
    return vote(base, kept, weight, normalize, lambda_)


def dare_linear(base: Array, models: Array, masks: Array, weight: list[float], normalize: bool = False,
                rescale: bool = True, lambda_: float = 1) -> Array:  # fmt: skip
    kept = drop(base, models, masks, rescale)
    change = sum(w * k for w, k in zip(weight, kept, strict=True))
    return base + lambda_ * (change / sum(weight) if normalize else change)


def dare_ties(base: Array, models: Array, masks: Array, weight: list[float], normalize: bool = False,
              rescale: bool = True, lambda_: float = 1) -> Array:  # fmt: skip
    return vote(base, drop(base, models, masks, rescale), weight, normalize, lambda_)


def drop(base: Array, models: Array, masks: Array, rescale: bool) -> list[Array]:
    deltas = [m - base for m in models]
    kept = [d * k for d, k in zip(deltas, masks, strict=True)]
    return [rescaled(k, d) for k, d in zip(kept, deltas, strict=True)] if rescale else kept
