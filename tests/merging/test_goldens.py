"""The reference and the engine beside what mergekit 0.1.5 makes of the same recipes at `dtype: float32`.

benchmarks/goldens.py makes the models and ran mergekit; its outputs lie in goldens/, each beside its recipe.
Two tensors agree when no entry differs by more than a millionth of it. Where inputs cancel, float32 cannot know the
rest better than it knows them: there it is ROUNDING of the largest number of the models at the entry.
"""

import inspect
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmarks.goldens import FOLDER, LAYERS, SEED, digest, make_models, write_models
from merging.engine import merge
from merging.errors import MergeError
from merging.methods import METHODS
from merging.recipe import parse_recipe
from tests.merging import reference
from tests.merging.models import opened

GOLDENS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
DEFAULTS = {"density": 1.0, "scale": 1.0, "gamma": 0.01}  # of settings with one value per model

ROUNDING = 2.0**-20  # sixteen times what float32 rounds a number by: mergekit's own sums are in it

# Methods that the engine does not have yet. Empty this as they are added.
AWAITED: set[str] = set()

# Where we mean to differ from mergekit: the recipe, a part of the tensor's name, why.
INTENDED = {
    ("karcher-base-model", ""): "mergekit averages a base_model in that is not among the models.",
}
# What mergekit merges and the engine refuses, with a word of the reason.
REFUSED = {"karcher-base-model": "base_model"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_models(models)
    return models


def method_of(name: str) -> str:
    return name.split("-")[0]


def is_for_the_engine(name: str) -> bool:
    return method_of(name) not in AWAITED and name not in REFUSED


@pytest.mark.parametrize("name", GOLDENS)
def test_the_reference_agrees_with_mergekit(name):
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for tensor, golden in load_file(FOLDER / f"{name}.safetensors").items():
        assert agree(expect(tree, tensor), golden, largest(tree, tensor)) is not differs(name, tensor), tensor


@pytest.mark.parametrize("name", [n for n in GOLDENS if is_for_the_engine(n)])
def test_the_engine_agrees_with_mergekit(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    recipe = parse_recipe((FOLDER / f"{name}.yaml").read_text())
    for _ in merge(recipe, opened(recipe), tmp_path / "out"):
        pass
    merged, tree = (
        load_file(tmp_path / "out" / "model.safetensors"),
        yaml.safe_load((FOLDER / f"{name}.yaml").read_text()),
    )
    for tensor, golden in load_file(FOLDER / f"{name}.safetensors").items():
        assert agree(merged[tensor], golden, largest(tree, tensor)) is not differs(name, tensor), tensor


def test_nothing_is_awaited_that_is_there():
    assert {method_of(name) for name in GOLDENS} - METHODS.keys() == AWAITED


def test_the_engine_refuses_what_it_would_not_do_as_mergekit():
    for name, reason in REFUSED.items():
        with pytest.raises(MergeError, match="merge_method" if method_of(name) in AWAITED else reason):
            parse_recipe((FOLDER / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_are_of_these_recipes_and_models(name):
    with safe_open(FOLDER / f"{name}.safetensors", "np") as golden:
        about = golden.metadata()
    assert about == {"mergekit": "0.1.5", "seed": str(SEED), "recipe": digest(FOLDER / f"{name}.yaml")}


def agree(found: Any, golden: Any, largest: Any) -> bool:
    golden = golden.astype(np.float64)
    return bool((np.abs(found - golden) <= np.maximum(1e-6 * np.abs(golden), ROUNDING * largest)).all())


def largest(tree: dict[str, Any], tensor: str) -> Any:
    """The largest magnitude at each entry, of all that goes in."""
    sources = find(tree, tensor).sources
    if "base_model" in tree:
        sources = [*sources, Source(tree["base_model"], sources[0].name, [])]
    return np.max([np.abs(s.tensor) for s in sources], 0)


def differs(name: str, tensor: str) -> bool:
    return any(name == recipe and part in tensor for recipe, part in INTENDED)


@cache
def models() -> dict[str, dict[str, Any]]:
    return {model: {n: t.astype(np.float64) for n, t in tensors.items()} for model, tensors in make_models().items()}


@dataclass(frozen=True, slots=True)
class Source:
    """What one model gives to a tensor of the output."""

    model: str
    name: str  # of the tensor in this model
    scopes: list[dict[str, Any]]  # parameters, the nearest first

    @property
    def tensor(self) -> Any:
        return models()[self.model.removeprefix("./")][self.name]


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor of the output: where it comes from, and what is said of it there."""

    name: str
    depth: float  # in its slice: 0 for the first layer and outside the layers, 1 for the last
    sources: list[Source]
    scopes: list[dict[str, Any]]


def expect(tree: dict[str, Any], tensor: str) -> Any:
    """What the reference says to a recipe."""
    function = getattr(reference, tree["merge_method"])
    takes, place = inspect.signature(function).parameters, find(tree, tensor)
    with_base = "base" in takes and "base_model" in tree
    inputs = [s for s in place.sources if not with_base or s.model != tree["base_model"]]
    settings = {p.name: setting(place, inputs, p) for p in takes.values() if p.name not in ("base", "models")}
    if with_base:
        listed = [s for s in place.sources if s.model == tree["base_model"]]
        settings["base"] = (listed or [Source(tree["base_model"], tensor, [])])[0].tensor
    return function(models=np.array([s.tensor for s in inputs]), **settings)


def find(tree: dict[str, Any], tensor: str) -> Place:
    """Embeddings belong to the first slice, the final norm and the head to the last. All models whole are one slice."""
    whole = [{"sources": [m | {"layer_range": [0, LAYERS]} for m in tree.get("models", [])]}]
    slices = tree.get("slices", whole)
    if ".layers." not in tensor:
        return placed(tree, slices[0 if "embed" in tensor else -1], tensor, 0, 0)
    layer = int(tensor.split(".")[2])
    for part in slices:
        start, end = part["sources"][0]["layer_range"]
        if layer < end - start:
            return placed(tree, part, tensor, layer, 1 if end - start == 1 else layer / (end - start - 1))
        layer -= end - start
    raise KeyError(tensor)


def placed(tree: dict[str, Any], part: dict[str, Any], tensor: str, layer: int, depth: float) -> Place:
    scopes = [part.get("parameters", {}), tree.get("parameters", {})]
    sources = []
    for s in part["sources"]:
        name = re.sub(r"layers\.\d+", f"layers.{s['layer_range'][0] + layer}", tensor)
        sources.append(Source(s["model"], name, [s.get("parameters", {}), *scopes]))
    return Place(tensor, depth, sources, scopes)


def setting(place: Place, inputs: list[Source], parameter: inspect.Parameter) -> Any:
    """One argument of a reference function."""
    name = parameter.name.rstrip("_")
    if name == "masks":  # all or nothing: the only densities where chance decides nothing
        density = setting(place, inputs, parameter.replace(name="density", annotation="list[float]"))
        return [np.full(s.tensor.shape, kept) for s, kept in zip(inputs, density, strict=True)]
    if "list" not in str(parameter.annotation):
        return first(place.scopes, name, place.name, place.depth, parameter.default)
    return [first(s.scopes, name, s.name, place.depth, DEFAULTS.get(name)) for s in inputs]


def first(scopes: list[dict[str, Any]], name: str, tensor: str, depth: float, default: Any) -> Any:
    found = (at(scope[name], tensor, depth) for scope in scopes if name in scope)
    return next((value for value in found if value is not None), default)


def at(value: Any, tensor: str, depth: float) -> Any:
    """A parameter's value for one tensor: as it is, of the first condition that fits, or along a gradient."""
    if not isinstance(value, list):
        return value
    if isinstance(value[0], dict):
        fits = (c for c in value if c.get("filter", "*") == "*" or c["filter"] in tensor)
        return next((at(c["value"], tensor, depth) for c in fits), None)
    return float(np.interp(depth, np.linspace(0, 1, len(value)), value))
