"""A merge in memory has the bits of the one that the engine writes, whatever was merged before it."""

import errno
import shutil
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.cuda import Gpu
from merging.engine import Options, merge
from merging.errors import MergeError
from merging.held import load, load_at_once, steps_of
from merging.live import LiveMerge, Superseded, need_of, plan_live, why_not_live
from merging.methods import METHODS
from merging.recipe import parse_recipe, to_yaml
from tests.merging.kernels import REQUIRED, noise
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

# Several grains, tensors of one and no dimension, empty ones, whole numbers, layers for gradients.
SIZES = {
    "model.embed_tokens.weight": (1500, 201),
    "model.layers.0.mlp.weight": (700, 300),
    "model.layers.0.norm.weight": (33,),
    "model.layers.1.mlp.weight": (300, 700),
    "model.layers.1.norm.weight": (33,),
    "one": (1,),
    "none": (0, 3),
}
WHOLE_MATRICES = ("tsv", "iso_c", "iso_cts")


def family_of(folder, dtype):
    base = {n: (noise(*s, seed=i) * 0.02).to(dtype) for i, (n, s) in enumerate(SIZES.items())}
    base["steps"] = torch.arange(7)
    tunes = {f"tune{i}": tensors for i, tensors in enumerate(fine_tunes(base, 2, by=0.001))}
    for name, tensors in ({"base": base} | tunes).items():
        write_model(folder / name, tensors, {"num_hidden_layers": 2})
    return folder


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """A base and two fine-tunes, in each type of weights."""
    types = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    return {name: family_of(tmp_path_factory.mktemp(name), dtype) for name, dtype in types.items()}


@pytest.fixture(scope="module")
def family(families):
    return families["BF16"]


def recipe_for(family, method, **parameters):
    declared = METHODS[method]
    tunes = [family / f"tune{i}" for i in range(min(2, declared.max_models or 2))]
    given = {p.name: REQUIRED[p.name] for p in declared.params if p.default is None}
    density = {"density": 0.3} if declared.param("density") else {}
    return recipe_of(method, tunes, family / "base" if declared.needs_base else None, **given | density | parameters)


def with_filter(recipe):
    return parse_recipe(to_yaml(recipe).replace("density: 0.3", "density: [{filter: mlp, value: 0.2}, {value: 0.8}]"))


def written(recipe, out):
    """What the engine writes: the bytes of every tensor."""
    shutil.rmtree(out, ignore_errors=True)
    list(merge(recipe, opened(recipe), out, Options(threads=2)))
    return {n: t.reshape(-1).view(torch.uint8).numpy() for n, t in load_file(out / "model.safetensors").items()}


def in_memory(recipe, disk=None):
    """The merge of a recipe's models, with room for what it makes."""
    plan = plan_live(recipe, opened(recipe))
    loading = load(plan, opened(recipe), disk)
    try:
        while True:
            next(loading)
    except StopIteration as done:
        return LiveMerge(done.value, threads=2)


def made(live, recipe, into=None):
    plan = live.plan(recipe)
    into = into or {s.name: np.full(s.end - s.start, 255, np.uint8) for s in steps_of(plan)}
    live.merge(recipe, plan, into)
    return into


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [n for n in found if not np.array_equal(found[n], expected[n])] == []


def others(method):
    """Settings to move to, one after the other and back again: as sliders do."""
    declared = METHODS[method]
    moves: list[dict[str, Any]] = []
    for p in declared.params:
        if p.type is bool:
            moves.append({p.name: not p.default})
        elif p.name in ("weight", "scale"):
            moves += [{p.name: [0.25, 0.6][: min(2, declared.max_models or 2)]}, {p.name: [[0.2, 0.9], 0.5][:2]}]
        elif p.range and p.type is float:
            low, high = p.range.low, p.range.high
            moves.append({p.name: low + (0.4 if high - low <= 1 else 0.15) * (high - low)})
    return moves


def moved(family, method):
    """The recipes after each of these moves, but for settings that do not go together."""
    recipes = []
    for move in others(method):
        with suppress(MergeError):
            recipes.append(recipe_for(family, method, **move))
    return recipes


OTHER_TYPES = ("linear", "task_arithmetic", "slerp", "ties", "dare_ties")
MERGES = [("BF16", m) for m in METHODS if m not in WHOLE_MATRICES]
MERGES += [(dtype, m) for dtype in ("F16", "F32") for m in OTHER_TYPES]


@pytest.mark.parametrize(("dtype", "method"), MERGES)
def test_the_same_bits_as_the_engine_after_any_move(dtype, method, families, tmp_path):
    family = families[dtype]
    first = recipe_for(family, method)
    live = in_memory(first)
    into = made(live, first)
    assert_same(into, written(first, tmp_path / "out"))
    moves = moved(family, method)
    assert moves or not METHODS[method].params
    for recipe in moves:
        assert_same(made(live, recipe, into), written(recipe, tmp_path / "out"))
    assert_same(made(live, first, into), written(first, tmp_path / "out"))
    live.close()


def test_another_method_dtype_seed_or_fewer_models_from_the_same_memory(family, tmp_path):
    first = recipe_for(family, "dare_ties")
    with closing(in_memory(first)) as live:
        for recipe in (
            with_filter(recipe_for(family, "ties")),
            recipe_for(family, "dare_linear", seed=7),
            recipe_for(family, "task_arithmetic", out_dtype="float16"),
            recipe_of("slerp", [family / "tune0"], family / "base", t=0.4),
            recipe_of("linear", [family / "tune1", family / "tune0"], weight=[0.2, 0.7]),
        ):
            assert_same(made(live, recipe), written(recipe, tmp_path / "out"))


@pytest.mark.parametrize("method", [m for m in METHODS if m not in WHOLE_MATRICES])
def test_what_a_gpu_merges_in_its_memory_has_the_bits_that_the_engine_has_from_it(
    method, family, tmp_path, monkeypatch
):
    """Torch's CPU stands in where there is no GPU. Models that leave it are merged as ever."""
    first, gpu = recipe_for(family, method), Gpu("cpu")
    expected = written(first, tmp_path / "out")
    plan = plan_live(first, opened(first))
    with closing(LiveMerge(load_at_once(plan, opened(first), gpu), threads=2)) as live:
        into = {s.name: gpu.own(s.end - s.start) for s in steps_of(plan)}
        monkeypatch.setattr("merging.engine.choose_device", lambda asked: gpu)
        for recipe in (first, *moved(family, method)[-1:]):
            made(live, recipe, into)
            assert_same({name: np.asarray(one) for name, one in into.items()}, written(recipe, tmp_path / "out"))
        live.leave_gpu()
        assert_same(made(live, first), expected)


def test_models_on_disk_give_the_same_bits_and_leave_nothing(family, tmp_path):
    disk, first = tmp_path / "disk", recipe_for(family, "ties")
    disk.mkdir()
    with closing(in_memory(first, disk)) as live:
        assert live.held.on_disk and not list(disk.iterdir())
        for recipe in (first, recipe_for(family, "ties", density=0.6), recipe_for(family, "task_arithmetic")):
            assert_same(made(live, recipe), written(recipe, tmp_path / "out"))


def test_a_disk_without_room_is_said(family, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(MergeError, match=r"The disk has no room for [\d,]+ bytes of models \(No space left"):
        in_memory(recipe_for(family, "ties"), tmp_path)


def test_models_of_several_types_are_merged_as_the_engine_does(families, tmp_path):
    models = [families["F16"] / "tune0", families["F32"] / "tune1"]
    recipe = recipe_of("task_arithmetic", models, families["BF16"] / "base", weight=[0.4, 0.3], out_dtype="bfloat16")
    with closing(in_memory(recipe)) as live:
        assert_same(made(live, recipe), written(recipe, tmp_path / "out"))


@pytest.mark.parametrize(("dtype", "lower"), [("F32", 1), ("BF16", 0)])  # whose changes end in zeros
def test_a_new_lambda_looks_at_nothing_again_and_a_new_density_at_lower_halves(families, monkeypatch, dtype, lower):
    family = families[dtype]
    first = recipe_for(family, "ties")
    with closing(in_memory(first)) as live:
        passes = counted_looks(monkeypatch)
        made(live, first)
        assert len(passes) == 1 + lower  # upper halves, lower halves
        passes.clear()
        made(live, recipe_for(family, "ties", weight=[0.1, 0.9]))
        made(live, recipe_for(family, "ties", weight=[0.1, 0.9], **{"lambda": 0.5}))
        assert passes == []
        made(live, recipe_for(family, "ties", density=0.6))
        assert len(passes) == lower
        passes.clear()
        made(live, recipe_for(family, "ties", density=0.3, weight=[0.3, 0.3]))
        assert passes == []


MEASURED = [m for m in METHODS if METHODS[m].measure and m not in WHOLE_MATRICES]
LAMBDAS = ("weight", "lambda", "scale", "t", "r", "alpha")  # what a person moves while they listen


def counted_looks(monkeypatch):
    """How many tensors are looked at in each pass from now on."""
    looks: list[int] = []
    look = LiveMerge.look

    def counting(self, asked, stopped):
        looks.extend([len(asked)] if asked else [])
        return look(self, asked, stopped)

    monkeypatch.setattr(LiveMerge, "look", counting)
    return looks


@pytest.mark.parametrize("method", MEASURED)
def test_what_was_measured_once_is_not_measured_again(method, family, monkeypatch):
    """Nor is anything for a new lambda, which is what people move."""
    first = recipe_for(family, method)
    with closing(in_memory(first)) as live:
        looks = counted_looks(monkeypatch)
        made(live, first)
        looks.clear()
        for move in (one for one in others(method) if set(one) & set(LAMBDAS)):
            made(live, recipe_for(family, method, **move))
            assert looks == [], move
        for recipe in moved(family, method):
            made(live, recipe)
        looks.clear()
        for recipe in (first, *moved(family, method)):
            made(live, recipe)
        assert looks == []


def test_a_merge_that_is_not_wanted_any_more_ends_and_the_next_one_is_right(family, tmp_path):
    recipe = recipe_for(family, "task_arithmetic")
    with closing(in_memory(recipe)) as live:
        plan = live.plan(recipe)
        into = {s.name: np.zeros(s.end - s.start, np.uint8) for s in steps_of(plan)}
        with pytest.raises(Superseded):
            live.merge(recipe, plan, into, lambda: True)
        assert_same(made(live, recipe, into), written(recipe, tmp_path / "out"))


def test_whole_matrices_are_not_live_and_it_says_what_to_do(family):
    with closing(in_memory(recipe_for(family, "task_arithmetic"))) as live:
        for method in WHOLE_MATRICES:
            with pytest.raises(MergeError, match=r"follow a slider\. Merge it"):
                live.plan(recipe_for(family, method))


def test_a_method_is_not_live_where_it_takes_too_long(family):
    recipe = recipe_for(family, "della")
    plan = plan_live(recipe, opened(recipe))
    assert why_not_live(recipe, plan, 2) == ""
    larger = replace(plan, shards=tuple(replace(shard, steps=shard.steps * 5000) for shard in plan.shards))
    assert "DELLA would take about" in why_not_live(recipe, larger, 2)


def test_models_that_were_not_loaded_are_named(family):
    one = recipe_of("linear", [family / "tune0"], weight=[1.0])
    with closing(in_memory(one)) as live, pytest.raises(MergeError, match=r"tune1 is not in memory\. Load"):
        live.plan(recipe_of("linear", [family / "tune0", family / "tune1"], weight=[1.0, 1.0]))


def test_numbers_that_are_not_finite_are_refused_while_reading(family, tmp_path):
    tensors = load_file(family / "tune0" / "model.safetensors")
    tensors["model.layers.1.mlp.weight"][3, 5] = float("nan")
    write_model(tmp_path / "broken", tensors, {"num_hidden_layers": 2})
    recipe = recipe_of("task_arithmetic", [tmp_path / "broken"], family / "base", weight=[1.0])
    with pytest.raises(MergeError, match=r"'model\.layers\.1\.mlp\.weight' of .*broken has 1 number.* index 2,105"):
        in_memory(recipe)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])  # with stored numbers, and with float32 in between
def test_numbers_that_do_not_fit_the_type_are_refused(method, tmp_path):
    x = torch.zeros(9_000_000, dtype=torch.bfloat16)  # more than a thread takes at a time
    base = write_model(tmp_path / "base", {"x": x})
    tune = write_model(tmp_path / "tune", {"x": x.index_fill(0, torch.tensor([200_000, 8_900_000]), 1000.0)})
    fits = recipe_of(method, [tune], base, weight=[60.0], out_dtype="float16", normalize=False)
    with closing(in_memory(fits)) as live:
        assert_same(made(live, fits), written(fits, tmp_path / "out"))
        told = r"70000 when .* than F16 holds: it would have 2 numbers that are infinite, the first at index 200,000\."
        with pytest.raises(MergeError, match=told):
            made(live, recipe_of(method, [tune], base, weight=[70.0], out_dtype="float16", normalize=False))


def test_what_it_takes_is_known_before_it_is_read(family):
    recipe = recipe_for(family, "task_arithmetic")
    need = need_of(plan_live(recipe, opened(recipe)), threads=2)
    stored = [t for t in load_file(family / "base" / "model.safetensors").values() if t.numel()]
    assert need.merge == sum(t.nbytes for t in stored)
    assert 3 * need.merge <= need.models <= 3 * (need.merge + 64 * len(stored))
    with closing(in_memory(recipe)) as live:
        assert len(live.held.memory) == need.models


def test_what_a_measure_found_is_forgotten_when_it_takes_too_much(family, tmp_path):
    recipe = recipe_for(family, "ties")
    with closing(in_memory(recipe)) as live:
        live.recall.limit_bytes = 1
        for density in (0.3, 0.6, 0.3):
            again = recipe_for(family, "ties", density=density)
            assert_same(made(live, again), written(again, tmp_path / "out"))
        assert len(live.recall.totals) == 1
