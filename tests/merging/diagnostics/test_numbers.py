"""Every number of a diagnosis beside a plain float64 computation, and beside what unrelated vectors show."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.budget import GRAIN
from merging.diagnostics import SHARES
from merging.diagnostics.nulls import gaussian_energy
from merging.engine import Options, merge
from merging.roles import role_of
from tests.merging.diagnostics import reference
from tests.merging.diagnostics.diagnosed import made, noise, run
from tests.merging.models import fine_tunes, opened, recipe_of


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
            assert pair.conflict_weighted == pytest.approx(right.pop("conflict_weighted"), rel=1e-6)
            a, b = (np.concatenate([d[i] for d in deltas]) for i in (pair.a, pair.b))
            assert pair.distance == pytest.approx(np.linalg.norm(a - b) / norm, rel=1e-6)
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


def test_of_a_large_tensor_magnitudes_are_counted_in_part(tmp_path, monkeypatch):
    base = noise({"w.weight": (1000, 601)}, dtype=torch.bfloat16)
    for column in range(0, 601, 50):
        base["w.weight"][:, column] *= 30  # changes are larger there, in every row
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.004), config={})
    recipe = recipe_of("ties", paths, path, weight=1.0)
    right = run(recipe).whole
    monkeypatch.setattr("merging.diagnostics.look.COUNTED", 600_000)
    found = run(recipe, Options(threads=1))
    assert found == run(recipe, Options(threads=2, memory_bytes=45_000_000))
    part, (pair,) = found.whole, found.whole.pairs
    assert part.models[0].energy != right.models[0].energy  # or nothing was left out
    for mine, all_of_it in zip(part.models, right.models, strict=True):
        assert (mine.size, mine.unchanged) == (all_of_it.size, all_of_it.unchanged)
        assert mine.energy == pytest.approx(all_of_it.energy, rel=0.04)
        assert mine.kept == pytest.approx(all_of_it.kept, abs=0.005)
    assert (pair.cosine, pair.conflict) == (right.pairs[0].cosine, right.pairs[0].conflict)
    assert pair.trimmed_conflict == pytest.approx(right.pairs[0].trimmed_conflict, abs=0.001)


def test_gaussian_energy_is_that_of_the_literature():
    told = [round(100 * gaussian_energy(share), 1) for share in (0.01, 0.05, 0.1, 0.2, 0.5)]
    assert told == [8.4, 27.9, 43.9, 65.0, 92.9]
    assert (gaussian_energy(0), gaussian_energy(1)) == (0, 1)
