"""A finding: one fact about the models of a recipe, and what it means for the merge."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["block", "warn", "ok"]

# Every id that a check can give, and what it says. `--allow`, the report and the card use these ids: they stay.
KINDS: Mapping[str, str] = {
    # config
    "config": "the configs agree",
    "no-config": "a model has no config.json",
    "broken-config": "a config.json holds values that cannot be used",
    "different-architecture": "the models compute different things with their weights",
    "different-sizes": "the models have different sizes, layers or heads",
    "rope": "positions are encoded differently",
    "norm-epsilon": "the norms use different epsilons",
    "tied-embeddings": "some models use the input embeddings as output head, others do not",
    "context-length": "the models see different lengths of text",
    "other-config": "further settings of the configs differ",
    "quantised": "a model is quantised",
    "remote-code": "a model needs code of its own",
    # where the models come from
    "lineage": "the models name the same base",
    "declared-base": "a model names another base than the recipe",
    "base": "sampled weights: the models are fine-tunes of one base",
    "heavy-training": "sampled weights: a model has moved far from the base",
    "different-base": "sampled weights: a model comes from another pretraining",
    "identical-weights": "sampled weights: a model equals the base",
    "duplicate-models": "two models of the recipe are the same",
    "not-finite": "a model holds NaN or infinity",
    "not-sampled": "no weights could be compared",
    # text in and out
    "tokenizer": "the tokenizers agree",
    "different-tokenizer": "the same ids mean different tokens",
    "extra-tokens": "some models have tokens that others lack",
    "special-tokens": "begin, end or padding is marked by different tokens",
    "tokenizer-rules": "text is normalised or cut differently",
    "no-tokenizer": "a tokenizer cannot be compared",
    "broken-tokenizer": "the tokenizer.json that the merge would take cannot be used",
    "chat-template": "the chat templates differ",
    # tensors
    "tensors": "names and shapes of all tensors agree",
    "missing-tensors": "a model lacks tensors",
    "extra-tensors": "a model has tensors that others lack",
    "different-shapes": "tensors of one name have different shapes",
    "mixed-dtypes": "the models are stored in different types",
    # the merge itself
    "stack": "how many layers the merge has, and of which models",
    "licence": "what the licences of the models say about the merge",
    "lambdas": "what the lambdas add up to",
    "cannot-plan": "the merge cannot be planned",
    "disk": "there is not enough disk",
    "memory": "there is not enough memory",
    "cost": "what the merge will take",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the models. `id` is what `--allow` takes; `computable` is False where no override can help."""

    id: str  # one of KINDS
    level: Level
    title: str  # one short sentence
    models: tuple[str, ...]
    values: tuple[str, ...]  # one for each model
    why: str  # why it matters; empty for ok
    remedy: str  # what to do; empty for ok
    computable: bool = True


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def counted(count: int, noun: str) -> str:
    """`1 tensor`, `2,000 tensors`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ok(id: str, title: str, values: Mapping[str, str] | None = None) -> Finding:
    values = values or {}
    return Finding(id, "ok", title, tuple(values), tuple(values.values()), "", "")


def warn(id: str, title: str, values: Mapping[str, str], *, why: str, remedy: str) -> Finding:
    return Finding(id, "warn", title, tuple(values), tuple(values.values()), why, remedy)


def block(id: str, title: str, values: Mapping[str, str], *, why: str, remedy: str, computable: bool = True) -> Finding:
    return Finding(id, "block", title, tuple(values), tuple(values.values()), why, remedy, computable)


def by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Block first, then warn, then ok; otherwise as they came."""
    order: tuple[Level, ...] = ("block", "warn", "ok")
    return tuple(sorted(findings, key=lambda f: order.index(f.level)))
