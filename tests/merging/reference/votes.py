"""Task-vector methods where the models decide on each entry together."""

from typing import Any

import numpy as np

Array = Any  # of numpy, float64


def sce(base: Array, models: Array, select_topk: float = 1.0) -> Array:
    """Keep the entries on which the models differ most, weigh each model by its energy there, average those that agree.

    SCE. https://arxiv.org/abs/2408.07990: select, calculate, erase.
    Models: 1 or more. Base: required. Granularity: tensor (k-th largest variance: two histogram passes; then the sums
    of squares of what is kept; then one pass).

    select_topk: float, 0..1, 1.0. The share of the entries that differ at all that is kept; 1 keeps all.
    (mergekit's int8_mask has no effect.)

    Variance is over the models. Of m entries whose changes are not all the same, the int(m * select_topk) of largest
    variance are kept; 0 keeps none. The weight of a model is its mean square over the tensor by the sum of these over
    the models. As in mergekit, and unlike the paper: all weigh alike where that sum is below 1e-6 (which changes of a
    typical fine-tune are), and the sum of the weights that agree counts as at least 1e-6. The vote is on kept changes
    without weights; a tied vote elects +.
    Unlike mergekit: all entries of a variance as large as the k-th are kept, where mergekit takes whichever topk
    returns. (Of changes in float64; the roots of the variances are to be compared in float32: which of two that differ
    in the last bits of float64 is larger would depend on the order of the models.)
    """
    if base.size == 0:
        return base
    deltas = models - base
    if select_topk < 1:
        deltas = np.where(most_varied(deltas, select_topk), deltas, 0)
    squares = (deltas**2).reshape(len(models), -1).mean(1)
    weights = squares / squares.sum() if squares.sum() >= 1e-6 else np.full(len(models), 1 / len(models))
    agree = np.sign(deltas) == np.where(deltas.sum(0) >= 0, 1, -1)
    voters = sum(w * a for w, a in zip(weights, agree, strict=True))
    change = sum(w * a * d for w, a, d in zip(weights, agree, deltas, strict=True))
    return base + change / np.maximum(voters, 1e-6)


def most_varied(deltas: Array, share: float) -> Array:
    differ = deltas.max(0) != deltas.min(0)
    spread = np.where(differ, deltas.std(0), 0).astype(np.float32)
    keep = int(differ.sum() * share)
    return spread >= np.sort(spread, axis=None)[-keep] if keep else np.zeros_like(differ)


def ram(base: Array, models: Array, epsilon: float = 1e-5) -> Array:
    """Add whole what only one model changed, and the mean of what several changed.

    RAM. https://arxiv.org/abs/2601.13572
    Models: 1 or more. Base: required. Granularity: element.

    epsilon: float, 0..1, 1e-5. A change of at most this magnitude is none.
    """
    deltas = models - base
    changed = np.abs(deltas) > epsilon
    return base + np.where(changed, deltas, 0).sum(0) / np.maximum(changed.sum(0), 1)


def ramplus_tl(base: Array, models: Array, r: float = 0.1, alpha: float = 0.2, epsilon: float = 1e-5) -> Array:
    """As RAM, with what only one model changed made stronger, the more so the more of its changes are shared.

    RAM+ (tensor-local). https://arxiv.org/abs/2601.13572
    Models: 1 or more. Base: required. Granularity: tensor (two counts per model, then one pass).

    r: float, 0..1, 0.1. How much stronger, for each shared change per change of its own.
    alpha: float, 0..10, 0.2. The most that this ratio counts.
    epsilon: float, 0..1, 1e-5. A change of at most this magnitude is none.

    A model's own changes are multiplied by 1 + r * min(shared / own, alpha), of its counts in this tensor; a model
    with none of its own has nothing to multiply.
    """
    deltas = models - base
    changed = np.abs(deltas) > epsilon
    voters = changed.sum(0)
    change = np.zeros_like(base)
    for delta, mine in zip(deltas, changed, strict=True):
        own, shared = mine & (voters == 1), mine & (voters > 1)
        factor = 1 + r * min(shared.sum() / own.sum(), alpha) if own.any() else 1
        change = change + np.where(own, factor * delta, 0) + np.where(shared, delta / np.maximum(voters, 1), 0)
    return base + change


def consensus(base: Array, models: Array, tall_mask_lambda: list[float], prun_thre_k: int = 2,
              lambda_: float = 1.0) -> Array:  # fmt: skip
    """Add the sum of all changes, only at the entries that matter to several models.

    Consensus merging (TALL masks). https://arxiv.org/abs/2405.07813: its TALL mask of each model, and the consensus
    mask that counts them, on the multi-task vector of task arithmetic. Names as in the authors' code.
    Models: 2 or more. Base: required. Granularity: element.

    tall_mask_lambda: float per model, 0..2, 0.4 (the paper searches 0.2 to 0.6 for each model). The larger, the fewer
    entries matter to this model: those where |its change| > tall_mask_lambda * |the sum of the others' changes|.
    prun_thre_k: int, 0..32, 2. To how many models an entry must matter: 2 drops what matters to none or one, 1 what
    matters to none, 0 nothing (task arithmetic). More than there are models leaves the base.
    lambda: float, -3..3, 1.0. The paper's alpha, searched on held-out data: what the merged change is multiplied by.

    The sum is that of task arithmetic, without weights. An entry a model did not change does not matter to it.
    (To be compared in float64: rounding decides for an entry on the edge.)
    """
    deltas = models - base
    total = deltas.sum(0)
    matters = [np.abs(d) > cut * np.abs(total - d) for d, cut in zip(deltas, tall_mask_lambda, strict=True)]
    return base + lambda_ * np.where(sum(m.astype(int) for m in matters) >= prun_thre_k, total, 0)


def pcb(base: Array, models: Array, density: float = 0.1, lambda_: float = 1.0) -> Array:
    """Average changes by how much they stand out in their model and agree with the others, keeping the best of each.

    PCB-Merging. https://arxiv.org/abs/2410.02396: balance, drop, rescale.
    Models: 1 or more. Base: required. Granularity: tensor (order statistics of the magnitudes: two histogram passes;
    then the cut and the largest of the scores: two more; then one pass).

    density: float, 0..1, 0.1. The paper's mask ratio r: the share of each model's entries that is kept.
    lambda: float, -3..3, 1.0. What the merged change is multiplied by.

    For N models and n entries: magnitudes of the lowest and highest int(n / 10,000) are clamped to the next one. Let m
    be the clamped magnitudes, moved and scaled to 0..1; score = exp(N m^2) * tanh(change * sum of all changes), which
    is negative where a model contradicts the sum. Weight of an entry: its score less the cut, over the largest score
    less the cut, at least 0; the cut is the largest score that is not kept, number int(density * n) + 1 from the top
    (the smallest where all are kept). The merged change is the weighted mean of the clamped changes; zero where no
    model has weight. density 0 leaves the base; where all scores are equal, all that are kept weigh 1; where all
    magnitudes are equal, m is 0.
    Unlike the paper's equations, which have softmax in place of exp and tanh, this is the authors' PCB_merge; unlike
    both, it is per tensor, not over the whole model. Unlike that code: the clamp spares the largest of fewer than
    10,000 entries, the number kept is of those that have weight, and equal numbers do not divide by zero.
    (Scores are to be computed in float64 and then rounded to float32: a rounding error at the cut is a whole entry, and
    what exp and tanh give in the last bits of float64 depends on the machine.)
    """
    keep = int(density * base.size)
    if keep == 0:
        return base
    deltas = models - base
    clamped = np.array([clamp_tails(d) for d in deltas])
    standing = np.array([stretch(np.abs(c)) for c in clamped])
    scores = np.exp(len(models) * standing**2) * np.tanh(deltas * deltas.sum(0))
    weights = np.array([weights_above_cut(s, keep) for s in scores.astype(np.float32).astype(np.float64)])
    total = weights.sum(0)
    return base + lambda_ * (weights * clamped).sum(0) / np.where(total == 0, 1, total)


def clamp_tails(delta: Array) -> Array:
    ascending, few = np.sort(np.abs(delta), axis=None), delta.size // 10_000
    return np.sign(delta) * np.abs(delta).clip(ascending[few], ascending[-1 - few])


def stretch(values: Array) -> Array:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def weights_above_cut(scores: Array, keep: int) -> Array:
    descending = np.sort(scores, axis=None)[::-1]
    cut, largest = descending[min(keep, scores.size - 1)], descending[0]
    if largest == cut:
        return np.where(scores >= cut, 1.0, 0)
    return (scores - cut).clip(0) / (largest - cut)
