"""The models of one seed in memory, and Alloy to merge them: every merge of the claims comes from the engine's code."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.claims.llama import Weights, read, shapes
from benchmarks.claims.measures import accuracy, exam, logits_of
from benchmarks.claims.tasks import KNOWN, Skill
from benchmarks.claims.zoo import BASE, Settings, tune_of
from benchmarks.live import in_memory
from merging.device import Cpu
from merging.live import LiveMerge
from merging.recipe import Input, ModelRef, Recipe

T = TypeVar("T")

LAMBDAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Lab:
    """One seed's zoo."""

    folder: Path
    settings: Settings
    live: LiveMerge
    models: dict[str, Weights] = field(default_factory=dict)
    marks: dict[tuple[Skill, str], float] = field(default_factory=dict)  # of the skills' own tunes

    @property
    def count(self) -> int:
        """How many models there are."""
        return len(self.live.held.checkpoints)

    def model(self, name: str) -> Weights:
        if name not in self.models:
            self.models[name] = read(self.folder / name)
        return self.models[name]

    def ref(self, name: str) -> ModelRef:
        return ModelRef(str(self.folder / name))

    def merge(self, method: str, weights: Mapping[str, float], base: str | None = BASE, **parameters: Any) -> Weights:
        """What Alloy makes of these models, with a weight for each; `lambda_` is its parameter `lambda`."""
        inputs = tuple(Input(self.ref(name), {"weight": weight}) for name, weight in weights.items())
        recipe = Recipe(
            method,
            inputs,
            None if base is None else self.ref(base),
            {name.rstrip("_"): value for name, value in parameters.items()},
        )
        merged = {name: torch.zeros(shape) for name, shape in shapes().items()}
        into = {name: tensor.view(-1).view(torch.uint8).numpy() for name, tensor in merged.items()}
        self.live.merge(recipe, self.live.plan(recipe), into)
        return merged

    def average(self, names: Iterable[str]) -> Weights:
        return self.merge("linear", dict.fromkeys(names, 1.0), None)

    def between(self, first: str, second: str, share: float) -> Weights:
        """On the straight line, `share` of the way to the second."""
        return self.merge("linear", {first: 1 - share, second: share}, None)

    def added(self, names: Iterable[str], amount: float, base: str = BASE) -> Weights:
        return self.merge("task_arithmetic", dict.fromkeys(names, amount), base)

    # Scores, in percent. A skill's own tune is what it is compared with.

    def score(self, model: Weights, skill: Skill, split: str = "test") -> float:
        examples = exam((skill,), split)
        return accuracy(logits_of(model, examples), examples.answers)

    def control(self, model: Weights, split: str = "test") -> float:
        """On what the base was trained on."""
        examples = exam(KNOWN, split)
        return accuracy(logits_of(model, examples), examples.answers)

    def own(self, skill: Skill, split: str = "test") -> float:
        if (skill, split) not in self.marks:
            self.marks[skill, split] = self.score(self.model(tune_of(skill)), skill, split)
        return self.marks[skill, split]

    def kept(self, model: Weights, skill: Skill, split: str = "test") -> float:
        """Percent of the accuracy that the skill's own tune has."""
        return 100 * self.score(model, skill, split) / self.own(skill, split)

    def kept_of(self, model: Weights, skills: Sequence[Skill], split: str = "test") -> float:
        return mean(self.kept(model, skill, split) for skill in skills)


def open_lab(folder: Path, settings: Settings) -> Lab:
    """Read every model of the folder into one stretch of memory, as the app does for a live merge."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    recipe = Recipe("linear", tuple(Input(ModelRef(str(folder / name)), {"weight": 1.0}) for name in names))
    return Lab(folder, settings, in_memory(recipe, 1, Cpu()))


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def best(choices: Iterable[T], make: Callable[[T], Weights], score: Callable[[Weights], float]) -> Weights:
    """Of the models made of each choice the one that scores highest; scores are for validation examples only."""
    return max((make(choice) for choice in choices), key=score)
