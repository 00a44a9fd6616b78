"""Values of a recipe: gradients over the layers, filters by name, and whose value counts."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from merging.assembly import depth_of
from merging.checks.lambdas import check_lambdas
from merging.engine import merge
from merging.errors import MergeError
from merging.layers import Layers, recognise
from merging.naming import pinned
from merging.plan import from_json, make_plan, to_json
from merging.recipe import parse_recipe, settings_for
from merging.values import Case, Filtered, Gradient, at, in_words, plain_tree
from tests.merging.models import opened, write_model

numbers = st.floats(-100, 100)
depths = st.floats(0, 1)


@pytest.mark.parametrize(
    ("points", "depth", "value"),
    [
        ((3,), 0, 3), ((3,), 0.7, 3), ((0, 1), 0.25, 0.25), ((0, 1), 1, 1), ((1, 0.5, 0), 0.25, 0.75),
        ((0, 0.5, 0.3, 0.7, 1), 0.5, 0.3), ((0, 0.5, 0.3, 0.7, 1), 0.625, 0.5),
    ],
)  # fmt: skip
def test_a_gradient_by_hand(points, depth, value):
    assert Gradient(points).at(depth) == pytest.approx(value, abs=1e-12)


@given(st.lists(numbers, min_size=1, max_size=6), depths)
def test_a_gradient_stays_between_its_neighbours_and_meets_its_ends(points, depth):
    gradient = Gradient(tuple(points))
    assert min(points) - 1e-9 <= gradient.at(depth) <= max(points) + 1e-9
    assert (gradient.at(0), gradient.at(1)) == (points[0], points[-1])


@given(numbers, st.integers(1, 5), depths)
def test_a_level_gradient_is_one_value(value, count, depth):
    assert Gradient((value,) * count).at(depth) == value


@given(st.lists(numbers, min_size=2, max_size=6), depths)
def test_a_gradient_turned_round(points, depth):
    assert Gradient(tuple(points)).at(depth) == pytest.approx(Gradient(tuple(points[::-1])).at(1 - depth), abs=1e-6)


@given(st.lists(numbers, min_size=1, max_size=9))
def test_as_many_points_as_layers_are_the_values_of_the_layers(points):
    found = [Gradient(tuple(points)).at(depth_of(i, len(points))) for i in range(len(points))]
    assert found == pytest.approx(points, abs=1e-9)


def test_depth():
    assert [depth_of(i, 5) for i in range(5)] == [0, 0.25, 0.5, 0.75, 1] and depth_of(0, 1) == 1


def test_the_first_filter_that_matches_decides():
    value = Filtered((Case(1, "mlp"), Case(Gradient((0, 1)), "layers.3."), Case(3, "*"), Case(4)))
    assert [at(value, name, 0.5) for name in ("layers.3.mlp", "layers.3.attn", "norm")] == [1, 0.5, 3]
    assert at(Filtered((Case(1, "mlp"),)), "norm", 0) is None
    assert in_words(plain_tree(value)) == "(mlp: 1; layers.3.: 0 to 1; else: 3; else: 4)"


# Three levels that may each give a weight, and what holds for `a.mlp` and `a.norm`.
NOTHING, ONE, TWO, MLP = None, 1, 2, [{"filter": "mlp", "value": 3}]


@pytest.mark.parametrize(
    ("own", "of_slice", "shared", "mlp", "norm"),
    [
        (NOTHING, NOTHING, ONE, 1, 1),
        (NOTHING, TWO, ONE, 2, 2),
        (-1, TWO, ONE, -1, -1),
        (MLP, TWO, ONE, 3, 2),  # where the filter lets nothing through, the next level counts
        (MLP, NOTHING, ONE, 3, 1),
        (ONE, MLP, TWO, 1, 1),
        (NOTHING, MLP, TWO, 3, 2),
        (NOTHING, NOTHING, [*MLP, {"value": 4}], 3, 4),
        (MLP, [{"filter": "norm", "value": [5, 6]}], NOTHING, 3, 5),
    ],
)
def test_whose_value_counts(own, of_slice, shared, mlp, norm, tmp_path):
    found = weights(tmp_path, own, of_slice, shared)
    assert (found["model.layers.0.mlp"], found["model.layers.0.norm"]) == (mlp, norm)


def weights(tmp_path, own, of_slice, shared):
    """The weight of every tensor of a slice of one model."""
    names = ["model.norm", *(f"model.layers.{i}.{n}" for i in (0, 1, 2) for n in ("mlp", "norm"))]
    model = write_model(tmp_path / "m", {n: torch.ones(1) for n in names}, {"num_hidden_layers": 3})
    levels = [{} if value is None else {"parameters": {"weight": value}} for value in (own, of_slice, shared)]
    slices = [{"sources": [{"model": str(model), "layer_range": [0, 3]} | levels[0]]} | levels[1]]
    return {s.name: s.settings["weight"][0] for s in steps({"merge_method": "linear", "slices": slices} | levels[2])}


def planned(recipe):
    return make_plan(recipe, opened(recipe), shard_bytes=10**9, memory_bytes=10**9, threads=1)


def steps(tree):
    recipe = parse_recipe(json.dumps(tree))
    plan = planned(recipe)
    assert from_json(to_json(plan)) == plan
    return [step for shard in plan.shards for step in shard.steps]


def test_a_tensor_without_a_value_is_named(tmp_path):
    with pytest.raises(MergeError, match=r"weight has no value for 'model.norm': no filter lets it through\. Add an"):
        weights(tmp_path, [{"filter": "layers", "value": 1}], None, None)


def test_each_slice_has_its_own_gradient_and_a_single_layer_is_at_its_end(tmp_path):
    model = llama_like(tmp_path / "m", 4)
    slices = [{"sources": [{"model": str(model), "layer_range": r}]} for r in ([0, 3], [1, 2])]
    found = steps({"merge_method": "passthrough", "slices": slices, "parameters": {"scale": [1, 3]}})
    assert {s.name: (s.settings["scale"][0], s.layer, s.layers, s.depth) for s in found} == {
        "model.embed_tokens.weight": (1, None, 4, 0), "model.norm.weight": (1, None, 4, 0),
        "lm_head.weight": (1, None, 4, 0), "model.layers.0.up.weight": (1, 0, 4, 0),
        "model.layers.1.up.weight": (2, 1, 4, 0.5), "model.layers.2.up.weight": (3, 2, 4, 1),
        "model.layers.3.up.weight": (3, 3, 4, 1),
    }  # fmt: skip


def llama_like(folder, layers, value=1.0):
    names = ("model.embed_tokens.weight", *(f"model.layers.{i}.up.weight" for i in range(layers)),
             "model.norm.weight", "lm_head.weight")  # fmt: skip
    config = {"num_hidden_layers": layers, "tie_word_embeddings": False}
    return write_model(folder, {n: torch.full((2, 2), value) for n in names}, config)


def test_a_gradient_over_whole_models(tmp_path):
    """Embeddings, norm and head take the first value, as in mergekit."""
    base, tune = llama_like(tmp_path / "base", 3, 0.0), llama_like(tmp_path / "tune", 3, 1.0)
    tree = {"merge_method": "task_arithmetic", "base_model": str(base),
            "models": [{"model": str(tune), "parameters": {"weight": [0.25, 0.75]}}]}  # fmt: skip
    recipe = parse_recipe(json.dumps(tree))
    list(merge(recipe, opened(recipe), tmp_path / "out"))
    found = {n: t[0, 0].item() for n, t in load_file(tmp_path / "out/model.safetensors").items()}
    assert [found[f"model.layers.{i}.up.weight"] for i in range(3)] == [0.25, 0.5, 0.75]
    assert {found[n] for n in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")} == {0.25}
    report = json.loads((tmp_path / "out/merge_report.json").read_text())
    assert report["models"][1]["parameters"] == {"weight": [0.25, 0.75]}
    card = (tmp_path / "out/README.md").read_text()
    assert "weight 0.25 to 0.75" in card and parse_recipe((tmp_path / "out/merge_recipe.yaml").read_text()) == recipe
    (lambdas,) = check_lambdas(
        recipe, make_plan(recipe, opened(recipe), shard_bytes=10**9, memory_bytes=10**9, threads=1)
    )
    assert lambdas.level == "ok" and lambdas.values == ("lambda 0.25 to 0.75",)
    assert pinned(recipe, opened(recipe)) == recipe


def test_lambdas_that_go_wrong_in_some_tensors_only(tmp_path):
    a, b = llama_like(tmp_path / "a", 2), llama_like(tmp_path / "b", 2)
    weights = ([{"filter": "up", "value": [1, -0.98]}, {"value": 1}], 1)
    models = [{"model": str(m), "parameters": {"weight": w}} for m, w in zip((a, b), weights, strict=True)]
    recipe = parse_recipe(json.dumps({"merge_method": "linear", "models": models}))
    (finding,) = check_lambdas(
        recipe, make_plan(recipe, opened(recipe), shard_bytes=9**9, memory_bytes=10**9, threads=1)
    )
    assert finding.level == "warn"
    assert finding.title == "The lambdas almost cancel: they add up to 0.02, in 1 tensor (model.layers.1.up.weight)."


def test_weights_that_cancel_in_one_tensor_are_refused_with_its_name(tmp_path):
    a, b = llama_like(tmp_path / "a", 2), llama_like(tmp_path / "b", 2)
    models = [{"model": str(a), "parameters": {"weight": [1, -1]}}, {"model": str(b), "parameters": {"weight": 1}}]
    with pytest.raises(MergeError, match=r"At 'model.layers.1.up.weight': The weights -1, 1 sum to zero"):
        steps({"merge_method": "linear", "models": models})


def test_a_gradient_needs_layers(tmp_path):
    model = write_model(tmp_path / "m", {"w": torch.ones(2)})
    tree = {"merge_method": "passthrough", "models": [str(model)], "parameters": {"scale": [1, 2]}}
    with pytest.raises(MergeError, match=r"scale is a gradient over the layers, but the layers of .* cannot be told"):
        steps(tree)
    assert steps(tree | {"parameters": {"scale": [{"filter": "w", "value": 2}]}})[0].settings["scale"] == (2,)


def test_lines_needs_layers(tmp_path):
    model, base = (str(write_model(tmp_path / name, {"w": torch.ones(4)})) for name in ("a", "b"))
    with pytest.raises(MergeError, match=r"lines treats every layer in its own way, but the layers of .* cannot be"):
        steps({"merge_method": "lines", "base_model": base, "models": [model]})


def test_settings_for_one_tensor():
    recipe = parse_recipe("{merge_method: linear, models: [a], parameters: {weight: [0, 1]}}")
    assert settings_for(recipe, "x", 0.5)["weight"] == (0.5,)


@pytest.mark.parametrize(
    ("names", "config", "found"),
    [
        (["model.layers.0.x", "model.layers.1.x"], {"num_hidden_layers": 2}, Layers("model.layers", 2)),
        (["transformer.h.0.x", "transformer.h.1.x"], {"n_layer": 2}, Layers("transformer.h", 2)),
        (["h.0.x", "h.1.x", "wte.weight"], {"n_layer": 2}, Layers("h", 2)),
        (["model.layers.0.experts.0.x", "model.layers.0.experts.1.x", "model.layers.1.x"], {"num_hidden_layers": 2},
         Layers("model.layers", 2)),
        (["model.layers.0.experts.0.x", "model.layers.0.experts.1.x"], {"num_hidden_layers": 2}, None),
        (["model.layers.0.x"], {"num_hidden_layers": 2}, None),
        (["model.layers.0.x", "model.layers.1.x"], {}, None),
        (["model.layers.0.x", "model.layers.1.x"], {"num_hidden_layers": True}, None),
        (["a.layers.0.x", "vision.blocks.0.x"], {"text_config": {"num_hidden_layers": 1}}, Layers("a.layers", 1)),
        (["encoder.block.0.x", "decoder.block.0.x"], {"num_layers": 1}, None),
        (["model.layers.00.x"], {"num_hidden_layers": 1}, None),
    ],
)  # fmt: skip
def test_which_tensors_are_layers(names, config, found):
    assert recognise(names, config) == found
    assert found is None or found.find(found.name(3, "mlp.experts.7.w")) == (3, "mlp.experts.7.w")
