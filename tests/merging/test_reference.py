"""Whole merges against the slow float64 reference, for every stored type, with edge cases in the tensors."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.engine import merge
from merging.methods import METHODS
from merging.methods.chance import Chance
from merging.methods.parts import keep_by_chance
from merging.recipe import settings_for
from tests.merging import reference
from tests.merging.kernels import noise
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# In votes, weights that are no simple fractions: else changes cancel exactly, and rounding decides.
CASES: dict[str, list[dict[str, Any]]] = {
    "linear": [{"weight": [0.3, 0.5, 1.2]}, {"weight": [0.3, -0.5, 0.4], "normalize": False}],
    "passthrough": [{}, {"scale": [0.7]}],
    "slerp": [{"t": 0.0}, {"t": 0.3}, {"t": 1.0}],
    "task_arithmetic": [{"weight": [1.0, -0.7, 0.3]}, {"weight": 0.4, "normalize": True, "lambda": 1.7}],
    "ties": [
        {"weight": [1.0, 0.7123, 0.3719], "density": 0.2},
        {"weight": [1.0, -0.7123, 0.3719], "density": [0.5, 0.1, 1.0], "normalize": False, "lambda": -0.5},
        {"weight": [0.5, 0.9177, 0.6711], "density": [0.3, 0.0, 0.9], "rescale": True},
    ],
    "dare_linear": [{"weight": 0.5, "density": 0.3}, {"weight": [0.5, 1, 0.2], "density": 0.5, "rescale": False}],
    "dare_ties": [{"weight": [0.5123, -1, 0.2719], "density": 0.3}, {"weight": 0.5, "normalize": True, "lambda": 1.3}],
}


def base_tensors(dtype):
    few = (noise(40, 50, seed=3) * 2).round()  # many equal magnitudes
    tensors = {
        "matrix": noise(300, 211) * 0.02, "vector": 1 + noise(64, seed=2) * 0.1, "few": few, "one": torch.tensor([0.5]),
        "scalar": torch.tensor(2.0), "empty": torch.zeros(0, 7), "zeros": torch.zeros(33), "tiny": noise(50) * 1e-6,
    }  # fmt: skip
    return {n: t.to(dtype) for n, t in tensors.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("method", "case"), [(m, i) for m, cases in CASES.items() for i in range(len(cases))])
def test_agrees_with_the_reference(tmp_path, method, case, dtype):
    declared, parameters = METHODS[method], CASES[method][case]
    base = base_tensors(DTYPES[dtype])
    tunes = fine_tunes(base, declared.max_models or 3, by=0.002)
    tunes[0]["zeros"] = base["zeros"]  # no change at all
    tunes[-1]["few"] = base["few"] + 1
    folders = [write_model(tmp_path / f"m{i}", t, shards=i + 1) for i, t in enumerate(tunes)]
    recipe = recipe_of(method, folders, write_model(tmp_path / "base", base) if declared.needs_base else None,
                       seed=5, **parameters)  # fmt: skip
    for _ in merge(recipe, opened(recipe), tmp_path / "out"):
        pass
    merged = load_file(tmp_path / "out/model.safetensors")
    for name, tensor in base.items():
        expected = expect(recipe, name, tensor, [t[name] for t in tunes])
        assert merged[name].dtype == DTYPES[dtype] and merged[name].shape == tensor.shape
        compare(merged[name], expected, name)


def expect(recipe, name, base, models):
    """What the reference says, as float64."""
    function = getattr(reference, recipe.method)
    stack = np.array([m.double().numpy() for m in models])
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in settings_for(recipe, name).items()}
    if "masks" in inspect.signature(function).parameters:
        chance, density = Chance(recipe.seed, name), settings.pop("density")
        kept = keep_by_chance(np.ones((len(density), base.numel()), np.float32), density, chance)
        settings["masks"] = kept.reshape(stack.shape)
    given = (base.double().numpy(), stack) if METHODS[recipe.method].needs_base else (stack,)
    return torch.from_numpy(np.asarray(function(*given, **settings)))


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
