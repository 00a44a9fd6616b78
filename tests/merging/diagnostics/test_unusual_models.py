"""Models that are not as one expects, that have no base, or whose layers are stacked anew."""

import json
import math

import numpy as np
import pytest
import torch

from merging.diagnostics import advise, from_json, to_json
from merging.errors import MergeError
from merging.recipe import parse_recipe
from tests.merging.diagnostics.diagnosed import LAYERS, SHAPES, made, noise, run
from tests.merging.models import fine_tunes, recipe_of, write_model


def test_models_that_are_the_base_have_no_direction(tmp_path):
    base = noise(dtype=torch.bfloat16)
    path, paths = made(tmp_path, base, [base, base])
    found = run(recipe_of("ties", paths, path, weight=1.0, density=0.5))
    (pair,) = found.whole.pairs
    assert [m.size for m in found.whole.models] == [0, 0] and [m.unchanged for m in found.whole.models] == [1, 1]
    assert pair.cosine is None and pair.conflict is None and pair.norm_ratio is None and pair.distance == 0
    assert found.whole.models[0].energy[0] is None and found.whole.merged == 0
    assert "NaN" not in to_json(found)


def test_equal_fine_tunes_go_the_same_way(tmp_path):
    base = noise(dtype=torch.bfloat16)
    (tune,) = fine_tunes(base, 1)
    path, paths = made(tmp_path, base, [tune, tune])
    found = run(recipe_of("task_arithmetic", paths, path, weight=0.5))
    (pair,) = found.whole.pairs
    assert (pair.cosine, pair.conflict, pair.conflict_weighted, pair.distance) == (1, 0, 0, 0)
    assert any("are the same, as far" in advice.finding for advice in advise(found))


def test_odd_shapes_and_whole_numbers(tmp_path):
    shapes = {"scalar": (), "empty.weight": (0, 4), "one.weight": (1,), "conv.weight": (3, 2, 5)}
    base = noise(shapes, dtype=torch.bfloat16) | {"position_ids": torch.arange(7)}
    path, paths = made(tmp_path, base, fine_tunes(base, 2), config={})
    found = run(recipe_of("ties", paths, path, weight=1.0, density=0.5))
    assert {part.name: part.entries for part in found.tensors} == {n: math.prod(s) for n, s in shapes.items()}
    assert found.layers[0].name == "outside of layers" and from_json(to_json(found)) == found


def test_tied_embeddings_that_are_stored_twice_count_once(tmp_path):
    base = noise(dtype=torch.bfloat16)
    tunes = fine_tunes(base, 2)
    for model in (base, *tunes):
        model["lm_head.weight"] = model["model.embed_tokens.weight"].clone()
    path, paths = made(tmp_path, base, tunes)
    found = run(recipe_of("task_arithmetic", paths, path, weight=1.0))
    assert found.tensor("lm_head.weight") is None and found.tensor("model.embed_tokens.weight") is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sample", [False, True])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, dtype, sample):
    base = noise(dtype=dtype)
    tunes = fine_tunes(base, 2)
    tunes[1]["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    path, paths = made(tmp_path, base, tunes)
    with pytest.raises(MergeError, match=r"'model.layers.1.mlp.up_proj.weight' of .*tune-1 has"):
        run(recipe_of("task_arithmetic", paths, path, weight=1.0), sample=sample)


def test_models_that_do_not_fit_are_refused_in_words(tmp_path):
    base = noise()
    _, paths = made(tmp_path, base, fine_tunes(base, 1))
    other = write_model(tmp_path / "other", noise(SHAPES | {"model.norm.weight": (32,)}), LAYERS)
    with pytest.raises(MergeError, match=r"'model.norm.weight' is \(64,\)"):
        run(recipe_of("linear", [*paths, other], weight=1.0))
    with pytest.raises(MergeError, match="nothing to compare"):
        run(recipe_of("passthrough", paths))


def test_without_a_base_models_are_compared_with_each_other(tmp_path):
    tunes = fine_tunes(noise(), 3, by=0.004)
    paths = [write_model(tmp_path / f"m{i}", t, LAYERS) for i, t in enumerate(tunes)]
    found = run(recipe_of("linear", paths, weight=1.0))
    assert not found.has_base and found.whole.models == () and "base_model" in found.why_not_merged
    flat = [np.concatenate([t[n].double().flatten().numpy() for n in SHAPES]) for t in tunes]
    assert [(p.a, p.b) for p in found.whole.pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in found.whole.pairs:
        x, y = flat[pair.a], flat[pair.b]
        norms = np.linalg.norm(x), np.linalg.norm(y)
        assert pair.cosine == pytest.approx(x @ y / norms[0] / norms[1], rel=1e-7)  # changes are in float32
        assert pair.distance == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(flat[0]), rel=1e-6)
        assert pair.norm_ratio == pytest.approx(max(norms) / min(norms), rel=1e-6)
        assert pair.conflict is None and pair.trimmed_both is None
    assert from_json(to_json(found)) == found and advise(found) == ()


def test_a_stack_is_diagnosed_by_its_models(tmp_path):
    base = noise()
    path, (one,) = made(tmp_path, base, fine_tunes(base, 1))
    sources = [{"model": str(m), "layer_range": [0, 2]} for m in (path, one)]
    tree = {
        "merge_method": "slerp",
        "base_model": str(path),
        "parameters": {"t": 0.5},
        "slices": [{"sources": sources}],
    }
    found = run(parse_recipe(json.dumps(tree)))
    assert len(found.models) == 1 and found.whole.merged is None and "stacks layers" in found.why_not_merged
