"""The merge methods once more, in float64 and as plainly as they can be said: what outputs are judged by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cases import Case
from tests.merging import reference

PLAIN = ("linear", "passthrough", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties")  # said here as well


def merged(case: Case, base: Tensor | None, models: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One whole tensor of `shape` merged, flat. Where the method draws at random, one of the possible results."""
    models = models.double()
    if case.method not in PLAIN:
        return by_reference(case, None if base is None else base.double(), models, shape)
    if base is None:
        return models[0] if case.method == "passthrough" else average(models, case.weight)
    base = base.double()
    if case.method == "slerp":
        return arc(base, models[0], case.settings["t"])
    return base + change(case, models - base)


def by_reference(case: Case, base: Tensor | None, models: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What the tests' definition of the method says; chances by rank go over the whole tensor, not over rows."""
    function = getattr(reference, case.method)
    settings: dict[str, Any] = dict(case.settings)
    if case.weight:
        settings["weight"] = list(case.weight)
    if case.is_random and base is not None:
        chances = [reference.della_probabilities((m - base).numpy(), settings["density"], 0.15) for m in models]
        settings["masks"] = np.random.default_rng(0).random((len(models), base.numel())) < np.array(chances)
        del settings["density"]
    if "density" in settings:
        settings |= {"density": [settings["density"]] * len(models), "gamma": [0.01] * len(models)}
    if case.method == "arcee_fusion":  # goes by rows
        base, models = None if base is None else base.view(shape), models.view(len(models), *shape)
    given = {} if base is None else {"base": base.numpy()}
    return torch.from_numpy(function(models=models.numpy(), **given, **settings)).flatten()


def average(models: Tensor, weight: Sequence[float]) -> Tensor:
    return sum_of(models, weight) / sum(weight)


def sum_of(tensors: Tensor, weight: Sequence[float]) -> Tensor:
    return torch.stack([t * w for t, w in zip(tensors, weight, strict=True)]).sum(0)


def arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Both are one vector; on a line where they are nearly parallel."""
    cosine = (a / a.norm() * (b / b.norm())).sum()
    if cosine.abs() > 0.9995:
        return (1 - t) * a + t * b
    angle = torch.arccos(cosine)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def change(case: Case, deltas: Tensor) -> Tensor:
    """What is added to the base."""
    if case.method == "task_arithmetic":
        return sum_of(deltas, case.weight)
    density = case.settings["density"]
    kept = trimmed(deltas, density) if case.method == "ties" else dropped(deltas, density)
    if case.method == "dare_linear":
        return sum_of(kept, case.weight)
    return agreed(kept, case.weight, normalize=case.method == "ties")


def trimmed(deltas: Tensor, density: float) -> Tensor:
    """The largest of each model."""
    k = int(density * deltas.shape[1])
    return torch.stack([torch.where(d.abs() >= d.abs().sort(descending=True).values[k - 1], d, 0) for d in deltas])


def dropped(deltas: Tensor, density: float) -> Tensor:
    """Kept with the probability `density`, and brought back to each model's sum of magnitudes."""
    kept = deltas * (torch.rand(deltas.shape, generator=torch.Generator().manual_seed(0)) < density)
    return kept * (deltas.abs().sum(1) / kept.abs().sum(1)).unsqueeze(1)


def agreed(deltas: Tensor, weight: Sequence[float], *, normalize: bool) -> Tensor:
    """The sum of what has the sign of the weighted sum, zero counting as plus."""
    weighted = torch.stack([d * w for d, w in zip(deltas, weight, strict=True)])
    elected = torch.where(weighted.sum(0) >= 0, 1, -1)
    agrees = weighted.sign() == elected
    total = (weighted * agrees).sum(0)
    if not normalize:
        return total
    voters = sum_of(agrees, weight)
    return total / torch.where(voters == 0, 1, voters)
