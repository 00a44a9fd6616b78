"""Every number of a diagnosis beside a plain float64 computation, and beside what unrelated vectors show."""

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.budget import GRAIN
from merging.diagnostics import SHARES, advise, diagnose, from_json, to_csv, to_json
from merging.diagnostics.entries import histogram, read_entries
from merging.diagnostics.nulls import gaussian_energy
from merging.diagnostics.sampling import choose_entries
from merging.engine import Options, merge
from merging.errors import MergeError
from merging.hub import HubRepo, open_model
from merging.recipe import ModelRef, all_models, parse_recipe
from merging.roles import role_of
from tests.merging import reference_diagnosis as reference
from tests.merging.hubs import ANYONE
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

LAYERS = {"num_hidden_layers": 2, "tie_word_embeddings": True}
SHAPES = {
    "model.embed_tokens.weight": (300, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.mlp.up_proj.weight": (96, 64),
    "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.1.self_attn.q_proj.weight": (64, 64),
    "model.layers.1.mlp.up_proj.weight": (96, 64),
    "model.layers.1.input_layernorm.weight": (64,),
    "model.norm.weight": (64,),
}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def noise(shapes=SHAPES, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return {name: (torch.randn(shape, generator=g) * 0.02).to(dtype) for name, shape in shapes.items()}


def made(folder, base, tunes, *, shards=1, config=LAYERS):
    paths = [write_model(folder / f"tune-{i}", t, config, shards) for i, t in enumerate(tunes)]
    return write_model(folder / "base", base, config, shards), paths


def run(recipe, options=None, models=None, **given):
    steps = diagnose(recipe, models or opened(recipe), options, **given)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


@pytest.fixture(scope="module", params=["bf16", "f16", "f32", "mixed"])
def family(request, tmp_path_factory):
    """A base and three fine-tunes, with the same numbers as float64; some entries are not changed at all."""
    folder = tmp_path_factory.mktemp(request.param)
    base = noise(dtype=DTYPES.get(request.param, torch.bfloat16))
    tunes = fine_tunes(base, 3, by=0.001)
    for i, tune in enumerate(tunes):
        for tensor in tune.values():
            tensor.view(-1)[i::7] = next(b for n, b in base.items() if tune[n] is tensor).view(-1)[i::7]
    if request.param == "mixed":
        tunes[1] = {n: t.float() for n, t in tunes[1].items()}
        tunes[2] = {n: t.to(torch.float16) for n, t in tunes[2].items()}
    path, paths = made(folder, base, tunes, shards=2)
    plain = [{n: t.float().flatten().numpy() for n, t in m.items()} for m in (base, *tunes)]
    return path, paths, plain


def groups(plain):
    """Which tensors each part is made of, by its name."""
    names = list(plain[0])
    layer = {n: int(n.split(".")[2]) if "layers" in n else None for n in names}
    found = {"all tensors": names} | {n: [n] for n in names}
    for at in (0, 1):
        found[f"layer {at}"] = [n for n in names if layer[n] == at]
    for role in ("embeddings", "attention", "mlp", "norms"):
        found[role] = [n for n in names if role_of(n) == role]
        for at in (0, 1):
            found[f"layer {at}, {role}"] = [n for n in names if layer[n] == at and role_of(n) == role]
    return {name: tensors for name, tensors in found.items() if tensors}


def parts(diagnosis):
    levels = (diagnosis.whole, *diagnosis.tensors, *diagnosis.layers, *diagnosis.roles, *diagnosis.cells)
    return {part.name: part for part in levels}


def test_every_number_is_that_of_float64(family):
    path, paths, (base, *tunes) = family
    found = parts(run(recipe_of("task_arithmetic", paths, path, weight=0.5)))
    for name, tensors in groups([base, *tunes]).items():
        part = found[name]
        deltas = [reference.deltas_of(base[n], [t[n] for t in tunes]) for n in tensors]
        norm = math.sqrt(sum((base[n].astype(np.float64) ** 2).sum() for n in tensors))
        assert part.entries == part.looked == sum(base[n].size for n in tensors)
        for i, model in enumerate(part.models):
            mine = [d[i] for d in deltas]
            flat = np.concatenate(mine)
            assert model.size == pytest.approx(np.linalg.norm(flat) / norm, rel=1e-6)
            assert model.unchanged == (flat == 0).mean()
            assert model.kept == pytest.approx(sum((reference.kept(d, 0.2) != 0).sum() for d in mine) / flat.size)
            for share in reference.SHARES:
                assert model.energy[SHARES.index(share)] == pytest.approx(reference.energy(mine, share), rel=2**-7)
        for pair in part.pairs:
            right = reference.pair_numbers([d[pair.a] for d in deltas], [d[pair.b] for d in deltas], 0.2)
            assert pair.conflict_weighted == pytest.approx(right.pop("conflict_weighted"), rel=1e-8)
            for sums in ("cosine", "norm_ratio"):
                assert getattr(pair, sums) == pytest.approx(right.pop(sums), rel=1e-6, abs=1e-7), name
            assert {n: getattr(pair, n) for n in right} == pytest.approx(right, rel=1e-11, abs=1e-14), name
        moved = sum(((d * 0.5).sum(0) ** 2).sum() for d in deltas)
        assert part.merged == pytest.approx(math.sqrt(moved) / norm, rel=1e-6)
        apart = sum(((d * 0.5) ** 2).sum() for d in deltas)
        assert part.merged_null == pytest.approx(math.sqrt(apart) / norm, rel=1e-6)


@pytest.mark.parametrize("by", [1e-30, 1.0, 1e25])
def test_products_of_numbers_whose_squares_float32_does_not_have(tmp_path, by):
    base = {name: tensor * by for name, tensor in noise().items()}
    tunes = [{name: tensor + noise(seed=seed)[name] * by for name, tensor in base.items()} for seed in (1, 2)]
    pair = run(recipe_of("linear", made(tmp_path, base, tunes)[1], weight=1.0)).whole.pairs[0]
    x, y = (np.concatenate([tensor.double().flatten().numpy() for tensor in tune.values()]) for tune in tunes)
    assert pair.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-6)
    assert pair.distance == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x), rel=1e-6)


def test_energy_of_bfloat16_is_exact_where_differences_are(tmp_path):
    base = {"w": torch.full((4096,), 1.0, dtype=torch.bfloat16)}
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.05))
    found = run(recipe_of("task_arithmetic", paths, path, weight=1.0)).whole
    stored = [load_file(p / "model.safetensors")["w"].float().numpy() for p in (path, *paths)]
    deltas = reference.deltas_of(stored[0], stored[1:])
    for i in (0, 1):
        for at, share in enumerate(SHARES):
            assert found.models[i].energy[at] == pytest.approx(reference.energy([deltas[i]], share), rel=1e-12)


PLANNED: dict[str, dict[str, Any]] = {
    "linear": {"weight": 0.7}, "task_arithmetic": {"weight": [0.9, -0.4]}, "lines": {}, "wise_ft": {},
    "slerp": {"t": 0.3}, "ties": {"weight": 0.7, "density": 0.4}, "dare_linear": {"weight": 0.7, "density": 0.4},
    "tsv": {}, "della": {"weight": 0.7, "density": 0.4}, "model_stock": {}, "karcher": {},
}  # fmt: skip


@pytest.mark.parametrize("method", PLANNED)
def test_the_planned_merge_lies_where_it_will_lie(tmp_path, method):
    base = noise(dtype=torch.float32)
    path, paths = made(tmp_path, base, fine_tunes(base, 1 if method in ("wise_ft", "slerp") else 2, by=0.001))
    models = [path, *paths] if method in ("linear", "karcher") else paths  # they have no base of their own
    recipe = recipe_of(method, models, path, **PLANNED[method])
    found = run(recipe)
    for _ in merge(recipe, opened(recipe), tmp_path / "out"):
        pass
    out = load_file(tmp_path / "out" / "model.safetensors")
    moved = sum(((out[n].double() - base[n].double()) ** 2).sum().item() for n in base)
    norm = sum((t.double() ** 2).sum().item() for t in base.values())
    assert found.whole.merged == pytest.approx(math.sqrt(moved / norm), rel=1e-4)
    assert found.why_not_merged == ""


def test_whole_matrices_are_not_computed_of_a_part(tmp_path):
    base = noise({"a.weight": (600, 200), "b.weight": (8, 8)})
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), config={})
    found = run(recipe_of("tsv", paths, path))
    assert found.whole.merged is None and "tsv" in found.why_not_merged
    small = found.tensor("b.weight")
    assert small is not None and small.merged is not None


def test_a_patch_of_a_large_tensor_tells_the_distance_of_all_of_it(tmp_path):
    base = noise({"w.weight": (1000, 400)})
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), config={})
    recipe = recipe_of("ties", paths, path, weight=1.0, density=0.3)
    found = run(recipe)
    for _ in merge(recipe, opened(recipe), tmp_path / "out"):
        pass
    out = load_file(tmp_path / "out" / "model.safetensors")["w.weight"]
    right = (out.double() - base["w.weight"].double()).norm() / base["w.weight"].double().norm()
    assert found.whole.merged == pytest.approx(right.item(), rel=0.01)
    assert found.whole.merged_null == pytest.approx(found.whole.merged, rel=0.01)  # they are unrelated


def test_the_same_bits_for_any_threads_and_memory(tmp_path):
    shapes = {"model.layers.0.mlp.up_proj.weight": (3 * GRAIN + 17,), "model.norm.weight": (5,)}
    base = noise(shapes, dtype=torch.bfloat16)
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), config={})
    recipe = recipe_of("ties", paths, path, weight=1.0)
    found = run(recipe, Options(threads=1))
    assert found == run(recipe, Options(threads=3, memory_bytes=100_000_000))
    assert found == run(recipe, Options(threads=2, memory_bytes=45_000_000))


# What unrelated vectors show.


def test_the_null_values_are_what_random_vectors_show(tmp_path):
    base = noise({"w.weight": (1000, 600)})
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), config={})
    whole = run(recipe_of("task_arithmetic", paths, path, weight=1.0)).whole
    (pair,) = whole.pairs
    assert abs(pair.cosine or 1) < 4 * whole.cosine_spread == 4 / math.sqrt(600_000)
    assert pair.norm_ratio == pytest.approx(1, abs=0.01)
    assert pair.conflict == pytest.approx(0.5, abs=0.003)
    assert pair.conflict_weighted == pytest.approx(0.5, abs=0.003)
    assert pair.trimmed_both == pytest.approx(0.04, rel=0.03) == pytest.approx(pair.trimmed_both_null, rel=0.03)
    assert pair.trimmed_conflict == pytest.approx(0.02, rel=0.03) == pytest.approx(pair.trimmed_conflict_null, rel=0.03)
    assert whole.merged == pytest.approx(whole.merged_null, rel=0.005)
    for model in whole.models:
        for share, energy in zip(SHARES, model.energy, strict=True):
            assert energy == pytest.approx(gaussian_energy(share), rel=0.03)


def test_gaussian_energy_is_that_of_the_literature():
    told = [round(100 * gaussian_energy(share), 1) for share in (0.01, 0.05, 0.1, 0.2, 0.5)]
    assert told == [8.4, 27.9, 43.9, 65.0, 92.9]
    assert (gaussian_energy(0), gaussian_energy(1)) == (0, 1)


# Models that are not as one expects.


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
    assert any("same in every entry" in advice.finding for advice in advise(found))


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


# Without a base, and with layers stacked anew.


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


# A sample.


class Counting:
    """A source that counts the bytes that are read of it."""

    def __init__(self, source):
        self.source, self.read_bytes = source, 0

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read_into(self, file, start, into):
        self.read_bytes += len(into)
        self.source.read_into(file, start, into)


def test_a_sample_reads_no_more_than_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr("merging.diagnostics.diagnosis.SAMPLE_BYTES", 400_000)
    base = noise({f"model.layers.{i}.mlp.up_proj.weight": (400, 300) for i in range(2)} | {"model.norm.weight": (300,)},
                 dtype=torch.bfloat16)  # fmt: skip
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001))
    recipe = recipe_of("ties", paths, path, weight=1.0, density=0.3)
    whole = run(recipe)
    counted: dict[Any, Any] = {ref: replace(c, source=Counting(c.source)) for ref, c in opened(recipe).items()}
    found = run(recipe, models=counted, sample=True)
    read = [c.source.read_bytes for c in counted.values()]
    assert max(read) <= 400_000 and sum(read) == found.read_bytes > 800_000
    assert found.is_sample and 0.5 < found.looked_share < 0.9
    assert found == run(recipe, sample=True) == run(recipe, Options(threads=1), sample=True)
    assert found.tensor("model.norm.weight").looked == 300  # small ones are read whole
    assert found.whole.entries == whole.whole.entries
    for mine, right in zip(found.whole.models, whole.whole.models, strict=True):
        assert mine.size == pytest.approx(right.size, rel=0.02)
        assert mine.energy == pytest.approx(right.energy, rel=0.05)
    assert found.whole.merged == pytest.approx(whole.whole.merged, rel=0.02)


def test_a_sample_of_small_models_is_all_of_them(family):
    path, paths, _ = family
    recipe = recipe_of("ties", paths, path, weight=1.0)
    whole, sample = run(recipe), run(recipe, sample=True)
    assert replace(sample, is_sample=False) == whole and sample.looked_share == 1


def test_samples_lie_inside_and_apart():
    for shape, wanted in [((1000, 64), 9000), ((1_000_000,), 70_000), ((17,), 16), ((5, 7), 6), ((70_001, 3), 140_000)]:
        sample = choose_entries(shape, wanted)
        ends = [0, *(place for stretch in sample.stretches for place in stretch), math.prod(shape)]
        assert ends == sorted(ends) and sample.count == math.prod(sample.shape) <= wanted
    assert choose_entries((4, 5), 20).shape == (4, 5) and choose_entries((), 1).shape == ()


# What is made of it.


def test_json_and_csv_hold_every_number(family):
    path, paths, _ = family
    found = run(recipe_of("ties", paths, path, weight=1.0, density=0.3))
    assert found.keep == 0.3 and from_json(to_json(found)) == found
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert {row["level"] for row in rows} == {"whole", "roles", "layers", "cells", "tensors"}
    size = next(r for r in rows if r["quantity"] == "size" and r["level"] == "whole" and r["model"] == str(paths[1]))
    assert float(size["value"]) == found.whole.models[1].size
    conflict = [r for r in rows if r["quantity"] == "conflict" and r["level"] == "roles" and r["role"] == "mlp"]
    assert [float(r["value"]) for r in conflict] == [p.conflict for p in found.roles[2].pairs]
    assert {r["null"] for r in conflict} == {"0.5"}


def test_advice_has_reasons_and_sources(tmp_path):
    base = noise()
    path, paths = made(tmp_path, base, [*fine_tunes(base, 1, by=0.0001), *fine_tunes(base, 1, by=0.008)])
    found = advise(run(recipe_of("dare_ties", paths, path, weight=1.0, density=0.5)))
    told = " ".join(advice.finding for advice in found)
    assert "over 20%" in told and "times as long" in told and "farther than any" in told and "merges 2" in told
    assert all(a.why and (a.source.startswith("https://arxiv.org/abs/") or a.source == "arithmetic") for a in found)
    calm = recipe_of("task_arithmetic", paths[:1], path, weight=0.5)
    assert advise(run(calm)) == ()


def test_a_cut_at_zero_is_told(tmp_path):
    base = noise(dtype=torch.bfloat16)
    tunes = [{n: t.clone() for n, t in base.items()} for _ in range(2)]
    for tune in tunes:
        for tensor in tune.values():
            tensor.view(-1)[::20] *= 2
    path, paths = made(tmp_path, base, tunes)
    found = run(recipe_of("ties", paths, path, weight=1.0, density=0.2))
    assert found.whole.models[0].kept == pytest.approx(0.05, abs=0.005)
    assert any("removes next to nothing" in advice.finding for advice in advise(found))


def test_histogram_before_and_after(tmp_path):
    base = noise()
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001))
    recipe = recipe_of("ties", paths, path, weight=1.0, density=0.1)
    name = "model.layers.0.mlp.up_proj.weight"
    entries = read_entries(recipe, opened(recipe), name)
    found = histogram(entries, recipe.method)
    assert found.after is not None and found.zeros_after is not None
    assert found.looked == found.entries == 96 * 64 and found.models == ("tune-0", "tune-1")
    for row, zeros in zip((*found.before, found.after), (*found.zeros, found.zeros_after), strict=True):
        assert sum(row) + zeros == pytest.approx(1)
    assert 0.78 < found.zeros_after < 0.85  # two models keep a tenth each
    few = read_entries(recipe, opened(recipe), name, 64)
    assert few.wide.shape == (3, 64) and few.merged is not None
    with pytest.raises(MergeError, match=r"no tensor 'model.layers.0.mlp.up'.* Did you mean"):
        read_entries(recipe, opened(recipe), "model.layers.0.mlp.up")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("transformer.wte.weight", "embeddings"),
        ("model.layers.3.self_attn.q_norm.weight", "norms"),
        ("model.layers.3.post_attention_layernorm.weight", "norms"),
        ("transformer.h.0.ln_1.weight", "norms"),
        ("model.layers.3.self_attn.o_proj.weight", "attention"),
        ("gpt_neox.layers.0.attention.query_key_value.weight", "attention"),
        ("transformer.h.0.attn.c_attn.weight", "attention"),
        ("model.layers.3.block_sparse_moe.experts.2.w1.weight", "mlp"),
        ("transformer.h.0.mlp.c_fc.weight", "mlp"),
        ("lm_head.weight", "head"),
        ("backbone.layers.0.mixer.A_log", "other"),
    ],
)
def test_roles(name, role):
    assert role_of(name) == role


# On the Hub.


def test_models_on_the_hub_give_the_same_numbers(tmp_path, server, monkeypatch):
    shapes = {f"model.layers.{i}.mlp.up_proj.weight": (700, 1000) for i in range(2)} | {"model.norm.weight": (9,)}
    base = noise(shapes, dtype=torch.bfloat16)
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), shards=2)
    ids = {folder: f"ada/{folder.name}-diagnosed" for folder in (path, *paths)}
    for folder, repo in ids.items():
        server.store.create_repo(repo)
        server.store.commit(repo, {file.name: file.read_bytes() for file in folder.iterdir()})
    local = recipe_of("ties", paths, path, weight=1.0, density=0.3)
    remote = replace(
        local, base=ModelRef(ids[path]),
        models=tuple(replace(one, model=ModelRef(ids[p])) for one, p in zip(local.models, paths, strict=True)),
    )  # fmt: skip
    monkeypatch.setattr("merging.diagnostics.diagnosis.SAMPLE_BYTES", 300_000)
    for options, sample in ((Options(), False), (Options(memory_bytes=45_000_000), False), (Options(), True)):
        opened_there = {ref: open_model(ref, ANYONE) for ref in all_models(remote)}
        headers = {ref: received(model) for ref, model in opened_there.items()}
        there, here = run(remote, options, opened_there, sample=sample), run(local, options, sample=sample)
        assert replace(there, reference=here.reference, models=here.models) == here
        assert there.models == tuple(ids[p] for p in paths)
        for ref, model in opened_there.items():
            assert 0 < received(model) - headers[ref] <= (300_000 if sample else 12_000_000)
            model.source.close()


def received(model):
    return cast(HubRepo, model.source).received_bytes
