"""Plain training, of several models at a time: AdamW on clean batches, and nothing that helps a merge later."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.claims.llama import Weights, forward, stack, unstack
from benchmarks.claims.tasks import Examples, Skill, draw

BATCH, WARMUP, AHEAD = 64, 20, 50  # examples, steps, and steps whose examples are drawn at once
BETAS, CLIP = (0.9, 0.98), 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one model is taught, and how hard."""

    skills: tuple[Skill, ...]
    rate: float
    seed: int
    noise: float = 0.0  # share of answers that are wrong
    examples: int | None = None  # a set of so many, seen again and again; None: always new ones
    decay: float = 0.0


def source_of(course: Course) -> Callable[[int], Examples]:
    """Draws so many examples, again and again."""
    chance = Generator().manual_seed(course.seed)
    if course.examples is None:
        return lambda count: draw(course.skills, count, chance, course.noise)
    # The same set for all that learn the same, each in an order of its own.
    fixed = draw(course.skills, course.examples, Generator().manual_seed(course.examples), course.noise)

    def again(count: int) -> Examples:
        which = torch.randint(len(fixed.answers), (count,), generator=chance)
        return Examples(fixed.tokens[which], fixed.answers[which])

    return again


@dataclass(slots=True)
class Adam:
    """AdamW on tensors that lie in one stretch, one row for each model with a rate of its own."""

    numbers: Tensor  # (models, parameters)
    rates: Tensor
    decays: Tensor
    mean: Tensor
    square: Tensor
    steps: int = 0

    @torch.no_grad()
    def step(self, grad: Tensor, factor: float) -> None:
        self.steps += 1
        grad = grad * (CLIP / grad.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        self.mean.lerp_(grad, 1 - BETAS[0])
        self.square.lerp_(grad.square(), 1 - BETAS[1])
        size = (self.square / (1 - BETAS[1] ** self.steps)).sqrt_().add_(1e-8)
        rates = (self.rates * factor)[:, None]
        self.numbers.mul_(1 - rates * self.decays[:, None])
        self.numbers.sub_((self.mean / (1 - BETAS[0] ** self.steps)).div_(size).mul_(rates))


def fit(starts: Sequence[Weights], courses: Sequence[Course], steps: int) -> list[Weights]:
    """Train each model from where it starts; a short warm-up, then half a cosine down to nearly nothing."""
    weights, adam = laid_out(stack(starts), courses)
    sources = [source_of(course) for course in courses]
    for step in range(steps):
        if step % AHEAD == 0:
            ahead = min(AHEAD, steps - step)
            drawn = [source(BATCH * ahead) for source in sources]
            tokens = torch.stack([one.tokens for one in drawn]).view(len(starts), ahead, BATCH, -1)
            answers = torch.stack([one.answers for one in drawn]).view(len(starts), ahead, BATCH)
        logits = forward(weights, tokens[:, step % AHEAD])
        loss = F.cross_entropy(logits.flatten(0, 1), answers[:, step % AHEAD].flatten()) * len(starts)
        grads = torch.autograd.grad(loss, list(weights.values()))
        cosine = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
        adam.step(torch.cat([grad.flatten(1) for grad in grads], 1), min(1.0, (step + 1) / WARMUP) * cosine)
    return unstack({name: tensor.detach() for name, tensor in weights.items()})


def laid_out(models: Weights, courses: Sequence[Course]) -> tuple[Weights, Adam]:
    """The tensors as views of one matrix, and the optimizer that changes it."""
    flat = torch.cat([tensor.flatten(1) for tensor in models.values()], 1)
    weights, at = {}, 0
    for name, tensor in models.items():
        count = tensor[0].numel()
        weights[name] = flat[:, at : at + count].view(tensor.shape).requires_grad_()
        at += count
    rates, decays = (torch.tensor([getattr(course, key) for course in courses]) for key in ("rate", "decay"))
    return weights, Adam(flat, rates, decays, torch.zeros_like(flat), torch.zeros_like(flat))
