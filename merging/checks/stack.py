"""What matters where layers are stacked: not how many a model has, and vocabularies only at the two ends."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from merging.checks.config import check_configs
from merging.checks.facts import Facts
from merging.checks.lineage import check_lineage
from merging.checks.tensors import check_types, tying
from merging.checks.tokenizer import check_tokenizers
from merging.checks.weights import check_weights
from merging.findings import Finding, counted, listed, ok, warn
from merging.layer_config import FROM, kinds_by
from merging.layers import COUNTS, layer_count
from merging.plan import Plan
from merging.recipe import Recipe
from merging.stacking import ends

LISTED = 8  # slices in a finding


def check_stack(recipe: Recipe, models: Sequence[Facts], plan: Plan | None) -> Iterator[Finding]:
    """In place of the checks that compare whole models."""
    at_ends = [models[i] for i in dict.fromkeys((0, *ends(recipe)))]
    yield from check_configs([without_depth(m, with_vocabulary=m in at_ends) for m in models])
    yield from stacked_weights(recipe, models)
    yield from check_lineage(models, models[0] if recipe.base else None)
    yield from check_tokenizers(at_ends)
    yield from tying(at_ends)
    yield from check_types(models, recipe)
    if plan:
        yield what_it_is_made_of(recipe, models, plan)


def without_depth(model: Facts, *, with_vocabulary: bool) -> Facts:
    """The model with a config that says only what must agree in a stack."""
    free = (*COUNTS, *FROM, *(() if with_vocabulary else ("vocab_size",)))
    config = {k: v for k, v in model.config.items() if k not in free and kinds_by(k, model.config) is None}
    return replace(model, config=config)


def stacked_weights(recipe: Recipe, models: Sequence[Facts]) -> Iterator[Finding]:
    """Compare models of one depth, whose layers have their counterparts; where none are mixed, only warn."""
    depth = layer_count(models[0].config)
    alike = [m for m in models if layer_count(m.config) == depth]
    mixed = any(len(part.sources) > 1 for part in recipe.slices)
    for finding in check_weights(alike, models[0] if recipe.base and mixed else None):
        yield finding if mixed or finding.id != "different-base" else strangers(finding)
    if others := {m.label: counted(layer_count(m.config) or 0, "layer") for m in models if m not in alike}:
        yield warn(
            "not-sampled",
            f"The weights of {listed(others)} could not be compared with those of {models[0].label}.",
            {models[0].label: counted(depth or 0, "layer"), **others},
            why="They have another number of layers, so it is not known which of them belong together.",
            remedy="Make sure yourself that the models grew from one base.",
        )


def strangers(finding: Finding) -> Finding:
    return replace(
        finding,
        level="warn",
        why="Each layer expects what the layer below it learned to say. Layers of different pretraining do not "
        "understand each other, and such a stack answers gibberish without further training.",
        remedy="Stack fine-tunes of one base: look for the same base_model on their cards.",
    )


def what_it_is_made_of(recipe: Recipe, models: Sequence[Facts], plan: Plan) -> Finding:
    """How many layers there will be, and whose."""
    said: dict[str, list[str]] = {}
    for part in recipe.slices:
        for one in part.sources:
            first, end = one.layers or (0, 0)
            label = models[plan.models.index(one.model)].label
            said.setdefault(label, []).append(f"{first} to {end - 1}" if end > first + 1 else str(first))
    values = {label: f"layers {shortened(ranges)}" for label, ranges in said.items()}
    title = f"The merge has {counted(len(plan.stack), 'layer')}, in {counted(len(recipe.slices), 'slice')}."
    return ok("stack", title, values)


def shortened(ranges: Sequence[str]) -> str:
    more = f" and {len(ranges) - LISTED} more ranges" if len(ranges) > LISTED else ""
    return ", ".join(ranges[:LISTED]) + more
