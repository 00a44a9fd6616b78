"""What is scored: a model, a merge by its recipe, or the ensemble of the models that a recipe merges."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.held_out import digest
from merging.checkpoint import Checkpoint, Folder
from merging.donor import copied_files
from merging.identity import contents_of
from merging.naming import private_recipe
from merging.recipe import Input, ModelRef, Recipe, all_models, merged_inputs, to_yaml

Kind = Literal["model", "merge", "ensemble"]
ALONE = "passthrough"
ENSEMBLED = 8  # models, at most, whose ensemble is compared with: all of them are read at once


@dataclass(frozen=True, slots=True)
class Subject:
    """A model alone is the recipe that leaves it as it is."""

    label: str
    recipe: Recipe
    kind: Kind = "merge"

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Whose files are needed."""
        return self.members if self.kind == "ensemble" else all_models(self.recipe)

    @property
    def members(self) -> tuple[ModelRef, ...]:
        return tuple(one.model for one in merged_inputs(self.recipe))


def model_alone(model: ModelRef) -> Subject:
    return Subject(str(model), Recipe(ALONE, (Input(model),)), "model")


def soup_of(models: Sequence[ModelRef]) -> Recipe:
    """The mean of whole models, as the engine's `linear` makes it."""
    return Recipe("linear", tuple(Input(model, {"weight": 1.0}) for model in models))


def uniform_soup(recipe: Recipe) -> Subject:
    """All that a recipe merges, alike."""
    return Subject("uniform soup", soup_of([one.model for one in merged_inputs(recipe)]))


def ensemble(recipe: Recipe) -> Subject:
    """The mean of the next-token distributions of all that a recipe merges."""
    return Subject("ensemble", soup_of([one.model for one in merged_inputs(recipe)]), "ensemble")


def compared(merge: Subject) -> list[Subject]:
    """A merge, and what it should be compared with: base and parents, their uniform soup, their ensemble."""
    return [merge, *beside(merge.recipe)]


def beside(recipe: Recipe) -> list[Subject]:
    """What is compared with any merge of these models, whichever of them are in it."""
    alone = [model_alone(model) for model in all_models(recipe)]
    count = 0 if recipe.slices else len(merged_inputs(recipe))
    soup = [uniform_soup(recipe)] if count > 1 else []
    return [*alone, *soup, *([ensemble(recipe)] if 1 < count <= ENSEMBLED else [])]


def identity_of(subject: Subject, checkpoints: Mapping[ModelRef, Checkpoint]) -> str:
    """Two subjects of one identity compute the same: the same kind of the same recipe at the same commits or files."""
    used = {model: checkpoints[model] for model in subject.models}
    needed = subject.recipe if subject.kind != "ensemble" else soup_of(subject.members)
    told = [to_yaml(private_recipe(needed, used)), *(contents_of(one) for one in used.values())]
    return digest([subject.kind, *told, *(small_contents(one) for one in used.values())])


def small_contents(checkpoint: Checkpoint) -> str:
    """Of a folder, the files beside the weights, which may have been replaced; a commit stands for all of its own."""
    source = checkpoint.source
    if source.revision or not isinstance(source, Folder):
        return ""
    return digest_of_files(source.path, sorted({"config.json", *(file for file, _ in copied_files(checkpoint))}))


def digest_of_files(folder: Path, files: Sequence[str]) -> str:
    found = hashlib.sha256()
    for file in files:
        if (folder / file).is_file():
            found.update(file.encode() + b"\0" + (folder / file).read_bytes() + b"\0")
    return found.hexdigest()
