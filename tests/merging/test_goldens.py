"""The reference and the engine beside what mergekit 0.1.5 makes of the same recipes at `dtype: float32`.

benchmarks/goldens.py makes the models and ran mergekit; its outputs lie in goldens/, each beside its recipe.
Two tensors agree when no entry differs by more than a millionth of the largest number in them.
"""

import inspect
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

# Methods that the engine does not have yet. Empty this as they are added.
AWAITED = {
    "arcee_fusion", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "karcher", "model_stock",
    "multislerp", "nearswap", "nuslerp", "ram", "ramplus_tl", "sce",
}  # fmt: skip
# Recipes with gradients and filters, which the engine does not read yet. Empty this too.
UNREAD = {"linear-gradient", "passthrough-scale", "slerp-gradient", "task_arithmetic-gradient", "ties-gradient"}

# Where we mean to differ from mergekit: the recipe, a part of the tensor's name, why.
INTENDED = {
    ("ties-sparse", "norm"): "int(density * size) is 0, so none is kept; mergekit keeps at least one.",
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
    return method_of(name) not in AWAITED and name not in UNREAD | REFUSED.keys()


@pytest.mark.parametrize("name", GOLDENS)
def test_the_reference_agrees_with_mergekit(name):
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for tensor, golden in load_file(FOLDER / f"{name}.safetensors").items():
        assert agree(expect(tree, tensor), golden) is not differs(name, tensor), tensor


@pytest.mark.parametrize("name", [n for n in GOLDENS if is_for_the_engine(n)])
def test_the_engine_agrees_with_mergekit(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    recipe = parse_recipe((FOLDER / f"{name}.yaml").read_text())
    for _ in merge(recipe, opened(recipe), tmp_path / "out"):
        pass
    merged = load_file(tmp_path / "out" / "model.safetensors")
    for tensor, golden in load_file(FOLDER / f"{name}.safetensors").items():
        assert agree(merged[tensor], golden) is not differs(name, tensor), tensor


def test_nothing_is_awaited_that_is_there():
    assert {method_of(name) for name in GOLDENS} - METHODS.keys() == AWAITED
    for name in UNREAD:
        with pytest.raises(MergeError, match="not supported yet"):
            parse_recipe((FOLDER / f"{name}.yaml").read_text())


def test_the_engine_refuses_what_it_would_not_do_as_mergekit():
    for name, reason in REFUSED.items():
        with pytest.raises(MergeError, match="merge_method" if method_of(name) in AWAITED else reason):
            parse_recipe((FOLDER / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_are_of_these_recipes_and_models(name):
    with safe_open(FOLDER / f"{name}.safetensors", "np") as golden:
        about = golden.metadata()
    assert about == {"mergekit": "0.1.5", "seed": str(SEED), "recipe": digest(FOLDER / f"{name}.yaml")}


def agree(found: Any, golden: Any) -> bool:
    return bool(np.abs(found - golden.astype(np.float64)).max() <= 1e-6 * np.abs(golden).max())


def differs(name: str, tensor: str) -> bool:
    return any(name == recipe and part in tensor for recipe, part in INTENDED)


@cache
def models() -> dict[str, dict[str, Any]]:
    return {model: {n: t.astype(np.float64) for n, t in tensors.items()} for model, tensors in make_models().items()}


def expect(tree: dict[str, Any], tensor: str) -> Any:
    """What the reference says to a recipe."""
    function = getattr(reference, tree["merge_method"])
    takes = inspect.signature(function).parameters
    base = models()[tree["base_model"].removeprefix("./")][tensor] if "base" in takes and "base_model" in tree else None
    inputs = [m for m in tree["models"] if base is None or m["model"] != tree["base_model"]]
    settings = {p.name: setting(tree, inputs, p, tensor) for p in takes.values() if p.name not in ("base", "models")}
    if base is not None:
        settings["base"] = base
    return function(models=np.array([models()[m["model"].removeprefix("./")][tensor] for m in inputs]), **settings)


def setting(tree: dict[str, Any], inputs: list[Any], parameter: inspect.Parameter, tensor: str) -> Any:
    """One argument of a reference function, by mergekit's order: the model's own parameters, then the recipe's."""
    shared, name = tree.get("parameters", {}), parameter.name.rstrip("_")
    if name == "masks":  # all or nothing: the only densities where chance decides nothing
        shape = models()["base"][tensor].shape
        density = setting(tree, inputs, parameter.replace(name="density", annotation="list[float]"), tensor)
        return [np.full(shape, kept) for kept in density]
    if "list" not in str(parameter.annotation):
        return first([shared], name, tensor, parameter.default)
    return [first([m.get("parameters", {}), shared], name, tensor, DEFAULTS.get(name)) for m in inputs]


def first(scopes: list[dict[str, Any]], name: str, tensor: str, default: Any) -> Any:
    found = (at(scope[name], tensor) for scope in scopes if name in scope)
    return next((value for value in found if value is not None), default)


def at(value: Any, tensor: str) -> Any:
    """A parameter's value for one tensor: as it is, of the first condition that fits, or along a gradient."""
    if not isinstance(value, list):
        return value
    if isinstance(value[0], dict):
        fits = (c for c in value if c.get("filter", "*") == "*" or c["filter"] in tensor)
        return next((at(c["value"], tensor) for c in fits), None)
    layer = int(tensor.split(".")[2]) if ".layers." in tensor else 0
    return float(np.interp(layer / (LAYERS - 1), np.linspace(0, 1, len(value)), value))
