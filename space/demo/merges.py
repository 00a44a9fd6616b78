"""The merges that the accuracy table measures, written out plainly and apart from the app's own engine."""

from collections.abc import Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def task_arithmetic(base: Weights, models: Sequence[Weights], amount: float) -> Weights:
    """The base plus a multiple of what each model changed."""
    return {name: start + amount * deltas(base, models, name).sum(0) for name, start in base.items()}


def ties(base: Weights, models: Sequence[Weights], amount: float, density: float) -> Weights:
    """Trim small changes, vote on each sign, and average those that agree."""
    return {name: start + amount * agreed(deltas(base, models, name), density) for name, start in base.items()}


def dare(base: Weights, models: Sequence[Weights], amount: float, density: float, seed: int = 0) -> Weights:
    """Keep a random part of each change and magnify it by as much as was dropped."""
    generator = torch.Generator().manual_seed(seed)
    merged = {}
    for name, start in base.items():
        changes = deltas(base, models, name)
        kept = torch.rand(changes.shape, generator=generator) < density
        merged[name] = start + amount * (changes * kept / density).sum(0)
    return merged


def average(models: Sequence[Weights]) -> Weights:
    return {name: torch.stack([model[name] for model in models]).mean(0) for name in models[0]}


def slerp(first: Weights, second: Weights, t: float) -> Weights:
    """Go the part `t` of the way from one model to the other on a circle, tensor by tensor."""
    return {name: on_arc(first[name], second[name], t) for name in first}


def deltas(base: Weights, models: Sequence[Weights], name: str) -> Tensor:
    return torch.stack([model[name] - base[name] for model in models])


def agreed(changes: Tensor, density: float) -> Tensor:
    kept = torch.stack([keep_largest(change, density) for change in changes])
    winners = torch.where(kept.sign() == kept.sum(0).sign(), kept, 0)
    return winners.sum(0) / (winners != 0).sum(0).clamp(min=1)


def keep_largest(change: Tensor, density: float) -> Tensor:
    count = max(1, int(density * change.numel()))
    threshold = change.abs().flatten().kthvalue(change.numel() - count + 1).values
    return torch.where(change.abs() >= threshold, change, 0)


def on_arc(first: Tensor, second: Tensor, t: float) -> Tensor:
    cosine = torch.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    angle = torch.arccos(cosine.clamp(-1, 1))
    if angle < 1e-3:
        return torch.lerp(first, second, t)
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / torch.sin(angle)
