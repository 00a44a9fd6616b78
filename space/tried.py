"""The merge that a tab tries in memory, as one of those that sit side by side in Chat: what it is called, and what
tells its votes and answers from those of other lambdas."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.naming import commit_of, with_models
from merging.recipe import ModelRef, Recipe, all_models, parse_recipe, to_yaml
from space.film import lambdas


@dataclass(frozen=True, slots=True)
class Tried:
    """Of one tab and its owner. It outlives the merge in memory, so that this one's pane can say that it has left."""

    tab: str
    owner: str
    parents: Recipe  # its models at the commits that were read, without the lambdas, which move
    commits: Mapping[ModelRef, ModelRef]
    recipe: str  # as it stands, in YAML

    def at(self, recipe_yaml: str) -> "Tried":
        return replace(self, recipe=recipe_yaml)

    @property
    def key(self) -> str:
        """The same for the same merge alone. A recipe that is not one, half-typed, makes no merge and has no key."""
        try:
            recipe = parse_recipe(self.recipe)
        except MergeError:
            return key_of(None)
        return key_of(with_models(recipe, {model: self.commits.get(model, model) for model in all_models(recipe)}))


def tried(
    tab: str, owner: str, recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], recipe_yaml: str
) -> Tried:  # fmt: skip
    """Of a recipe whose models were read; `recipe_yaml` is what it has become since."""
    commits = {ref: commit_of(ref, one) or ref for ref, one in checkpoints.items()}
    at_commits = with_models(recipe, commits)
    bare = tuple(replace(one, parameters={}) for one in at_commits.models)
    return Tried(tab, owner, replace(at_commits, models=bare), commits, recipe_yaml)


def key_of(recipe: Recipe | None) -> str:
    """Of a merge in memory, by its recipe at commits: what the engine writes for that recipe has the same bits."""
    return "live:" + (hashlib.sha256(to_yaml(recipe).encode()).hexdigest()[:16] if recipe else "")


def lambdas_in(recipe_yaml: str, *, named: bool = True) -> str:
    """The lambdas of a recipe as it was typed; empty where it is none."""
    try:
        return lambdas(parse_recipe(recipe_yaml), named=named)
    except MergeError:
        return ""
