"""The same bits, however the work is cut, wherever the models lie, and whether they are merged whole or as slices."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from merging.checkpoint import Checkpoint
from merging.engine import Options, merge
from merging.hub import open_model
from merging.methods import METHODS
from merging.recipe import ModelRef, Recipe, all_models, parse_recipe, to_yaml
from space.localhub import LocalHub
from tests.merging.cases import CASES
from tests.merging.hubs import ANYONE
from tests.merging.kernels import noise
from tests.merging.models import fine_tunes, least_memory, recipe_of, write_model

LAYERS = 3
SIZES = {
    "model.embed_tokens.weight": (500, 80),
    "large": (1000, 401),
    "long": (2, 140_000),  # rows of more than a grain
    "odd": (262_145,),  # the last grain has one element
    "cube": (4, 5, 6),
    "one": (1,),
    "none": (0, 3),
    "scalar": (),
} | {f"model.layers.{i}.mlp.up_proj.weight": (33, 20) for i in range(LAYERS)}
TYPES = (torch.bfloat16, torch.float16, torch.float32)
DTYPES = {"bfloat16": TYPES[:1], "float16": TYPES[1:2], "float32": TYPES[2:], "mixed": TYPES}
NAMES = ("base", "tune0", "tune1", "tune2")
SHARDS = (1, 2, 4)
THERE = 2  # shards of a model on the Hub

Find = Callable[[str, str, int], str]  # where the model of a type and a name lies, cut into so many shards

every_case = pytest.mark.parametrize(
    ("method", "case"), [(method, case) for method in METHODS for case in range(len(CASES[method]))]
)


@cache
def family(dtype: str) -> list[dict[str, Tensor]]:
    """A base and three fine-tunes. Of the mixed ones neither the tensors nor the models are of one type."""
    base = {name: noise(*shape, seed=i) * 0.02 for i, (name, shape) in enumerate(SIZES.items())}
    types = DTYPES[dtype]
    return [
        {n: t.to(types[(i + j) % len(types)]) for j, (n, t) in enumerate(tensors.items())}
        for i, tensors in enumerate([base, *fine_tunes(base, 3, by=0.001)])
    ]


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory, local_hub: LocalHub) -> Find:
    """Models are made when they are asked for first: in a folder, or on the Hub where shards are not to be chosen."""
    root = tmp_path_factory.mktemp("models")

    def made(dtype: str, name: str, shards: int) -> Path:
        folder = root / f"{dtype}-{name}-{shards}"
        if not folder.exists():
            write_model(folder, family(dtype)[NAMES.index(name)], {"num_hidden_layers": LAYERS}, shards=shards)
        return folder

    def found(dtype: str, name: str, shards: int) -> str:
        if shards:
            return str(made(dtype, name, shards))
        there = f"bits/{dtype}-{name}"
        if not local_hub.store.find(there):
            local_hub.store.create_repo(there)
            local_hub.store.commit(there, {p.name: p for p in made(dtype, name, THERE).iterdir()})
        return there

    return found


def recipe_for(find: Find, method: str, case: int, dtype: str = "bfloat16", shards: Sequence[int] = (1,) * 4) -> Recipe:
    """`shards` are those of the base and of each fine-tune; 0 stands for the Hub."""
    declared, parameters = METHODS[method], dict(CASES[method][case])
    base, *tunes = (Path(find(dtype, name, count)) for name, count in zip(NAMES, shards, strict=True))
    has_base = parameters.pop("base", declared.needs_base)
    return recipe_of(method, tunes[: declared.max_models or 3], base if has_base else None, seed=5, **parameters)


@contextmanager
def opened(recipe: Recipe) -> Iterator[dict[ModelRef, Checkpoint]]:
    models = {ref: open_model(ref, ANYONE) for ref in all_models(recipe)}
    try:
        yield models
    finally:
        for checkpoint in models.values():
            checkpoint.source.close()


def run(recipe: Recipe, out: Path, options: Options | None = None, *, spare: int | None = None) -> dict[str, Tensor]:
    """What is merged; `spare` is the memory beyond the least that the plan asks for."""
    shutil.rmtree(out, ignore_errors=True)
    options = options or Options(threads=2)
    with opened(recipe) as models:
        if spare is not None:
            options = replace(options, memory_bytes=least_memory(recipe, models, options.cores) + spare)
        list(merge(recipe, models, out, options))
    return {n: t for file in sorted(out.glob("*.safetensors")) for n, t in load_file(file).items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(bits(found[name]), bits(tensor)), name


def bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


@every_case
def test_however_the_work_is_cut(method, case, find, tmp_path):
    expected = cache(lambda dtype: run(recipe_for(find, method, case, dtype), tmp_path / "expected"))

    @given(
        dtype=st.sampled_from(list(DTYPES)),
        shards=st.tuples(*[st.sampled_from((0, *SHARDS))] * 4),
        threads=st.integers(1, 5),
        grains=st.sampled_from([1, 2, 8]),
        spare=st.sampled_from([0, 30, 100, 1000]),
        shard_bytes=st.sampled_from([1, 10**6, 3 * 10**6, 10**9]),
    )
    @how(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def draw(dtype, shards, threads, grains, spare, shard_bytes):
        recipe = recipe_for(find, method, case, dtype, shards)
        options = Options(shard_bytes=shard_bytes, threads=threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("merging.budget.GRAINS", grains)
            found = run(recipe, tmp_path / "out", options, spare=spare * 10**6)
        same(found, expected(dtype))

    draw()


@every_case
def test_out_of_folders_and_off_the_hub(method, case, find, tmp_path):
    folders, hub = (recipe_for(find, method, case, "mixed", (shards,) * 4) for shards in (1, 0))
    same(run(hub, tmp_path / "hub"), run(folders, tmp_path / "folders"))


# Slices


def sliced(recipe: Recipe, *ends: int) -> Recipe:
    """The same merge of the layers up to each of these, slice by slice."""
    tree: dict[str, Any] = yaml.safe_load(to_yaml(recipe))
    models = tree.pop("models")
    if "base_model" in tree:
        models.insert(0, {"model": tree["base_model"]})
    tree["slices"] = [
        {"sources": [one | {"layer_range": [begin, end]} for one in models]}
        for begin, end in zip((0, *ends[:-1]), ends, strict=True)
    ]
    return parse_recipe(json.dumps(tree))


@every_case
def test_slices_of_the_same_layers_are_the_whole(method, case, find, tmp_path):
    """Where settings are plain values: chance goes by the tensor's name, and lines by the depth in the whole stack."""
    whole = recipe_for(find, method, case)
    expected = run(whole, tmp_path / "whole")
    same(run(sliced(whole, 1, LAYERS), tmp_path / "slices"), expected)
