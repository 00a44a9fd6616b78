"""Small checkpoints for the tests, written with the safetensors library itself."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from merging.checkpoint import INDEX, Checkpoint, Folder, open_checkpoint
from merging.errors import MergeError
from merging.plan import make_plan
from merging.recipe import ModelRef, Recipe, all_models, parse_recipe

Tensors = Mapping[str, Tensor]


def write_model(
    folder: Path, tensors: Tensors, config: Mapping[str, Any] | None = None, shards: int = 1, *, in_order: bool = False
) -> Path:
    """Save tensors as one file, or spread over several with an index; in order, as most models are, or dealt out."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "bfloat16"} | dict(config or {})))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    place = (lambda i: i * shards // len(tensors)) if in_order else (lambda i: i % shards)
    files = {name: f"model-{place(i) + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({n: t for n, t in tensors.items() if files[n] == file}, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def recipe_of(method: str, models: Sequence[Path | str], base: Path | str | None = None, **parameters: Any) -> Recipe:
    """A recipe for folders, or models of the Hub; a parameter that is a list has one value for each model."""
    lists = {n: v for n, v in parameters.items() if isinstance(v, list)}
    entries = [{"model": str(m), "parameters": {n: v[i] for n, v in lists.items()}} for i, m in enumerate(models)]
    top = {n: v for n, v in parameters.items() if n in ("dtype", "out_dtype", "seed")}
    shared = {n: v for n, v in parameters.items() if n not in lists and n not in top}
    tree = {"merge_method": method, "models": entries, "parameters": shared} | top
    return parse_recipe(json.dumps(tree | ({"base_model": str(base)} if base else {})))


def opened(recipe: Recipe) -> dict[ModelRef, Checkpoint]:
    return {ref: open_checkpoint(Folder(Path(ref.path))) for ref in all_models(recipe)}


def least_memory(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], threads: int = 2) -> int:
    """What a plan asks for when there is next to none."""
    try:
        make_plan(recipe, checkpoints, shard_bytes=10**12, memory_bytes=1, threads=threads)
    except MergeError as refused:
        if told := re.search(r"needs at least ([\d,]+)", str(refused)):
            return int(told[1].replace(",", ""))
        raise
    raise AssertionError("one byte is not enough for any merge")


def fine_tunes(base: Tensors, count: int, *, by: float = 0.01, seed: int = 0) -> list[dict[str, Tensor]]:
    """Copies of a model with a little noise on the floats, in the type of each tensor."""
    g = torch.Generator().manual_seed(seed)
    return [
        {n: (t.float() + by * torch.randn(t.shape, generator=g)).to(t.dtype) if t.is_floating_point() else t.clone()
         for n, t in base.items()}
        for _ in range(count)
    ]  # fmt: skip
