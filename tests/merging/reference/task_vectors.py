"""Methods that add what each model learnt to a common base."""

from typing import Any

import numpy as np

Array = Any  # of numpy, float64


def task_arithmetic(
    base: Array, models: Array, weight: list[float], normalize: bool = False, lambda_: float = 1
) -> Array:
    change = sum(w * (m - base) for w, m in zip(weight, models, strict=True))
    return base + lambda_ * (change / sum(weight) if normalize else change)


def trim(delta: Array, density: float) -> Array:
    if density == 0 or delta.size == 0:
        return np.zeros_like(delta)
    keep = max(1, int(density * delta.size))
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
        least = len(weight) * 2**-24 * np.abs(weight).sum()  # what a sum in float32 may be wrong by
        change = change / np.where(np.abs(divisor) <= least, 1, divisor)
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


def breadcrumbs(base: Array, models: Array, weight: list[float], density: list[float], gamma: list[float],
                normalize: bool = False, rescale: bool = False, lambda_: float = 1) -> Array:  # fmt: skip
    """Drop the smallest changes of each model and its few largest ones, and add the weighted rest.

    Model Breadcrumbs. https://arxiv.org/abs/2312.06795
    Models: 1 or more. Base: required. Granularity: tensor (two k-th magnitudes per model: two histogram passes; one
    more for the sums with rescale; then one pass).

    weight: float per model, -2..2, required.
    density: float per model, 0..1, 1.0. The share of the changes that is kept; 1 keeps all, the largest too.
    gamma: float per model, 0..1, 0.01. The share that is dropped from the top.
    normalize: bool, false. Divide by the sum of the weights; a sum of zero (|sum| < 1e-8) is an error in the recipe.
    rescale: bool, false. Scale what was kept to the sum of magnitudes from before (as ties does).
    lambda: float, -3..3, 1.0. What the merged change is multiplied by.
    (mergekit's int8_mask has no effect.)

    Of n changes in ascending order of magnitude, int(density * n) are kept: those below the int(gamma * n) largest, or,
    where there are not as many, the smallest (density comes before gamma). density 0 keeps none.
    Unlike mergekit: changes as large as the largest or the smallest that is kept are kept too, where mergekit takes
    whichever its sort puts first. Unlike the paper, and as in mergekit: density is what is kept, not what is dropped.
    """
    deltas = [m - base for m in models]
    kept = [middle(d, p, g) for d, p, g in zip(deltas, density, gamma, strict=True)]
    return add(base, deltas, kept, weight, normalize, rescale, lambda_)


def breadcrumbs_ties(base: Array, models: Array, weight: list[float], density: list[float], gamma: list[float],
                     normalize: bool = False, rescale: bool = False, lambda_: float = 1) -> Array:  # fmt: skip
    """Drop the smallest changes of each model and its few largest ones, and add those that agree with the elected sign.

    Breadcrumbs + TIES. https://arxiv.org/abs/2312.06795
    All as in `breadcrumbs`, with the vote of ties (on weighted changes; a tied vote elects +); normalize divides by the
    weights of the models that agree, by 1 where these sum to zero.
    """
    deltas = [m - base for m in models]
    kept = [middle(d, p, g) for d, p, g in zip(deltas, density, gamma, strict=True)]
    return add(base, deltas, kept, weight, normalize, rescale, lambda_, by_vote=True)


def middle(delta: Array, density: float, gamma: float) -> Array:
    """The changes between the smallest and the largest ones."""
    if density >= 1:
        return delta
    size, keep = delta.size, int(density * delta.size)
    if keep == 0:
        return np.zeros_like(delta)
    lowest = max(0, size - keep - int(gamma * size))
    ascending, magnitude = np.sort(np.abs(delta), axis=None), np.abs(delta)
    return np.where((magnitude >= ascending[lowest]) & (magnitude <= ascending[lowest + keep - 1]), delta, 0)


def della(base: Array, models: Array, masks: Array, weight: list[float], normalize: bool = True, rescale: bool = True,
          lambda_: float = 1) -> Array:  # fmt: skip
    """Drop changes at random, rather the small ones, scale up the rest, and add those that agree with the elected sign.

    DELLA. https://arxiv.org/abs/2406.11617
    Models: 1 or more. Base: required. Granularity: row (ranks), with a sum over the tensor for rescale.

    weight: float per model, -2..2, required.
    density: float per model, 0..1, 1.0. The share of the changes that is kept, on average; 1 keeps all and 0 none.
    epsilon: float per model, 0..0.5, 0.15. How far the chance of the largest and the smallest of a row is from density.
    normalize: bool, true. Divide by the weights of the models that agree, by 1 where these sum to zero.
    rescale: bool, true. Scale what was kept to the sum of magnitudes from before (as DARE does).
    lambda: float, -3..3, 1.0. What the merged change is multiplied by.
    (mergekit's int8_mask has no effect.)

    Chances are those of `della_probabilities`. density + epsilon >= 1 or density - epsilon <= 0 is an error in the
    recipe, unless density is 0 or 1. The vote is that of ties. As in mergekit, and unlike the paper: what is kept is
    scaled to the sum of magnitudes of the tensor's change, not by 1 / its chance; not at all where either sum is below
    1e-7.
    Unlike mergekit: changes of equal magnitude have equal chances; rows of one element do not fail.
    """
    deltas = [m - base for m in models]
    return add(base, deltas, [d * k for d, k in zip(deltas, masks, strict=True)], weight, normalize, rescale, lambda_,
               by_vote=True)  # fmt: skip


def della_linear(base: Array, models: Array, masks: Array, weight: list[float], normalize: bool = False,
                 rescale: bool = True, lambda_: float = 1) -> Array:  # fmt: skip
    """Drop changes at random, rather the small ones, scale up the rest, and add the weighted differences.

    DELLA, linear. https://arxiv.org/abs/2406.11617
    As `della`, without the vote; normalize (bool, false) divides by the sum of the weights, and a sum of zero
    (|sum| < 1e-8) is an error in the recipe.
    """
    deltas = [m - base for m in models]
    return add(base, deltas, [d * k for d, k in zip(deltas, masks, strict=True)], weight, normalize, rescale, lambda_)


def della_probabilities(delta: Array, density: float, epsilon: float) -> Array:
    """The chance of each change to be kept, linear in its rank in its row (the last dimension) by magnitude.

    From density - epsilon for the smallest to density + epsilon for the largest; equal ones have the mean of their
    ranks. A row of one element has density; so have tensors without dimensions.
    """
    if density <= 0 or density >= 1:
        return np.full(delta.shape, float(density >= 1))
    rows = np.abs(delta).reshape(-1, delta.shape[-1] if delta.ndim else 1) if delta.size else np.abs(delta)
    ranks = np.array([mean_ranks(row) for row in rows])
    last = max(1, rows.shape[-1] - 1)
    chances = density - epsilon + 2 * epsilon * ranks / last if rows.shape[-1] != 1 else np.full(rows.shape, density)
    return chances.reshape(delta.shape)


def mean_ranks(row: Array) -> Array:
    """From 0 for the smallest; the mean of how many are below, and how many more are not above."""
    ascending = np.sort(row)
    return (np.searchsorted(ascending, row, "left") + np.searchsorted(ascending, row, "right") - 1) / 2


def lines(base: Array, models: Array, depth: float, weight: list[float], alpha: float = 0.5,
          beta: float = 0.5) -> Array:  # fmt: skip
    """Add the weighted differences, little of them in the first layers and more in the later ones.

    LiNeS. https://arxiv.org/abs/2410.17146, its only equation of the scale: the change of layer l of L is multiplied
    by alpha + beta * (l - 1) / (L - 1).
    Models: 1 or more. Base: required. Granularity: element; needs the layer of the tensor.

    weight: float per model, -2..2, 1.0. How much of this model's change is added; the paper has none.
    alpha: float, 0..2, 0.5. The factor of the first layer; the paper takes 1 / number of models when several are added.
    beta: float, -2..2, 0.5. How much larger the factor of the last layer is; the paper searches 0..1.

    `depth` is (l - 1) / (L - 1), as in a gradient: 0 for tensors outside the layers (embeddings, final norm, head, as
    in the authors' code), and 1 in a model of one layer. The same as task_arithmetic with a gradient of
    lambda: [alpha, alpha + beta].
    """
    return task_arithmetic(base, models, weight, lambda_=alpha + beta * depth)


def add(base: Array, deltas: list[Array], kept: list[Array], weight: list[float], normalize: bool, rescale: bool,
        lambda_: float, by_vote: bool = False) -> Array:  # fmt: skip
    """What is common to methods that keep a part of each task vector."""
    if rescale:
        kept = [rescaled(k, d) for k, d in zip(kept, deltas, strict=True)]
    if by_vote:
        return vote(base, kept, weight, normalize, lambda_)
    change = sum(w * k for w, k in zip(weight, kept, strict=True))
    return base + lambda_ * (change / sum(weight) if normalize else change)
