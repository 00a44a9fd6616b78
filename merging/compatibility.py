"""Whether models belong together: findings from configs, tokenizers, cards, headers and a few sampled bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from merging.checkpoint import Checkpoint
from merging.engine import Options
from merging.plan import Plan
from merging.recipe import ModelRef, Recipe

Level = Literal["block", "warn", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the models. `id` is what `--allow` takes; `computable` is False where no override can help."""

    id: str  # e.g. different-base, different-tokenizer, missing-tensors, rope
    level: Level
    title: str  # one short sentence
    models: tuple[str, ...]
    values: tuple[str, ...]  # one for each model
    why: str  # why it matters; empty for ok
    remedy: str  # what to do; empty for ok
    computable: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    findings: tuple[Finding, ...]  # block first, then warn, then ok
    plan: Plan | None  # None when nothing can be computed
    seconds: float  # how long the merge will take here, estimated
    revisions: Mapping[str, str]  # label -> commit SHA, for Hub models

    @property
    def blocked(self) -> bool:
        return any(f.level == "block" for f in self.findings)


def check(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], options: Options | None = None) -> Check:
    """Everything that can be known before a merge. Reads headers, small files and a few sampled megabytes."""
    raise NotImplementedError
