"""Whether models belong together: findings from configs, tokenizers, cards, headers and a few sampled bytes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merging.checkpoint import Checkpoint
from merging.checks.config import check_configs
from merging.checks.cost import Leaves, check_cost, estimate
from merging.checks.facts import Facts, gather
from merging.checks.lambdas import check_lambdas
from merging.checks.licence import check_licences
from merging.checks.lineage import check_lineage
from merging.checks.stack import check_stack
from merging.checks.tensors import check_tensors
from merging.checks.tokenizer import check_tokenizers
from merging.checks.weights import check_weights
from merging.engine import Options
from merging.errors import MergeError
from merging.findings import KINDS, Finding, Level, block, by_level
from merging.methods import METHODS
from merging.naming import pinned
from merging.plan import Plan, make_plan
from merging.recipe import ModelRef, Recipe, all_models

__all__ = ["KINDS", "Check", "Finding", "Level", "check"]


@dataclass(frozen=True, slots=True)
class Check:
    findings: tuple[Finding, ...]  # block first, then warn, then ok
    plan: Plan | None  # None when nothing can be computed
    seconds: float  # how long the merge will take here, estimated
    revisions: Mapping[str, str]  # label -> commit SHA, for Hub models
    recipe: Recipe  # with every Hub model at the commit that was looked at

    @property
    def blocked(self) -> bool:
        return any(f.level == "block" for f in self.findings)


def check(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], options: Options | None = None,
    *, out: Path = Path(), leaves: Leaves = "never",
) -> Check:  # fmt: skip
    """Everything that can be known before a merge. Reads headers, small files and a few sampled megabytes.

    `out` is where the merge would be written; its disk must have room for it, or for two shards where these `leaves`.
    """
    refs = all_models(recipe)
    models = gather(refs, checkpoints)
    plan, refusal = try_plan(recipe, checkpoints, options or Options())
    found = list(look(recipe, models, plan))
    if refusal and all(f.computable for f in found):
        found.append(refusal)
    seconds = estimate(plan, models, METHODS[recipe.method]) if plan else 0.0
    if plan:
        found += check_cost(plan, models, seconds, out, leaves)
    return Check(
        findings=by_level(found),
        plan=plan,
        seconds=seconds,
        revisions={m.label: sha for m in models if (sha := m.checkpoint.source.revision)},
        recipe=pinned(recipe, checkpoints),
    )


def look(recipe: Recipe, models: Sequence[Facts], plan: Plan | None) -> Iterator[Finding]:
    """What the models themselves say, in the order in which one would ask."""
    base = models[0] if recipe.base else None
    yield from check_stack(recipe, models, plan) if recipe.slices else check_whole(recipe, models, base)
    yield from check_lambdas(recipe, plan)
    yield from check_licences(models)


def check_whole(recipe: Recipe, models: Sequence[Facts], base: Facts | None) -> Iterator[Finding]:
    yield from check_configs(models)
    yield from check_weights(models, base)
    yield from check_lineage(models, base)
    yield from check_tokenizers(models)
    yield from check_tensors(models, recipe)


def try_plan(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], options: Options
) -> tuple[Plan | None, Finding | None]:
    """The plan, or the finding that says why there is none."""
    try:
        plan = make_plan(
            recipe,
            checkpoints,
            shard_bytes=options.shard_bytes,
            memory_bytes=options.memory_bytes,
            threads=options.cores,
        )
    except MergeError as error:
        values = {str(ref): "part of the recipe" for ref in all_models(recipe)}
        why = "What the recipe asks for cannot be computed with these models."
        remedy = "Change what the message names, and check again."
        return None, block("cannot-plan", str(error), values, why=why, remedy=remedy, computable=False)
    return plan, None
