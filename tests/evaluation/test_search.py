"""Searches that find what is there, go on where they stopped, and see the validation set alone."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from evaluation.bench import Bench
from evaluation.dials import dials_of, turned, values_in
from evaluation.examine import at_once
from evaluation.held_out import parse_held_out, split
from evaluation.objective import Objective
from evaluation.search import Budget, Found, Search, Trial, ask, pareto, run_search, studied, trials_of
from merging.errors import MergeError
from merging.recipe import parse_recipe, settings_for, to_yaml
from tests.evaluation.conftest import few, opened, ref
from tests.evaluation.made_up import Fake, mark

ROOT = Path(__file__).parents[2]
RECIPE = """
merge_method: task_arithmetic
base_model: o/base
models:
  - {model: o/x, parameters: {weight: 1.0}}
  - {model: o/y, parameters: {weight: 1.0}}
"""
PARTS = split(few(4, "reverse", "add"))


def recipe(text=RECIPE):
    return parse_recipe(text)


def bowl(subject):
    """Best where x is 0.3 and y is 0.8."""
    x, y = settings_for(subject.recipe, "w")["weight"]
    return [mark((x - 0.3) ** 2 + 0.01, "reverse"), mark((y - 0.8) ** 2 + 0.01, "add")]


def search(**more):
    return Search(recipe(), dials_of(recipe()), **more)


def run(what, storage, trials, examine=None):
    return at_once(run_search(what, PARTS.validation, examine or Fake(bowl), storage, Budget(trials)))


@pytest.mark.parametrize("sampler", ["tpe", "cma-es"])
def test_it_comes_near_the_best_and_is_never_worse_than_what_was_given(sampler, tmp_path):
    found = run(search(sampler=sampler), tmp_path / "t.sqlite", 30)
    assert found.trials[0].values == (1.0, 1.0) and found.best.value <= found.trials[0].value
    assert found.best.value < 0.05
    assert settings_for(found.recipe, "w")["weight"] == found.best.values


def test_a_grid_has_every_point_and_ends(tmp_path):
    what = search(sampler="grid", steps=3)
    found = run(what, tmp_path / "t.sqlite", 100)
    grid = [(x, y) for x in (0, 0.6, 1.2) for y in (0, 0.6, 1.2)]
    assert [trial.values for trial in found.trials] == [(1.0, 1.0), *grid]  # what the recipe has is tried first
    assert found.best.values == (0.0, 0.6)


@pytest.mark.parametrize("sampler", ["grid", "tpe", "cma-es"])
def test_a_search_that_is_stopped_goes_on(sampler, tmp_path):
    """Stopped in the middle of its third trial, as Ctrl-C does it, then killed without a word in its fourth."""
    what, storage, examine = search(sampler=sampler), tmp_path / "t.sqlite", Fake(bowl)

    def interrupted(subject, held_out):
        if len(examine.asked) == 2:
            examine.asked.append(None)
            raise KeyboardInterrupt
        return (yield from examine(subject, held_out))

    with suppress(KeyboardInterrupt):
        run(what, storage, 6, interrupted)
    earlier = run(what, storage, 2).trials
    assert len(earlier) == 2

    with studied(what, PARTS.validation, storage) as study:
        ask(study, what, trials_of(study))  # under way, and never told how it ended
    again = Fake(bowl)
    found = run(what, storage, 6, again)
    assert found.trials[:2] == earlier and found.earlier == 2
    assert len(found.trials) == 6 and len(again.asked) == 4
    assert len({trial.values for trial in found.trials}) == 6


UNDER_WAY = """
import sys
from pathlib import Path
from evaluation.dials import dials_of
from evaluation.held_out import parse_held_out
from evaluation.scoring import Scoring
from evaluation.search import Budget, Search, run_search
from merging.recipe import parse_recipe

recipe = parse_recipe(sys.argv[2])
steps = run_search(Search(recipe, dials_of(recipe)), parse_held_out(sys.argv[3], "set"),
                   lambda subject, held_out: (yield Scoring(0, 1)), Path(sys.argv[1]), Budget(6))
next(steps)
print("under way", flush=True)
sys.stdin.read()
"""


def test_a_search_that_runs_in_another_process_is_left_to_it_until_that_dies(tmp_path):
    storage, lines = tmp_path / "t.sqlite", "a\tb\tadd\nc\td\treverse"
    command = [sys.executable, "-c", UNDER_WAY, str(storage), RECIPE, lines]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin and other.stdout
    with other.stdin, other.stdout:
        try:
            assert other.stdout.readline() == "under way\n"

            def here(what):
                return at_once(run_search(what, parse_held_out(lines, "set"), Fake(bowl), storage, Budget(2)))

            with pytest.raises(MergeError, match="runs already, in another process"):
                here(search())
            assert len(here(search(seed=1)).trials) == 2  # another one may
        finally:
            other.kill()
            other.wait()
    assert len(here(search()).trials) == 2
    assert list(tmp_path.glob("*.lock")) == []


def test_another_set_or_bound_is_another_search(tmp_path):
    names = {
        one.name(part)
        for one in (search(), search(seed=1), Search(recipe(), dials_of(recipe(), high=1.0)), search(sampler="grid"))
        for part in (PARTS.validation, PARTS.report)
    }
    assert len(names) == 8 and search().name(PARTS.report) == search().name(PARTS.report)


def test_only_the_validation_part_is_seen(tmp_path):
    examine = Fake(bowl)
    run(search(), tmp_path / "t.sqlite", 3, examine)
    assert {held_out.sha256 for _, held_out in examine.asked} == {PARTS.validation.sha256}


def test_time_is_a_budget_but_one_trial_is_made(tmp_path):
    found = at_once(run_search(search(), PARTS.validation, Fake(bowl), tmp_path / "t", Budget(50, 1e-9)))
    assert len(found.trials) == 1


@pytest.mark.parametrize(
    ("more", "budget", "words"),
    [
        ({"sampler": "grid", "steps": 1}, Budget(), "two steps or more"),
        ({"sampler": "grid", "steps": 200}, Budget(), "40,000 points"),
        ({}, Budget(0), "1 to 10,000 trials"),
    ],
)
def test_what_cannot_be_searched(more, budget, words, tmp_path):
    with pytest.raises(MergeError, match=words):
        at_once(run_search(search(**more), PARTS.validation, Fake(bowl), tmp_path / "t", budget))


def test_cma_es_wants_two_values_and_a_file_that_can_be_written(tmp_path):
    one = Search(recipe(), dials_of(recipe())[:1], sampler="cma-es")
    with pytest.raises(MergeError, match="two values or more"):
        run(one, tmp_path / "t", 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(MergeError, match="cannot be kept"):
        run(search(), tmp_path / "file" / "t", 3)


def test_dials_for_groups_of_layers():
    dials = dials_of(recipe(), groups=["attention", "norms"])
    assert [dial.name for dial in dials][:2] == ["weight of o/x, attention", "weight of o/x, norms"]
    made = turned(recipe(), dials, (0.1, 0.2, 0.3, 0.4))
    assert parse_recipe(to_yaml(made)) == made
    layer = "model.layers.0."
    for tensor, weights in {
        "self_attn.q_proj.weight": (0.1, 0.3), "post_attention_layernorm.weight": (0.2, 0.4), "mlp.up_proj": (1.0, 1.0),
    }.items():  # fmt: skip
        assert settings_for(made, layer + tensor)["weight"] == weights
    assert values_in(made, dials) is None and values_in(recipe(), dials_of(recipe())) == (1.0, 1.0)


def test_dials_of_one_value_for_all_models():
    slerp = recipe("merge_method: slerp\nbase_model: o/x\nmodels: [{model: o/x}, {model: o/y}]\nparameters: {t: 0.5}")
    (dial,) = dials_of(slerp)
    assert (dial.name, dial.low, dial.high) == ("t", 0.0, 1.2)  # slerp goes on beyond its models
    assert to_yaml(turned(slerp, [dial], (0.25,))) == to_yaml(slerp).replace("0.5", "0.25")


def test_dials_keep_to_what_the_parameter_allows():
    ties = recipe("merge_method: ties\nbase_model: o/b\nmodels: [{model: o/x}]\nparameters: {density: 0.5, weight: 1}")
    (dial,) = dials_of(ties, "density")
    assert (dial.low, dial.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"parameter": "densty"}, "no number called 'densty'.*weight"),
        ({"groups": ["heads"]}, "no layer group 'heads'"),
        ({"low": 2.0}, "nothing between 2 and 1.2"),
    ],
)
def test_what_is_no_dial(more, words):
    with pytest.raises(MergeError, match=words):
        dials_of(recipe(), **more)


def test_the_pareto_front_of_two_tasks():
    """By hand, with losses: (1, 4) and (2, 2) and (4, 1) stand; (3, 3) loses to (2, 2), (2, 3) as well."""
    points = [(3, 3), (1, 4), (2, 2), (4, 1), (2, 3)]
    trials = tuple(Trial(n, (0.0, 0.0), 0.0, {"a": a, "b": b}, 0.0) for n, (a, b) in enumerate(points))
    assert [trial.number for trial in pareto(Found(search(), trials, 0), "a", "b")] == [1, 2, 3]
    shares = Found(search(objective=Objective("exact")), trials, 0)
    assert [points[trial.number] for trial in pareto(shares, "a", "b")] == [(4, 1), (3, 3), (1, 4)]


def test_lambdas_of_the_zoo_are_found_on_merges_in_memory(tmp_path):
    text = (
        RECIPE.replace("o/base", str(ref("base"))).replace("o/x", str(ref("reverse"))).replace("o/y", str(ref("add")))
    )
    bench = Bench(opened("base", "reverse", "add"), memory_bytes=10**9)
    given = recipe(text.replace("weight: 1.0", "weight: 0.3"))
    what = Search(given, dials_of(given), Objective("nll", "worst"), "grid", steps=3)
    found = at_once(run_search(what, PARTS.validation, bench.marks, tmp_path / "t.sqlite", Budget(9)))
    assert bench.live is not None
    bench.close()
    by_values = {trial.values: trial.value for trial in found.trials}
    assert found.best.values == (0.6, 0.6) and by_values[0.6, 0.6] < 0.2 < by_values[0.0, 0.6]
