"""Whole merges against the slow float64 reference, for every stored type, with edge cases in the tensors."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.engine import merge
from merging.methods import METHODS
from merging.recipe import settings_for
from tests.merging import reference
from tests.merging.kernels import noise
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# In votes, weights that are no simple fractions: else changes cancel exactly, and rounding decides.
# `base: True` gives a base to a method that can do without. Cases of methods that are not there yet wait for them.
CASES: dict[str, list[dict[str, Any]]] = {
    "linear": [{"weight": [0.3, 0.5, 1.2]}, {"weight": [0.3, -0.5, 0.4], "normalize": False}],
    "passthrough": [{}, {"scale": [0.7]}],
    "slerp": [{"t": 0.0}, {"t": 0.3}, {"t": 1.0}],
    "nuslerp": [
        {"weight": [0.7, 0.4]},
        {"weight": [0.7, 0.4], "base": True},
        {"weight": [0.7, -0.3], "base": True, "nuslerp_flatten": False},
        {"weight": [0.7, 0.4], "base": True, "nuslerp_flatten": False, "nuslerp_row_wise": True},
        {"weight": [0.4, -0.4], "nuslerp_flatten": False},
    ],
    "multislerp": [
        {"weight": [0.3, 0.5, 1.2]},
        {"weight": [0.3, 0.5, 1.2], "base": True},
        {"weight": [0.3, -0.5, 0.4], "base": True, "normalize_weights": False},
    ],
    "karcher": [{}, {"max_iter": 1}],
    "model_stock": [{}, {"filter_wise": True}],
    "arcee_fusion": [{}],
    "nearswap": [{"t": 0.0}, {"t": 0.0017}],
    "wise_ft": [{}, {"alpha": 0.3}],
    "sce": [{}, {"select_topk": 0.3}, {"select_topk": 0.0}],
    "ram": [{}, {"epsilon": 0.00137}],
    "ramplus_tl": [{}, {"epsilon": 0.00237, "r": 0.7, "alpha": 1.5}],
    "task_arithmetic": [{"weight": [1.0, -0.7, 0.3]}, {"weight": 0.4, "normalize": True, "lambda": 1.7}],
    "lines": [{}, {"weight": [1.0, -0.7, 0.3], "alpha": 0.3, "beta": 0.9}],
    "ties": [
        {"weight": [1.0, 0.7123, 0.3719], "density": 0.2},
        {"weight": [1.0, -0.7123, 0.3719], "density": [0.5, 0.1, 1.0], "normalize": False, "lambda": -0.5},
        {"weight": [0.5, 0.9177, 0.6711], "density": [0.3, 0.0, 0.9], "rescale": True},
    ],
    "dare_linear": [{"weight": 0.5, "density": 0.3}, {"weight": [0.5, 1, 0.2], "density": 0.5, "rescale": False}],
    "dare_ties": [{"weight": [0.5123, -1, 0.2719], "density": 0.3}, {"weight": 0.5, "normalize": True, "lambda": 1.3}],
    "breadcrumbs": [
        {"weight": [1.0, -0.7123, 0.3719], "density": 0.3, "gamma": 0.1},
        {"weight": 0.5, "density": [0.95, 1.0, 0.0], "gamma": [0.2, 0.1, 0.0], "rescale": True, "normalize": True},
    ],
    "breadcrumbs_ties": [
        {"weight": [1.0, 0.7123, 0.3719], "density": 0.3, "gamma": 0.1},
        {"weight": [1.0, -0.7123, 0.3719], "density": 0.5, "normalize": True, "rescale": True, "lambda": 1.3},
    ],
    "della": [
        {"weight": [0.5123, 1, 0.2719], "density": 0.3},
        {"weight": [0.5123, -1, 0.2719], "density": [0.6, 1.0, 0.0], "epsilon": 0.3917, "normalize": False},
    ],
    "della_linear": [
        {"weight": 0.5, "density": 0.3, "epsilon": 0.0713},
        {"weight": [0.5, 1, 0.2], "density": 0.5, "rescale": False, "normalize": True, "lambda": 1.3},
    ],
    "consensus": [{}, {"tall_mask_lambda": [0.2137, 0.4719, 0.5917], "prun_thre_k": 1, "lambda": 0.7}],
    "pcb": [{}, {"density": 0.7, "lambda": 1.2}, {"density": 1.0}],
    "tsv": [{}, {"lambda": 0.7}],
    "iso_c": [{}, {"lambda": 0.7}],
    "iso_cts": [{}, {"common_space_fraction": 0.3, "lambda": 0.7}],
}
LAYERS = 3


def base_tensors(dtype):
    few = (noise(40, 50, seed=3) * 2).round()  # many equal magnitudes
    tensors = {
        "matrix": noise(300, 211) * 0.02, "vector": 1 + noise(64, seed=2) * 0.1, "few": few, "one": torch.tensor([0.5]),
        "scalar": torch.tensor(2.0), "empty": torch.zeros(0, 7), "zeros": torch.zeros(33), "tiny": noise(50) * 1e-6,
        "row": noise(1, 9), "cube": noise(4, 5, 6), "model.embed_tokens.weight": noise(60, 24, seed=4) * 0.02,
    } | {f"model.layers.{i}.mlp.up_proj.weight": noise(24, 60, seed=5 + i) * 0.02 for i in range(LAYERS)}  # fmt: skip
    return {n: t.to(dtype) for n, t in tensors.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("method", "case"), [(m, i) for m, cases in CASES.items() if m in METHODS for i in range(len(cases))]
)
def test_agrees_with_the_reference(tmp_path, method, case, dtype):
    declared, parameters = METHODS[method], dict(CASES[method][case])
    base = base_tensors(DTYPES[dtype])
    tunes = fine_tunes(base, declared.max_models or 3, by=0.002)
    tunes[0]["zeros"] = base["zeros"]  # no change at all
    tunes[-1]["few"] = base["few"] + 1
    config = {"num_hidden_layers": LAYERS, "vocab_size": len(base["model.embed_tokens.weight"])}
    folders = [write_model(tmp_path / f"m{i}", t, config, shards=i + 1) for i, t in enumerate(tunes)]
    given = write_model(tmp_path / "base", base, config) if parameters.pop("base", declared.needs_base) else None
    recipe = recipe_of(method, folders, given, seed=5, **parameters)
    for _ in merge(recipe, opened(recipe), tmp_path / "out"):
        pass
    merged = load_file(tmp_path / "out/model.safetensors")
    for name, tensor in base.items():
        expected = expect(recipe, name, tensor, [t[name] for t in tunes])
        assert merged[name].dtype == DTYPES[dtype] and merged[name].shape == tensor.shape
        compare(merged[name], expected, name)


def test_every_method_has_cases():
    assert METHODS.keys() <= CASES.keys()


def expect(recipe, name, base, models):
    """What the reference says, as float64."""
    function = getattr(reference, recipe.method)
    takes = inspect.signature(function).parameters
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in settings_for(recipe, name).items()}
    base, models = base.double().numpy(), np.array([m.double().numpy() for m in models])
    known = {
        "base": base if recipe.base else None,
        "depth": int(name.split(".")[2]) / (LAYERS - 1) if ".layers." in name else 0,
        "table": "embed" in name,
    }
    if "masks" in takes:
        density = settings.pop("density")
        epsilon = settings.pop("epsilon", [0] * len(density))
        chances = [chance_of(m - base, p, e) for m, p, e in zip(models, density, epsilon, strict=True)]
        known["masks"] = [reference.kept(recipe.seed, name, i, p) for i, p in enumerate(chances)]
    settings |= {k: v for k, v in known.items() if k in takes}
    return torch.from_numpy(np.asarray(function(models=models, **settings)))


def chance_of(delta, density, epsilon):
    """DARE's chance is the same for all."""
    return reference.della_probabilities(delta, density, epsilon) if epsilon else np.full(delta.shape, density)


def compare(merged, expected, name):
    """At most 1 unit in the last place from the correctly rounded value; in float32, 1e-6 of the largest number.

    Where parts cancel, the unit is that of 1/256 of the largest number: float32 arithmetic cannot know more.
    """
    if merged.dtype == torch.float32:
        scale = expected.abs().max().item() if expected.numel() else 0
        torch.testing.assert_close(
            merged.double(), expected, rtol=1e-6, atol=1e-6 * scale, msg=lambda m: f"{name}: {m}"
        )
        return
    rounded = expected.to(merged.dtype)
    unit = torch.maximum(expected.abs(), expected.abs().max() / 256 if expected.numel() else expected).to(merged.dtype)
    step = torch.nextafter(unit, torch.full_like(unit, torch.inf)).double() - unit.double()
    assert ((merged.double() - rounded.double()).abs() <= step).all(), name
