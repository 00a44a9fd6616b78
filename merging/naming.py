"""What models are called where others read it: a folder by its last part alone, since where it lies is private."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from merging.checkpoint import Checkpoint
from merging.recipe import Input, ModelRef, Recipe

Names = Mapping[ModelRef, str]


def public_names(checkpoints: Mapping[ModelRef, Checkpoint]) -> dict[ModelRef, str]:
    """A name for each model that no other one has."""
    names: dict[ModelRef, str] = {}
    for ref, checkpoint in checkpoints.items():
        name = checkpoint.label if checkpoint.source.repo_id else folder_name(Path(ref.path))
        taken = set(names.values())
        names[ref] = next(n for i in count(1) if (n := name if i == 1 else f"{name}-{i}") not in taken)
    return names


def folder_name(path: Path) -> str:
    return path.name if path.name not in ("", "..") else path.resolve().name or "model"


def without_paths(value: Any, checkpoints: Mapping[ModelRef, Checkpoint]) -> Any:
    """Texts, in lists and mappings as well, with the name of each folder in place of its path."""
    names = {
        path: name
        for ref, name in public_names(checkpoints).items() if not checkpoints[ref].source.repo_id
        for path in (ref.path, str(Path(ref.path).absolute()), checkpoints[ref].label)
    }  # fmt: skip
    inside = "|".join(re.escape(path) for path in sorted(names, key=len, reverse=True) if "/" in path)
    return put_names(value, names, re.compile(rf"(?<![\w/.-])(?:{inside or '(?!)'})(?![\w-])"))


def put_names(value: Any, names: Mapping[str, str], inside: re.Pattern[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: put_names(one, names, inside) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [put_names(one, names, inside) for one in value]
    if not isinstance(value, str):
        return value
    return names.get(value) or inside.sub(lambda path: names[path[0]], value)


def pinned(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Recipe:
    """The recipe with every Hub model at the commit that was read."""
    return with_models(recipe, {ref: commit_of(ref, c) or ref for ref, c in checkpoints.items()})


def private_recipe(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Recipe:
    """The recipe as it can be run again from anywhere on this machine: commits and whole paths."""
    return with_models(recipe, {ref: commit_of(ref, c) or ModelRef(str(Path(ref.path).absolute()))
                                for ref, c in checkpoints.items()})  # fmt: skip


def public_recipe(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Recipe:
    """The recipe as others may read it: commits, and the names of folders."""
    names = public_names(checkpoints)
    return with_models(
        recipe, {ref: commit_of(ref, c) or ModelRef(f"./{names[ref]}") for ref, c in checkpoints.items()}
    )


def commit_of(ref: ModelRef, checkpoint: Checkpoint) -> ModelRef | None:
    """A Hub model at the commit that was read; None for a folder."""
    source = checkpoint.source
    return ModelRef(source.repo_id, source.revision or ref.revision) if source.repo_id else None


def with_models(recipe: Recipe, models: Mapping[ModelRef, ModelRef]) -> Recipe:
    def renamed(inputs: Iterable[Input]) -> tuple[Input, ...]:
        return tuple(replace(one, model=models[one.model]) for one in inputs)

    def base(ref: ModelRef | None) -> ModelRef | None:
        return models[ref] if ref else None

    slices = tuple(replace(s, sources=renamed(s.sources), base=base(s.base)) for s in recipe.slices)
    return replace(recipe, models=renamed(recipe.models), slices=slices, base=base(recipe.base))
