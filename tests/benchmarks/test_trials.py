"""Merges of tiny models with our command line are measured, judged and removed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.agreement import judge, step
from benchmarks.cases import CASES, choose
from benchmarks.trials import OURS, Bench, try_floor, try_merge
from merging.recipe import parse_recipe
from tests.benchmarks.conftest import TINY


@pytest.fixture
def bench(family: Path, tmp_path: Path) -> Bench:
    return Bench(TINY, family, tmp_path, repeat=1, seconds=60)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_recipe_is_one(case, family):
    recipe = parse_recipe(case.recipe(family))
    assert recipe.method == case.method
    assert {i.model.path for i in recipe.models} <= {str(family / folder) for folder in case.folders}


def test_cases_are_chosen_by_name():
    assert [case.name for case in choose(["ties", "linear"])] == ["linear", "ties"]
    assert len(choose([])) == len(CASES)
    with pytest.raises(ValueError, match="'tyes' is not measured here"):
        choose(["tyes"])


@pytest.mark.parametrize("name", ["ties", "dare_ties"])
def test_a_merge_is_measured_and_right(name, bench):
    trial = try_merge(bench, CASES[name], OURS)
    assert trial.best.wall > 0.1
    assert trial.agreement.is_alike() if CASES[name].is_random else trial.agreement.is_exact()
    assert [p.name for p in bench.work.iterdir()] == [f"{name}.yaml"]
    assert try_floor(bench, CASES[name]).wall < trial.best.wall
    assert bench.moved_bytes(CASES[name]) == 5 * 2 * TINY.parameters


def test_an_output_that_is_another_merge_is_found_out(bench, tmp_path):
    out, model = tmp_path / "out", "model-00001-of-00001.safetensors"
    out.mkdir()
    tensors = load_file(bench.family / "chat" / model)
    save_file(tensors, out / "model.safetensors")
    assert judge(CASES["passthrough"], TINY, bench.family, out).most == 0
    assert not judge(CASES["linear"], TINY, bench.family, out).is_exact()
    assert not judge(CASES["dare_linear"], TINY, bench.family, out).is_alike()


def test_steps_are_those_of_bfloat16():
    one = torch.tensor([1.0, 1.5, 0.02], dtype=torch.bfloat16)
    after = (one.view(torch.int16) + 1).view(torch.bfloat16)
    assert torch.equal(step(one.double()), after.double() - one.double())
