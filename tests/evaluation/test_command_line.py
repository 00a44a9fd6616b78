"""The commands as people give them, on the demo's models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.__main__ import main
from evaluation.held_out import to_jsonl
from evaluation.scores import public
from merging.card_check import check_card
from merging.card_scores import TITLE, OwnScore, OwnScores, scores_section, with_scores
from merging.recipe import parse_recipe
from tests.evaluation.conftest import few, ref

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quietly(monkeypatch):
    """Signals and the home folder stay those of the test run."""
    monkeypatch.setattr("evaluation.__main__.stop_when_told", lambda: None)


@pytest.fixture
def held_out(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text(to_jsonl(few(6, "reverse", "add").examples))
    return str(file)


@pytest.fixture
def recipe(tmp_path):
    models = "".join(f"\n  - {{model: {ref(one)}, parameters: {{weight: 0.7}}}}" for one in ("reverse", "add"))
    file = tmp_path / "recipe.yaml"
    file.write_text(f"merge_method: task_arithmetic\nbase_model: {ref('base')}\nmodels:{models}\n")
    return str(file)


def run(capsys, *arguments):
    status = main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return status, out, err


BESIDE = ["pocket-reverse", "pocket-add", "uniform soup", "ensemble"]


def labels(report):
    return [Path(model["label"]).name for model in report["models"]]


def test_scores_for_programs_and_for_people(capsys, held_out, recipe):
    status, out, _ = run(capsys, "score", held_out, recipe, str(ref("add")), "--json")
    found = json.loads(out)
    assert status == 0 and [model["label"] for model in found["models"]] == [recipe, str(ref("add"))]
    tasks = {task["task"]: task for task in found["models"][0]["tasks"]}
    assert set(tasks) == {"reverse", "add"} and tasks["add"]["examples"] == 6
    assert set(tasks["add"]["nll"]) == {"value", "low", "high"} and tasks["add"]["accuracy"] is None
    status, out, err = run(capsys, "score", held_out, recipe, "--task", "add")
    assert status == 0 and "6 examples" in out and "reverse " not in out and err == ""


def test_all_that_a_merge_is_compared_with(capsys, held_out, recipe):
    _, out, _ = run(capsys, "score", held_out, recipe, "--compare", "--task", "add", "--json")
    assert labels(json.loads(out)) == ["recipe.yaml", "pocket-base", *BESIDE]


def test_a_soup_is_written_as_a_recipe(capsys, held_out, tmp_path):
    names = [str(ref(one)) for one in ("reverse", "add")]
    status, out, err = run(capsys, "soup", held_out, *names, "--score", "exact", "--out", tmp_path / "soup.yaml")
    assert status == 0 and "in the soup" in out and "the best alone" in err
    assert parse_recipe((tmp_path / "soup.yaml").read_text()).method == "linear"
    _, out, _ = run(capsys, "soup", held_out, *names, "--score", "exact", "--json")
    assert labels(json.loads(out)["report"]) == ["greedy soup", *BESIDE]


def test_a_soup_of_the_last_revisions_of_one_repo(capsys, held_out, history, tmp_path):
    repo, _ = history
    asked = ("soup", held_out, repo, "--last", 3, "--out", tmp_path / "soup.yaml", "--json")
    status, out, _ = run(capsys, *asked)
    found = json.loads(out)
    tried = [one["model"] for one in found["tried"]]
    assert status == 0 and len(set(tried)) == 3 and all(one.startswith(f"{repo}@") for one in tried)
    shown = [model["label"] for model in found["report"]["models"]]
    assert shown[0] == "greedy soup" and set(shown[1:4]) == set(tried) and shown[4:] == ["uniform soup", "ensemble"]
    members = parse_recipe((tmp_path / "soup.yaml").read_text()).models
    assert [str(one.model) for one in members] == found["tried"][-1]["members"]
    for wrong, told in (((repo, ref("add"), "--last", 2), "Name only that one"), ((repo, "--last", 101), "2 to 100"),
                        ((repo, "--last", 4), "4 were asked for")):  # fmt: skip
        status, _, err = run(capsys, "soup", held_out, *wrong)
        assert status in (1, 2) and told in err


def test_a_search_is_gone_on_with_and_its_values_used(capsys, held_out, recipe, tmp_path):
    asked = ("search", held_out, recipe, "--sampler", "grid", "--steps", 2, "--out", tmp_path / "best.yaml", "--json")
    run(capsys, *asked, "--trials", 1)
    status, out, _ = run(capsys, *asked, "--trials", 3)
    found = json.loads(out)
    assert status == 0 and len(found["trials"]) == 3 and found["best"] < 3
    best = parse_recipe((tmp_path / "best.yaml").read_text())
    assert [one.parameters["weight"] for one in best.models] == found["trials"][found["best"]]["values"]
    assert found["report"]["set"]["sha256"]
    assert labels(found["report"]) == ["best found", "the recipe as given", "pocket-base", *BESIDE]


def test_a_path_between_models_that_a_merge_refuses(capsys, held_out):
    asked = ("path", held_out, ref("reverse"), ref("stranger"), "--points", 3)
    status, out, err = run(capsys, *asked)
    assert status == 0 and "nats above the chord" in out and "50% of" in err
    status, out, _ = run(capsys, *asked, "--json")
    assert json.loads(out)["shares"] == [0.0, 0.5, 1.0]


def test_faults_in_words_and_their_exit_status(capsys, held_out, recipe, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}')
    assert run(capsys, "score", tmp_path / "bad.jsonl", recipe) == (
        1, "", 'bad.jsonl, line 2 has no completion. A line is {"prompt": "…", "completion": "…"} or {"messages": […]}'
        ', with a "task" and "options" if you like.\n',
    )  # fmt: skip
    status, _, err = run(capsys, "score", held_out, "./nowhere")
    assert status == 2 and "no folder ./nowhere" in err
    (tmp_path / "bad.yaml").write_text("merge_method: lineer")
    assert run(capsys, "search", held_out, tmp_path / "bad.yaml")[0] == 2
    status, _, err = run(capsys, "soup", held_out, ref("reverse"), ref("stranger"))
    assert status == 1 and "blocked by different-base" in err and "BLOCK" in err
    status, _, err = run(capsys, "search", held_out, recipe, "--report", held_out)
    assert status == 1 and "share 12 of their prompts" in err
    status, _, err = run(capsys, "harness", "x", ref("add"))
    assert status == 1 and "pip install -r requirements-harness.txt" in err


def test_ctrl_c_says_what_is_kept(capsys, held_out, recipe, monkeypatch):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluation.search.run_search", interrupted)
    status, _, err = run(capsys, "search", held_out, recipe)
    assert status == 130 and "the same command goes on from there" in err


def test_scores_in_the_card_of_a_merge(capsys, held_out, recipe, tmp_path):
    from merging.__main__ import main as merge

    merge(["merge", recipe, str(tmp_path / "merged")])
    capsys.readouterr()
    for _ in range(2):  # again, they take the place of the first
        status, _, err = run(capsys, "score", held_out, recipe, str(ref("add")), "--card", tmp_path / "merged")
        assert status == 0 and "The scores are in" in err
    card = (tmp_path / "merged" / "README.md").read_text()
    check_card(card)
    assert card.count(f"## {TITLE}") == 1 and "pocket-add" in card.partition(f"## {TITLE}")[2]
    assert str(ref("add")) not in card and "no public benchmark" in card
    status, _, err = run(capsys, "score", held_out, recipe, "--card", tmp_path)
    assert status == 1 and "Give the folder of a merge" in err


def test_names_in_a_card_stay_text():
    row = OwnScore("a|b", "<i>", "NLL", 0.5, 0.25, 1.0, 20)
    section = scores_section(OwnScores("# x", "0" * 64, 20, (row,)))
    assert "| a\\|b | &lt;i&gt; | 20 | 0.5 (0.25 to 1) |" in section and "\\# x, 20 examples" in section
    card = with_scores("---\nlicense: mit\n---\n# M\n", OwnScores("x", "0" * 64, 20, (row,)))
    assert with_scores(card, None).strip() == "---\nlicense: mit\n---\n# M"
    assert scores_section(OwnScores("x", "0" * 64, 0, ())) == ""
    assert public("/home/ada/models/x") == "x" and public("ada/x") == "ada/x"


def test_help_comes_without_what_takes_long_to_import():
    slow = {"torch", "transformers", "optuna", "rich"}
    code = f"import sys, evaluation.__main__; print(sorted({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
