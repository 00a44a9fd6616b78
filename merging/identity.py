"""What tells one merge from another: two with the same digest write the same bits, file by file."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from merging import __version__
from merging.checkpoint import Checkpoint, Folder
from merging.naming import private_recipe
from merging.plan import Plan
from merging.recipe import ModelRef, Recipe, to_yaml


def digest_of(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], plan: Plan, device: str) -> str:
    """Of the recipe at its commits, the layout of the output, and the kind of arithmetic."""
    shards = [[s.file, s.nbytes, hashlib.sha256(s.header).hexdigest()] for s in plan.shards]
    sources = [contents_of(checkpoints[model]) for model in plan.models]
    grouping = 0 if device == "cpu" else plan.budget.elements  # a GPU adds up by blocks, which may show in a last bit
    told = [__version__, to_yaml(private_recipe(recipe, checkpoints)), sources, shards, device, grouping]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def contents_of(checkpoint: Checkpoint) -> Any:
    """What stands for the bytes of a model: its commit, or the sizes and times of the files in a folder."""
    source = checkpoint.source
    if source.revision:
        return source.revision
    if not isinstance(source, Folder):
        return [[file, source.sizes()[file]] for file in checkpoint.shards]
    states = ((file, (source.path / file).stat()) for file in checkpoint.shards)
    return [[file, state.st_size, state.st_mtime_ns] for file, state in states]
