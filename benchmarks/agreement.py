"""Whether an output is the merge that was asked for, on a few whole tensors."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.llama import Shape
from benchmarks.truth import merged

SAME_CHANGE = 0.03  # how far apart two random draws may be in the mean magnitude of the change


@dataclass(frozen=True, slots=True)
class Agreement:
    """An output beside the float64 result, in steps of bfloat16: rounded correctly, it is at most half of one off."""

    most: float  # steps between them, at the entry that is farthest off
    beyond_one: float  # share of the entries more than one step off
    change: float  # mean magnitude of the change to the first model, as a share of what it should be

    def is_exact(self) -> bool:
        return self.most <= 1

    def is_alike(self) -> bool:
        return abs(self.change - 1) <= SAME_CHANGE


def judge(case: Case, shape: Shape, family: Path, out: Path) -> Agreement:
    off, changes = [], []
    for name in sampled(shape):
        expected, found, first, largest = compared(case, family, out, name)
        off.append((found - expected).abs() / step(torch.maximum(expected.abs(), largest / 256)))
        changes.append(mean_change(found, first) / mean_change(expected, first) if case.base else 1.0)
    steps = torch.cat(off)
    worst = max(changes, key=lambda change: abs(change - 1))
    return Agreement(steps.max().item(), (steps > 1).double().mean().item(), worst)


def sampled(shape: Shape) -> list[str]:
    """Matrices of one block and of many. Norms are left out: too small for statistics."""
    middle = shape.layers // 2
    return ["model.layers.0.self_attn.k_proj.weight", f"model.layers.{middle}.mlp.down_proj.weight"]


def compared(case: Case, family: Path, out: Path, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The expected tensor and the one found, the first model's, and the largest magnitude at each entry."""
    stored = [read_tensor(family / folder, name) for folder in case.folders]
    inputs = torch.stack([tensor.flatten() for tensor in stored])
    base, models = (inputs[0], inputs[1:]) if case.base else (None, inputs)
    found = read_tensor(out, name).flatten()
    return (
        merged(case, base, models, tuple(stored[0].shape)),
        found.double(),
        inputs[0].double(),
        inputs.abs().amax(0).double(),
    )


def mean_change(after: Tensor, before: Tensor) -> float:
    return (after - before).abs().mean().item()


def step(magnitude: Tensor) -> Tensor:
    """The distance from one bfloat16 to the next.

    Where numbers cancel, callers ask for that at a 256th of the largest of them: float32 gives no more there.
    """
    return torch.ldexp(torch.ones_like(magnitude), torch.frexp(magnitude).exponent - 8)


def read_tensor(folder: Path, name: str) -> Tensor:
    index = folder / "model.safetensors.index.json"
    file = json.loads(index.read_text())["weight_map"][name] if index.exists() else "model.safetensors"
    with safe_open(folder / file, framework="pt") as tensors:
        found: Tensor = tensors.get_tensor(name)
    return found
