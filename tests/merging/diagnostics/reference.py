"""The numbers of a diagnosis in plain float64, one tensor after the other: slow, and easy to see through."""

from typing import Any

import numpy as np

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


def deltas_of(base: Any, models: Any) -> Any:
    """As methods see them: differences in float32."""
    return np.stack([m.astype(np.float32) - base.astype(np.float32) for m in models]).astype(np.float64)


def cut_at(delta: Any, keep: float) -> float:
    """The k-th largest magnitude without the lower half of its bits."""
    magnitudes = np.sort(np.abs(delta).astype(np.float32))[::-1]
    kth = magnitudes[max(1, int(keep * len(delta))) - 1]
    cut = (kth[None].view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)[0]
    return max(float(cut), 1e-45)


def kept(delta: Any, keep: float) -> Any:
    return np.where(np.abs(delta) >= cut_at(delta, keep), delta, 0)


def energy(deltas: list[Any], share: float) -> float:
    """Of several tensors: the squared norm of the largest share of each, of all their squared norm."""
    held = 0.0
    for delta in deltas:
        squares = np.sort(delta**2)[::-1]
        held += np.interp(share * len(squares), np.arange(len(squares) + 1), np.r_[0, squares.cumsum()])
    return float(held / sum((d**2).sum() for d in deltas))


def pair_numbers(a: list[Any], b: list[Any], keep: float) -> dict[str, float]:
    """Of the changes of two models, tensor by tensor."""
    trimmed = [(kept(x, keep), kept(y, keep)) for x, y in zip(a, b, strict=True)]
    x, y = np.concatenate(a), np.concatenate(b)
    both, smaller = (x != 0) & (y != 0), np.minimum(np.abs(x), np.abs(y))
    against = x * y < 0
    kept_both = sum(int(((p != 0) & (q != 0)).sum()) for p, q in trimmed)
    kept_against = sum(int((p * q < 0).sum()) for p, q in trimmed)
    null = sum((p != 0).sum() * (q != 0).sum() / len(p) for p, q in trimmed)
    norms = np.linalg.norm(x), np.linalg.norm(y)
    return {
        "cosine": float(x @ y / norms[0] / norms[1]),
        "norm_ratio": float(max(norms) / min(norms)),
        "both": both.mean(),
        "conflict": against.sum() / both.sum(),
        "conflict_weighted": smaller[against].sum() / smaller.sum(),
        "trimmed_both": kept_both / len(x),
        "trimmed_conflict": kept_against / len(x),
        "trimmed_both_null": null / len(x),
        "trimmed_conflict_null": null / len(x) / 2,
    }
