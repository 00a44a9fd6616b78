"""The claims: criteria on numbers made by hand, the table, and a zoo that is hardly trained."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator

from benchmarks.claims import zoo
from benchmarks.claims.__main__ import RESULTS
from benchmarks.claims.basins import above_chord
from benchmarks.claims.claim import CLAIMS, means, met, verdict
from benchmarks.claims.interference import groups
from benchmarks.claims.lab import open_lab
from benchmarks.claims.llama import forward, fresh, save, shapes, stack, unstack
from benchmarks.claims.measures import accuracy, calibration_error, exam, guessed
from benchmarks.claims.reasons import REASONS
from benchmarks.claims.report import GROUPS, figures_text, headline, linked, report, spread
from benchmarks.claims.tasks import ALPHABETS, HELD_OUT, KNOWN, LENGTH, TASKS, Examples, Skill, draw
from benchmarks.claims.training import Course, fit
from benchmarks.claims.trial import FILES
from benchmarks.claims.zoo import BASE, Settings, core_seconds, ensure_zoo, key_of, stages

# Figures that just meet each criterion, and one that spoils them.
MET: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "greedy soup": (
        {"greedy": 81, "best": 80, "worst": 70, "greedy, validation": 82, "best, validation": 82},
        {"greedy": 79},
    ),
    "uniform soup": (
        {"all": 79, "without high rates": 80, "best": 81, "high rate alone": 60, "base": 40},
        {"all": 79.5},
    ),
    "soup and ensemble": ({"soup": 80, "ensemble": 81, "mean member": 79}, {"ensemble": 81.5}),
    "robustness": ({"soup, shifted": 52, "best, shifted": 48, "soup": 80, "best": 80}, {"soup, shifted": 48}),
    "calibration of ensembles": ({"soup": 5, "ensemble": 4, "mean member": 5}, {"ensemble": 4.9}),
    "calibration of soups": ({"soup": 4, "ensemble": 4, "mean member": 5}, {"soup": 5}),
    "addition of pairs": ({"kept": 95, "own": 90, "base": 50}, {"kept": 94.9}),
    "negation": (
        {"target": 20, "target, base": 60, "target, random": 58, "control": 89, "control, base": 90},
        {"target, random": 50},
    ),
    "analogy": ({"analogy": 93, "best neighbour": 92, "sum of neighbours": 92, "base": 60, "own": 94}, {"analogy": 92}),
    "halfway": (
        {"halfway": 80, "own": 90, "base": 60, "control, halfway": 85, "control, own": 70, "control, base": 90},
        {"control, halfway": 79},
    ),
    "averaging many": ({"of 2": 90, "of 4": 87, "of 6": 85, "own": 90, "base": 50}, {"of 6": 86}),
    "ties and averaging": (
        {"TIES of 2": 90, "TIES of 6": 86, "average of 2": 90, "average of 6": 80, "own": 90, "base": 50},
        {"TIES of 2": 97},
    ),
    "ties and task arithmetic": (
        {"TIES of 6": 77, "task arithmetic of 6": 73, "own": 90, "base": 50},
        {"TIES of 6": 73},
    ),
    "largest part": ({"largest 20 %": 95, "random 20 %": 80, "own": 90, "base": 50}, {"random 20 %": 96}),
    "dropping": ({"rescaled": 96, "not rescaled": 90, "own": 90, "base": 50}, {"not rescaled": 92}),
    "dropping before merging": ({"with DARE": 91, "without": 90, "own": 90, "base": 50}, {"with DARE": 90}),
    "barriers": ({"within": 1, "across": 60, "own": 90, "base": 50}, {"within": 2}),
    "average across bases": (
        {
            "skill, two bases": 30, "skill, guessed": 28, "control, two bases": 40, "control, guessed": 38,
            "skill, one base": 95, "control, one base": 80, "skill, foreign alone": 95,
        },
        {"control, two bases": 50},
    ),
    "vector on another base": ({"gain, own base": 30, "gain, other base": 1}, {"gain, other base": 5}),
    "forgetting": (
        {"first, in sequence": 50, "lesser, merged": 90, "lesser, in sequence": 50, "own": 90, "base": 50},
        {"first, in sequence": 85},
    ),
    "length of training": ({"trained longer": 95, "trained shorter": 90}, {"trained shorter": 91}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Models so small are slower with two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", CLAIMS)
def test_criteria(name: str):
    claim, (figures, spoilt) = CLAIMS[name], MET[name]
    assert verdict(claim, [figures]) == "holds"
    assert verdict(claim, [figures | spoilt]) == "does not hold"


def test_a_skill_that_was_not_learnt_tests_nothing():
    figures = MET["addition of pairs"][0]
    assert verdict(CLAIMS["addition of pairs"], [figures | {"base": 85}]) == "not testable"


def test_a_mean_that_one_seed_makes_is_not_enough():
    claim = CLAIMS["robustness"]
    worse, better = MET["robustness"][0] | {"soup, shifted": 47.0}, MET["robustness"][0] | {"soup, shifted": 60.0}
    assert means([better, worse, worse])["soup, shifted"] > 48
    assert met(claim, [better, worse, worse]) == 1
    assert verdict(claim, [better, worse, worse]) == "does not hold"
    assert verdict(claim, [better, better, worse]) == "holds"


def test_every_claim_says_where_it_comes_from_and_how_it_is_measured():
    for claim in CLAIMS.values():
        assert claim.group in GROUPS and claim.how and claim.criterion and claim.paper
        assert "https://" in claim.source or "lesson" in claim.source
    assert {file.__name__.rpartition(".")[2] for file in FILES} == set(GROUPS)


# The table.


def test_the_mean_and_the_range():
    assert spread([90.0, 95.0, 100.0]) == "95.0 (90.0 to 100.0)"
    assert spread([0.125]) == "0.12"
    assert (
        figures_text([{"a": 10.0, "b": 1.0}, {"a": 20.0, "b": 1.0}]) == "a 15.0 (10.0 to 20.0); b 1.00 (1.00 to 1.00)"
    )


def test_addresses_become_links():
    assert linked("a; https://x.org/1; b") == "(a; <https://x.org/1>; b)"


def test_the_report():
    claims = {name: CLAIMS[name] for name in ("robustness", "dropping")}
    amended = replace(claims["dropping"], amended="a bound")
    found = {"robustness": [MET["robustness"][0]], "dropping": [MET["dropping"][0] | MET["dropping"][1]]}
    text = report(found, {**claims, "dropping": amended}, {"Cost": "9"}, parameters=85_312, models=53)
    assert "- Cost: 9" in text and "85,312" in text
    assert "Of 2 claims 1 holds, 1 does not hold." in text
    assert "**holds**, 1 of 1 seeds" in text and REASONS["dropping", "does not hold"] in text and "Amended" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_headline_counts():
    assert headline({"robustness": [MET["robustness"][0]]}, CLAIMS) == "Of 1 claims 1 holds."


# What is measured.


def test_calibration_by_hand():
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0]]).log_softmax(-1)  # 98 % sure twice, and right once
    assert calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(
        100 * (1 / (1 + torch.e**-4) - 0.5), abs=1e-3
    )
    assert accuracy(logits, torch.tensor([0, 1])) == 50


def test_guessing_names_the_commonest_answer_of_each_skill():
    tokens = torch.tensor([[8, 0], [9, 0], [8, 0], [18, 0]])  # three rows of one alphabet, one of the next
    assert guessed(Examples(tokens, torch.tensor([8, 8, 9, 19]))) == 75


def test_a_barrier_is_what_lies_above_the_chord():
    assert above_chord([0.0, 10.0, 4.0]) == 8.0
    assert above_chord([0.0, 1.0, 4.0]) == 0.0


def test_every_skill_is_in_as_many_groups():
    for size in (2, 4, 6):
        drawn = [skill for group in groups(size) for skill in group]
        assert {drawn.count(skill) for skill in HELD_OUT} == {1 if size == 6 else size}


# The zoo.


def test_the_tasks_by_hand():
    rows = torch.tensor([[3, 9, 9, 0, 2, 1]])
    right = {name: int(task(rows)) for name, task in TASKS.items()}
    assert right == {
        "largest": 9, "smallest": 0, "second": 9, "median": 2, "range": 9, "distinct": 5, "above": 2, "after": 4,
    }  # fmt: skip


def test_examples_name_their_task_last_and_answer_in_their_alphabet():
    skill = Skill("largest", 1)
    tokens, answers = draw([skill], 20, Generator().manual_seed(0))
    assert tokens.shape == (20, LENGTH + 1) and set(tokens[:, -1].tolist()) == {0}
    assert torch.equal(tokens[:, :-1].amax(1), answers)
    assert len(KNOWN) + len(HELD_OUT) == len(TASKS) * ALPHABETS


def test_what_is_tested_is_the_same_every_time_and_not_validated_on():
    assert exam((HELD_OUT[0],)) is exam((HELD_OUT[0],))
    assert not torch.equal(exam((HELD_OUT[0],)).tokens[:9], exam((HELD_OUT[0],), "validation").tokens[:9])


def test_the_key_names_the_settings():
    assert key_of(Settings()) == key_of(Settings())
    assert key_of(Settings()) != key_of(Settings(rate=3e-4))


def test_no_two_courses_see_the_same_examples():
    seeds = [
        lesson.course.seed for seed in (0, 1) for _, lessons in stages(Settings(), seed) for lesson in lessons.values()
    ]
    assert len(set(seeds)) == len(seeds)


def test_stacked_models_are_those_apart():
    models, tokens = [fresh(0), fresh(1)], torch.stack([exam((skill,)).tokens[:5] for skill in HELD_OUT[:2]])
    together = forward(stack(models), tokens)
    for i in range(2):
        assert torch.allclose(forward(stack(models[i : i + 1]), tokens[i : i + 1])[0], together[i], atol=1e-6)


def test_they_are_llamas(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    save(fresh(0), tmp_path / "model")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokens = exam((HELD_OUT[0],)).tokens[:5]
    with torch.no_grad():
        assert torch.allclose(theirs(tokens).logits[:, -1], forward(stack([fresh(0)]), tokens[None])[0], atol=1e-5)


def test_training_learns_and_each_model_has_its_rate():
    still, moved = fit([fresh(0)] * 2, [Course(skills=KNOWN[:1], rate=rate, seed=1) for rate in (0.0, 3e-3)], steps=40)
    assert all(torch.equal(still[name], tensor) for name, tensor in fresh(0).items())
    examples = exam(KNOWN[:1])
    scores = [accuracy(forward(stack([one]), examples.tokens[None])[0], examples.answers) for one in (still, moved)]
    assert scores[1] > scores[0] + 10


def test_a_zoo_is_trained_once_and_merged_by_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = Settings(base_steps=1, steps=1, long_steps=1, soup_steps=1, soup_rates=(1e-3,))
    folder = ensure_zoo(tmp_path, settings, seed=3)
    monkeypatch.setattr(zoo, "train", None)
    assert ensure_zoo(tmp_path, settings, seed=3) == folder and core_seconds(folder) > 0
    lab, tune = open_lab(folder, settings), zoo.tune_of(HELD_OUT[0])
    try:
        merged = lab.added([tune], 0.5)
        middle = lab.between(BASE, tune, 0.5)
    finally:
        lab.live.close()
    assert merged.keys() == shapes().keys()
    for name, tensor in merged.items():
        by_hand = (lab.model(BASE)[name] + lab.model(tune)[name]) / 2
        assert torch.allclose(tensor, by_hand, atol=1e-6) and torch.allclose(middle[name], by_hand, atol=1e-6)
    assert not torch.equal(merged["model.norm.weight"], lab.model(BASE)["model.norm.weight"])


def test_unstacked_models_are_what_was_stacked():
    one, two = unstack(stack([fresh(0), fresh(1)]))
    assert all(torch.equal(one[name], fresh(0)[name]) and torch.equal(two[name], fresh(1)[name]) for name in shapes())


def test_each_verdict_has_its_reason():
    assert set(REASONS) == {(name, said) for name in CLAIMS for said in ("holds", "does not hold")}


def test_what_is_written_down_is_what_the_readme_says():
    written, readme = RESULTS.read_text(), (RESULTS.parents[1] / "README.md").read_text()
    found = re.search(r"^Of \d+ claims (.*)\.$", written, re.MULTILINE)
    assert found and found[1] in " ".join(readme.split())
    assert [name for name in CLAIMS if f"| *{name}*: {CLAIMS[name].text}" not in written] == []


def test_each_criterion_is_tried():
    assert set(CLAIMS) == set(MET)
