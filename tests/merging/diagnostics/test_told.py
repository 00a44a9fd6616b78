"""What is told of a diagnosis: files, advice, histograms, roles."""

import csv
import io
import re

import pytest
import torch

from merging.diagnostics import advise, from_json, to_csv, to_json
from merging.diagnostics.entries import histogram, read_entries
from merging.errors import MergeError
from merging.figures import histogram_sentence
from merging.roles import role_of
from tests.merging.diagnostics.diagnosed import made, noise, run
from tests.merging.models import fine_tunes, opened, recipe_of


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
    for method in ("dare_ties", "sce", "breadcrumbs"):  # which cut in other ways
        other = {} if method == "sce" else {"weight": 1.0, "density": 0.5}
        assert not any("trimming" in one.finding for one in advise(run(recipe_of(method, paths, path, **other))))


def test_what_no_model_changed_is_not_what_one_left_alone(tmp_path):
    """Two models that changed one half each: nothing is left for the method to leave alone."""
    base = noise({"a.weight": (40, 50)})
    tunes = [{"a.weight": base["a.weight"].clone()} for _ in range(2)]
    tunes[0]["a.weight"][:20] += 0.01
    tunes[1]["a.weight"][20:] += 0.01
    path, paths = made(tmp_path, base, tunes, config={})
    said = {}
    for method, more in (("task_arithmetic", {}), ("ties", {"density": 0.25})):
        recipe = recipe_of(method, paths, path, weight=1.0, **more)
        found = histogram(read_entries(recipe, opened(recipe), "a.weight"), method)
        assert found.untouched == 0 and found.zeros == (0.5, 0.5)
        said[method] = histogram_sentence(found)
    assert "moves every entry that a model moved" in said["task_arithmetic"]
    assert re.search(r"leaves \d+\.\d% of the entries as the base has them, where no model changed 0\.0%", said["ties"])


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
