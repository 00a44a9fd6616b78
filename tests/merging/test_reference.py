"""Whole merges against the slow float64 reference, for every stored type, with edge cases in the tensors."""

import inspect

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.engine import merge
from merging.methods import METHODS
from merging.recipe import settings_for
from tests.merging import reference
from tests.merging.cases import CASES
from tests.merging.kernels import noise
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
LAYERS = 3


def base_tensors(dtype):
    few = (noise(40, 50, seed=3) * 2).round()  # many equal magnitudes
    tensors = {
        "matrix": noise(300, 211) * 0.02, "vector": 1 + noise(64, seed=2) * 0.1, "few": few, "one": torch.tensor([0.5]),
        "scalar": torch.tensor(2.0), "empty": torch.zeros(0, 7), "zeros": torch.zeros(33), "tiny": noise(50) * 1e-6,
        "row": noise(1, 9), "cube": noise(4, 5, 6), "model.embed_tokens.weight": noise(60, 24, seed=4) * 0.02,
    } | {f"model.layers.{i}.mlp.up_proj.weight": noise(24, 60, seed=5 + i) * 0.02 for i in range(LAYERS)}  # fmt: skip
    return {n: t.to(dtype) for n, t in tensors.items()}


every_case = pytest.mark.parametrize(
    ("method", "case"), [(m, i) for m, cases in CASES.items() if m in METHODS for i in range(len(cases))]
)


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_agrees_with_the_reference(tmp_path, method, case, dtype):
    agree(tmp_path, method, CASES[method][case], DTYPES[dtype], METHODS[method].max_models or 3)


@every_case
def test_the_fewest_models_agree_with_the_reference(tmp_path, method, case):
    declared = METHODS[method]
    fewest = declared.min_models
    if fewest == declared.max_models:
        pytest.skip("takes no other number")
    fewer = {n: v[:fewest] if isinstance(v, list) else v for n, v in CASES[method][case].items()}
    agree(tmp_path, method, fewer, torch.float32, fewest)


def agree(folder, method, parameters, dtype, count):
    """Merge so many fine-tunes in files; every tensor is what the reference says."""
    declared, parameters = METHODS[method], dict(parameters)
    base = base_tensors(dtype)
    tunes = fine_tunes(base, count, by=0.002)
    tunes[0]["zeros"] = base["zeros"]  # no change at all
    tunes[-1]["few"] = base["few"] + 1
    config = {"num_hidden_layers": LAYERS, "vocab_size": len(base["model.embed_tokens.weight"])}
    folders = [write_model(folder / f"m{i}", t, config, shards=i + 1) for i, t in enumerate(tunes)]
    given = write_model(folder / "base", base, config) if parameters.pop("base", declared.needs_base) else None
    recipe = recipe_of(method, folders, given, seed=5, **parameters)
    for _ in merge(recipe, opened(recipe), folder / "out"):
        pass
    merged = load_file(folder / "out/model.safetensors")
    for name, tensor in base.items():
        inputs = [t[name] for t in tunes]
        expected = expect(recipe, name, tensor, inputs)
        assert merged[name].dtype == dtype and merged[name].shape == tensor.shape
        largest = torch.stack([tensor, *inputs]).double().abs().amax(0)
        compare(merged[name], expected, largest * LOOSER.get(method, 1), name)


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


ROUNDING = 2.0**-20  # of the largest input of an entry: sixteen times what float32 rounds it by
# pcb weighs by a score, rounded to float32, less the cut: near the cut hardly a digit is left of that, and where all
# models are near it the mean of their changes (of a tenth of the inputs here) is known to as many digits.
LOOSER = {"pcb": 4}


def compare(merged, expected, largest, name):
    """Entry by entry: at most one step from the correctly rounded value; in float32, a millionth.

    Where inputs cancel, float32 arithmetic cannot know the rest better than it knows them: `largest` is the magnitude
    of the largest of them at each entry.
    """
    rounded = expected.to(merged.dtype)
    step = torch.nextafter(rounded.abs(), torch.full_like(rounded, torch.inf)).double() - rounded.abs().double()
    allowed = 1e-6 * expected.abs() if merged.dtype == torch.float32 else step
    over = ((merged.double() - rounded.double()).abs() / torch.maximum(allowed, ROUNDING * largest)).flatten()
    assert not (over > 1).any(), f"{name}: {int((over > 1).sum())} of {len(over)}, by {over.max():g}"
