"""Layers stacked anew, as transformers loads them: each stack equals a model that was put together by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, Qwen2Config

from merging.compatibility import check
from merging.engine import Options, merge
from merging.errors import MergeError
from merging.recipe import parse_recipe
from merging.stacking import BEFORE
from tests.merging.models import opened, write_model

TEXT = torch.tensor([[1, 5, 9, 33, 60, 2]])
SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
                         "intermediate_size": 48, "max_position_embeddings": 64}  # fmt: skip
SLIDING: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}


def llama(layers: int, **more: Any) -> Any:
    return LlamaConfig(**SMALL | {"num_hidden_layers": layers, "tie_word_embeddings": False} | more)


CONFIGS = {
    "llama": llama,
    "llama tied": lambda layers: llama(layers, tie_word_embeddings=True),
    "qwen2": lambda layers: Qwen2Config(**SMALL, num_hidden_layers=layers, max_window_layers=layers),
    "qwen2 sliding": lambda layers: Qwen2Config(**SMALL, **SLIDING, num_hidden_layers=layers),
    "mixtral": lambda layers: MixtralConfig(
        **SMALL, num_hidden_layers=layers, num_local_experts=layers, num_experts_per_tok=2
    ),
    "gpt2": lambda layers: GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=layers, n_head=4),
}


def saved(config: Any, folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for p in model.parameters():  # norms start as ones everywhere, which would hide a mistake
        p.data += 0.05 * torch.randn_like(p)
    model.save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TEXT).logits
    return found


def stack(out: Path, *slices: tuple[Path, int, int], **more: Any) -> Path:
    """A passthrough of (model, first, end)."""
    tree = [{"sources": [{"model": str(m), "layer_range": [a, b]}]} for m, a, b in slices]
    return merged(out, {"merge_method": "passthrough", "slices": tree} | more)


def merged(out: Path, tree: dict[str, Any]) -> Path:
    recipe = parse_recipe(json.dumps(tree))
    list(merge(recipe, opened(recipe), out, Options(shard_bytes=40_000)))
    return out


def blocks_of(model: Any) -> Any:
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def by_hand(first: Any, last: Any, layers: list[Any]) -> torch.Tensor:
    """The logits of the embeddings of one model, layers of several, and norm and head of another."""
    for i, layer in enumerate(layers):
        layer.self_attn.layer_idx = i
    first.model.layers = torch.nn.ModuleList(layers)
    first.config.num_hidden_layers = len(layers)
    first.model.norm = last.model.norm
    first.lm_head = last.lm_head
    return logits(first)


def test_a_goliath_of_two_llamas(tmp_path):
    a, b = (saved(llama(4), tmp_path / name, seed) for seed, name in enumerate("ab"))
    out = stack(tmp_path / "out", (a, 0, 3), (b, 1, 3), (a, 2, 4), (b, 2, 4))
    one, two, again, more = load(a), load(b), load(a), load(b)
    layers = [*one.model.layers[0:3], *two.model.layers[1:3], *again.model.layers[2:4], *more.model.layers[2:4]]
    found = load(out)
    assert found.config.num_hidden_layers == 9
    torch.testing.assert_close(logits(found), by_hand(one, more, layers), rtol=0, atol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_stack_of_every_kind_of_model(name, tmp_path):
    """Layers 0, 1, 2, then 1, 2 again, then 3: what each model does with each layer is what it did before."""
    model = saved(CONFIGS[name](4), tmp_path / "a", 1)
    out = stack(tmp_path / "out", (model, 0, 3), (model, 1, 3), (model, 3, 4))
    found, parent = load(out), load(model)
    new, old = blocks_of(found), blocks_of(parent)
    assert len(new) == 6
    for layer, source in zip(new, [0, 1, 2, 1, 2, 3], strict=True):
        assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), old[source].parameters(), strict=True))
    if name == "qwen2 sliding":
        assert found.config.layer_types == [parent.config.layer_types[i] for i in (0, 1, 2, 1, 2, 3)]
    assert logits(found).isfinite().all()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for shard in folder.glob("*.safetensors") for n, t in load_file(shard).items()}


def config_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def test_a_whole_model_as_slices_is_the_model(tmp_path):
    model = saved(CONFIGS["qwen2 sliding"](4), tmp_path / "a", 1)
    out = stack(tmp_path / "out", (model, 0, 2), (model, 2, 4))
    assert config_of(out) == config_of(model)
    torch.testing.assert_close(logits(load(out)), logits(load(model)), rtol=0, atol=0)


def test_an_old_config_without_layer_types(tmp_path):
    """Which layers slide followed from max_window_layers, which cannot say it of this stack."""
    model = saved(CONFIGS["qwen2 sliding"](4), tmp_path / "a", 1)
    config = config_of(model)
    config.pop("layer_types")
    (model / "config.json").write_text(json.dumps(config))
    out = stack(tmp_path / "out", (model, 0, 3), (model, 1, 4))
    assert [kind[:4] for kind in load(out).config.layer_types] == ["full", "full", "slid", "full", "slid", "slid"]


def test_a_stack_of_models_of_different_depth(tmp_path):
    a, b = saved(llama(2), tmp_path / "a", 1), saved(llama(5), tmp_path / "b", 2)
    out = stack(tmp_path / "out", (a, 0, 2), (b, 3, 5))
    one, two = load(a), load(b)
    assert logits(load(out)).equal(by_hand(one, two, [*one.model.layers, *two.model.layers[3:5]]))


def test_merging_other_layers_than_those_of_the_same_number(tmp_path):
    a, b = saved(llama(4), tmp_path / "a", 1), saved(llama(4), tmp_path / "b", 2)
    sources = [{"model": str(a), "layer_range": [0, 2], "parameters": {"weight": 0.25}},
               {"model": str(b), "layer_range": [2, 4], "parameters": {"weight": 0.75}}]  # fmt: skip
    out = merged(tmp_path / "out", {"merge_method": "linear", "slices": [{"sources": sources}]})
    found, one, two = (tensors_of(f) for f in (out, a, b))
    for name, tensor in found.items():
        there = name.replace("layers.0.", "layers.2.").replace("layers.1.", "layers.3.")
        torch.testing.assert_close(tensor, 0.25 * one[name] + 0.75 * two[there])
    report = json.loads((out / "merge_report.json").read_text())
    step = next(t for t in report["tensors"] if t["name"] == "model.layers.1.mlp.up_proj.weight")
    assert step["sources"] == ["a", "b"] and step["parameters"] == {"weight": [0.25, 0.75], "normalize": True}
    assert step["names"] == ["model.layers.1.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"]


def test_the_base_of_a_slice_holds_for_it_alone(tmp_path):
    base, a, b = (saved(llama(2), tmp_path / name, i) for i, name in enumerate(("base", "a", "b")))

    def one(first: Path, second: Path, at: int, **more: Any) -> dict[str, Any]:
        return {"sources": [{"model": str(m), "layer_range": [at, at + 1]} for m in (first, second)]} | more

    tree = {"merge_method": "slerp", "base_model": str(base), "parameters": {"t": 0.0},
            "slices": [one(a, base, 0), one(a, b, 1, base_model=str(b))]}  # fmt: skip
    found = load(merged(tmp_path / "out", tree))
    for layer, parent in zip(found.model.layers, (base, b), strict=True):
        number = 0 if parent == base else 1
        for p, q in zip(layer.parameters(), load(parent).model.layers[number].parameters(), strict=True):
            torch.testing.assert_close(p, q)


def listed(tmp_path: Path, **configs: dict[str, Any]) -> dict[str, Path]:
    """Models of one weight a layer, and what their configs say besides."""
    found = {}
    for name, config in configs.items():
        count = config.get("num_hidden_layers", 3)
        tensors = {f"model.layers.{i}.up.weight": torch.full((4, 4), float(i)) for i in range(count)}
        around = {"model.embed_tokens.weight": torch.ones(8, 4), "model.norm.weight": torch.ones(4),
                  "lm_head.weight": torch.ones(8, 4)}  # fmt: skip
        extra = config.pop("tensors", {})
        found[name] = write_model(
            tmp_path / name,
            tensors | around | extra,
            {"num_hidden_layers": count, "tie_word_embeddings": False} | config,
        )
    return found


@pytest.mark.parametrize(
    ("given", "ranges", "written"),
    [
        ({"layer_types": ["a", "b", "c"]}, [(0, 2), (1, 3)], {"layer_types": ["a", "b", "b", "c"]}),
        ({"eos_token_id": [1, 2, 3]}, [(0, 2), (1, 3)], {"eos_token_id": [1, 2, 3]}),
        ({"mlp_only_layers": [1]}, [(0, 2), (1, 3)], {"mlp_only_layers": [1, 2]}),
        ({"max_window_layers": 3}, [(0, 2), (1, 3)], {"max_window_layers": 4}),
        ({"max_window_layers": 2}, [(0, 2), (1, 3)], {"max_window_layers": 2}),  # nothing slides
        ({"max_window_layers": 1, "use_sliding_window": True}, [(0, 2), (1, 3)], {"max_window_layers": 1}),
        ({"first_k_dense_replace": 1}, [(0, 2), (1, 3)], {"first_k_dense_replace": 1}),
        ({"first_k_dense_replace": 2}, [(0, 1), (0, 3)], {"first_k_dense_replace": 3}),
        ({"sliding_window_pattern": 2}, [(0, 2), (0, 3)], {"sliding_window_pattern": 2}),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 2}, [(0, 2), (1, 3)],
         {"moe_layer_start_index": 1, "moe_layer_end_index": 3}),
        ({"moe_layer_end_index": -1}, [(0, 2), (1, 3)], {"moe_layer_end_index": 3}),
        ({"moe_layer_end_index": 0}, [(0, 1), (0, 3)], {"moe_layer_end_index": 1}),
        ({"num_kv_shared_layers": 1}, [(0, 2), (1, 3)], {"num_kv_shared_layers": 1}),
        ({"num_kv_shared_layers": 2}, [(0, 2), (1, 3)], {"num_kv_shared_layers": 3}),
        ({"decoder_sparse_step": 1}, [(1, 2), (0, 3)], {"decoder_sparse_step": 1}),
        ({"n_layer": 3}, [(0, 2), (1, 3)], {"n_layer": 4}),
        ({"hybrid_override_pattern": "M-*"}, [(0, 2), (1, 3)], {"hybrid_override_pattern": "M--*"}),
    ],
)  # fmt: skip
def test_what_the_config_says_of_each_layer(given, ranges, written, tmp_path):
    model = listed(tmp_path, a=dict(given))["a"]
    config = config_of(stack(tmp_path / "out", *((model, *r) for r in ranges)))
    assert {k: config[k] for k in written} == written and config["num_hidden_layers"] == sum(b - a for a, b in ranges)


def beside_a_tower(tmp_path: Path, name: str, **more: Any) -> Path:
    """A language model inside of a larger one: what concerns its layers stands in text_config."""
    model = listed(tmp_path, **{name: {}})[name]
    text = {"num_hidden_layers": 3, "layer_types": ["a", "b", "c"], "mlp_only_layers": [1]}
    tower = {"num_hidden_layers": 3, "layer_types": ["x", "y", "z"]}
    (model / "config.json").write_text(json.dumps({"text_config": text, "vision_config": tower} | more))
    return model


@pytest.mark.parametrize("outer", [{}, {"num_hidden_layers": 3, "layer_types": ["top", "of", "it"]}])
def test_what_the_config_of_a_language_model_beside_a_tower_says(outer, tmp_path):
    model = beside_a_tower(tmp_path, "a", **outer)
    given = config_of(model)
    config = config_of(stack(tmp_path / "out", (model, 0, 2), (model, 1, 3)))
    text = config["text_config"]
    assert (text["num_hidden_layers"], text["layer_types"], text["mlp_only_layers"]) == (4, [*"abbc"], [1, 2])
    assert config["vision_config"] == given["vision_config"]
    assert config.get("layer_types") == outer.get("layer_types")
    assert config.get("num_hidden_layers") == (4 if outer else None)


def test_configs_of_language_models_beside_towers_that_do_not_fit(tmp_path):
    kinds = {"num_hidden_layers": 3, "layer_types": ["a", "b", "b"], "mlp_only_layers": [1]}
    a, b = beside_a_tower(tmp_path, "a"), beside_a_tower(tmp_path, "b", text_config=kinds)
    with pytest.raises(MergeError, match=r"By layer_types, layer 2 of .*/a is c and layer 2 of .*/b is b"):
        merged(tmp_path / "out", linear(a, b, [1, 3], [1, 3]))
    alone = listed(tmp_path, c={})["c"]
    with pytest.raises(MergeError, match=r"a says by layer_types what each layer is, and that of .*c does not"):
        stack(tmp_path / "out", (a, 0, 1), (alone, 0, 1))


@pytest.mark.parametrize(
    ("a", "b", "ranges", "message"),
    [
        ({}, {}, ("a", 0, 4), r"slices\[0\].sources\[0\].layer_range is \[0, 4\], but .*/a has 3 layers"),
        ({"num_hidden_layers": 0}, {}, ("a", 0, 1), "The layers of .*/a cannot be told, so they cannot be stacked"),
        ({"first_k_dense_replace": 1}, {}, ("a", 1, 3, "a", 0, 1), "layers at one end of .*/a are of another kind"),
        ({"sliding_window_pattern": 2}, {}, ("a", 1, 3), "By sliding_window_pattern: 2, layers of .*/a are"),
        ({"layer_types": [1, 2, 3]}, {"num_hidden_layers": 2}, ("a", 0, 2, "b", 0, 2), "says by layer_types"),
        ({"moe_layer_end_index": 1}, {}, ("a", 1, 3, "a", 1, 2), "layers at one end of .*/a are of another kind"),
        ({"num_kv_shared_layers": 1}, {}, ("a", 2, 3, "a", 0, 2), "layers at one end of .*/a are of another kind"),
        ({"hidden_size_per_layer_input": 4}, {}, ("a", 0, 2), "the embeddings of .*/a have a part for each layer"),
        ({}, {"layer_types": [1, 2, 3]}, ("a", 0, 2, "b", 0, 2), "b says by layer_types what .* and that of .*/a does"),
        ({}, {"quantization_config": {"quant_method": "gptq"}}, ("a", 0, 1, "b", 0, 1), "b is quantised"),
    ],
)  # fmt: skip
def test_stacks_that_cannot_be(a, b, ranges, message, tmp_path):
    models = listed(tmp_path, a=dict(a), b=dict(b))
    slices = [(models[ranges[i]], ranges[i + 1], ranges[i + 2]) for i in range(0, len(ranges), 3)]
    with pytest.raises(MergeError, match=message):
        stack(tmp_path / "out", *slices)
    assert not (tmp_path / "out").exists()


def test_what_only_the_config_of_a_later_model_says_may_go_where_it_makes_no_difference(tmp_path):
    models = listed(tmp_path, a={}, b={"layer_types": ["x", "y", "y"]})
    config = config_of(stack(tmp_path / "out", (models["a"], 0, 2), (models["b"], 1, 3)))
    assert config["num_hidden_layers"] == 4 and "layer_types" not in config


@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "wpe.weight", "word_embeddings.weight", "word_embeddings_layernorm.weight",
     "vision_tower.norm.weight"],
)  # fmt: skip
def test_what_comes_before_the_layers(name):
    assert BEFORE.search(name)


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "lm_head.weight", "embed_out.weight", "model.embedding_norm.weight", "ln_f.bias"]
)
def test_what_comes_after_the_layers(name):
    assert not BEFORE.search(name)


def linear(a: Path, b: Path, of_a: list[int], of_b: list[int]) -> dict[str, Any]:
    sources = [{"model": str(m), "layer_range": r} for m, r in ((a, of_a), (b, of_b))]
    return {"merge_method": "linear", "slices": [{"sources": sources}], "parameters": {"weight": 1}}


def test_layers_that_differ_in_their_tensors(tmp_path):
    more = {"model.layers.2.gate.weight": torch.ones(2, 2)}
    models = listed(tmp_path, a={}, b={"tensors": more}, c={"tensors": {"model.layers.0.up.weight": torch.ones(4, 5)}})
    with pytest.raises(
        MergeError, match=r"layer 1 of .*/a and layer 2 of .*/b do not have .* has 'gate.weight' besides"
    ):
        merged(tmp_path / "out", linear(models["a"], models["b"], [0, 2], [1, 3]))
    with pytest.raises(MergeError, match=r"'up.weight' is \(4, 4\) in layer 0 of .*/a but \(4, 5\) in layer 0 of .*/c"):
        merged(tmp_path / "out", linear(models["a"], models["c"], [0, 1], [0, 1]))


def test_layers_of_different_kinds_are_not_merged(tmp_path):
    models = listed(tmp_path, a={"layer_types": ["x", "y", "y"]}, b={"layer_types": ["x", "y", "x"]})
    merged(tmp_path / "fine", linear(models["a"], models["b"], [0, 2], [0, 2]))
    with pytest.raises(MergeError, match=r"By layer_types, layer 2 of .*/a is y and layer 2 of .*/b is x"):
        merged(tmp_path / "out", linear(models["a"], models["b"], [1, 3], [1, 3]))


def test_only_what_is_needed_is_read(tmp_path):
    """Of a model in the middle of a stack neither embeddings nor head are read, so they may differ."""
    a = listed(tmp_path, a={})["a"]
    wider = {name: torch.ones(9, 4) for name in ("lm_head.weight", "model.embed_tokens.weight")}
    b = listed(tmp_path, b={"tensors": wider, "vocab_size": 9})["b"]
    ranges = ((a, [0, 1]), (b, [1, 3]), (a, [2, 3]))
    slices = [{"sources": [{"model": str(m), "layer_range": r}]} for m, r in ranges]
    recipe = parse_recipe(json.dumps({"merge_method": "passthrough", "slices": slices}))
    found = check(recipe, opened(recipe), out=tmp_path / "out")
    assert found.plan and found.plan.read_bytes == 4 * (4 * 16 + 2 * 32 + 4)
    assert not [f for f in found.findings if f.id in ("different-sizes", "different-shapes", "cannot-plan")]
    told = next(f for f in found.findings if f.id == "stack")
    assert told.title == "The merge has 4 layers, in 3 slices." and told.values == ("layers 0, 2", "layers 1 to 2")


def test_the_card_says_where_layers_come_from(tmp_path):
    model = listed(tmp_path, a={})["a"]
    card = (stack(tmp_path / "out", (model, 0, 2), (model, 2, 3), (model, 1, 3)) / "README.md").read_text()
    assert "Its 5 layers, counted from 0" in card
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in card.splitlines() if line.startswith("| ")]
    assert [r for r in rows if "`a`" in r[1]] == [["0 to 1", "`a` 0 to 1"], ["2", "`a` 2"], ["3 to 4", "`a` 1 to 2"]]
    assert "layer_range" in card and str(tmp_path) not in card
