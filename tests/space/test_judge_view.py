"""Charts and words of an evaluation: values in, text out."""

import xml.etree.ElementTree as ET

import pytest

from evaluation.held_out import parse_held_out
from space.jobs import Job
from space.judge_charts import HIGH, Axis, Bar, Dot, bars, curve, nice, plane
from space.judge_view import interval, pairs, panel, set_card
from space.pages.judge import can_be_used

NASTY = '<img src=x onerror="alert(1)">'


def parsed(text):
    return ET.fromstring(text)


def job(what="score", state="done", **more):
    return Job("1", "ada", "judge", f"Scores: {NASTY}", {"ask": {"what": what}}, state, started=1.0, ended=4.0, **more)


def at(value, low, high):
    return {"value": value, "low": low, "high": high}


def task(name, value):
    return {"task": name, "examples": 20, "tokens": 40, "nll": at(1 - value, 0.1, 1.2),
            "exact": at(value, 0.1, 1.0), "perplexity": at(2.0, 1.0, 3.0), "accuracy": None,
            "ece": at(0.1, 0.0, 0.2), "ece_of": "tokens"}  # fmt: skip


def rows(*names):
    return [{"label": name, "kind": "model", "colour": f"c{i}", "tasks": [task("add", 0.9 - i / 10)]}
            for i, name in enumerate(names)]  # fmt: skip


def test_bars_end_where_the_values_are():
    drawn = parsed(bars([Bar(NASTY, "c1", 0.25, 0.1, 0.5, "25 %"), Bar("b", "c2", 3.0, 2.0, 9.0, "x")], 1.0, "told"))
    widths = [one.get("width") for one in drawn.iter("rect") if one.get("class") == "bar"]
    assert widths == ["25.00%", "100.00%"]  # none leaves the chart
    reaches = [(one.get("x1"), one.get("x2")) for one in drawn.iter("line")]
    assert reaches[0] == ("10.00%", "50.00%") and drawn.get("aria-label") == "told"


def test_a_curve_stands_over_its_chord_where_there_is_a_barrier():
    losses, chord = [1.0, 2.0, 4.0, 2.0, 1.0], [1.0] * 5
    drawn = parsed(curve(losses, 5, chord, ("c1", "c2"), (NASTY, "b"), 0.5, "told"))
    mark = next(one for one in drawn.iter("line") if one.get("class") == "barrier")
    assert mark.get("x1") == "50.00%" and float(mark.get("y1")) > float(mark.get("y2"))
    assert [one.get("cx") for one in drawn.iter("circle")] == ["0.00%", "25.00%", "50.00%", "75.00%", "100.00%"]
    half = parsed(curve(losses[:2], 5, [], ("c1", "c2"), ("a", "b"), None, "told"))
    assert [one.get("cx") for one in half.iter("circle")] == ["0.00%", "25.00%"]


def test_a_plane_joins_those_that_none_beats_and_marks_the_best():
    dots = [Dot(1, 2, "a", is_front=True), Dot(2, 1, "b", is_front=True, is_best=True), Dot(2, 2, NASTY)]
    drawn = parsed(plane(dots, ("x", "y"), (2, 2), "told", better="less is better"))
    assert len([one for one in drawn.iter("line") if one.get("class") == "front"]) == 1
    assert len([one for one in drawn.iter("line") if one.get("class") == "null"]) == 2
    assert [one.get("class") for one in drawn.iter("circle")].count("best point") == 1


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0], [float("inf"), 1.0], [-2.5, 7.1], [1e-9, 2e-9]])
def test_axes_hold_what_they_are_for(values):
    axis = Axis.of(values)
    assert axis.low < axis.high and 2 <= len(axis.ticks) <= 6
    for value in values[-1:]:
        assert axis.low <= value <= axis.high and 0 <= axis.y(value) <= HIGH


def test_steps_are_round():
    assert [nice(x) for x in (0.011, 0.3, 1, 4.2, 70)] == [0.02, 0.5, 1, 5, 100]


def test_scores_say_what_is_clear_and_what_is_not():
    against = {"task": "add", "measure": "exact", "parent": "a", "change": -0.2, "is_clear": True, "value": 0.7,
               "of_parent": 0.9}  # fmt: skip
    tree = {"name": NASTY, "sha256": "0", "examples": 20, "tasks": {"add": 20}}
    found = {"set": tree, "rows": rows("The merge", f"org/{NASTY}"), "against": [against]}
    answer = {"what": "score", "set": tree, "scores": found, "is_whole": True}
    said = panel(job(), answer)
    assert "clearly worse than the best parent on 1 of 1 task: add 70 % against 90 %" in said
    assert "<img" not in said and "n = 20" in said and "NLL, nats" in said and ">Perplexity<" in said
    found["against"] = [{**against, "is_clear": False}]
    assert "on none of 1 task." in panel(job(), answer)
    assert "2 models scored so far" in panel(job(state="running"), {**answer, "is_whole": False})


def test_a_path_says_whether_there_is_a_barrier():
    tree = {"name": "set", "examples": 8, "tasks": {"all": 8}}
    height = at(2.9, 2.0, 3.5)
    answer = {"what": "path", "set": tree, "first": "a/b", "second": "a/c", "shares": [0, 0.5, 1],
              "colours": ["c1", "c2"], "losses": {"all": [at(1, 1, 1), at(4, 4, 4), at(1, 1, 1)]},
              "is_from_base": False, "is_whole": True,
              "barriers": [{"task": "all", "height": height, "at": 0.5, "is_clear": True}]}  # fmt: skip
    assert "There is a barrier, 2.9 nats above the chord" in panel(job("path"), answer)
    answer["barriers"] = [{"task": "all", "height": at(0.01, -0.1, 0.1), "at": 0.5, "is_clear": False}]
    assert "No barrier that could be told from chance" in panel(job("path"), answer)


def test_large_perplexities_are_written_out():
    assert interval("perplexity", at(1_962_345.0, 999.4, 2e12)) == "1,960,000 (999 to 2e+12)"
    assert interval("nll", at(0.123456, 0.0123, 1.5)) == "0.123 (0.012 to 1.5)"


def test_states_are_told():
    assert "Nothing judged yet" in panel(None, None)
    assert "place 2 in the queue" in panel(job(state="queued", place=2), None)
    failed = panel(job(state="failed", error=f"No {NASTY}"), None)
    assert "<img" not in failed and "No &lt;img" in failed


def test_a_set_says_its_tasks_and_when_it_is_small():
    card = set_card(parse_held_out("a\tb\tone\nc\td\ttwo", NASTY))
    assert "2 examples, 2 tasks" in card and "only large differences show" in card and "<img" not in card
    assert "none of the models was trained on" in set_card(None)


def test_a_soup_of_revisions_shows_commits_as_the_hub_does_and_says_what_the_form_cannot_hold():
    names = [f"org/run@{n:040x}" for n in range(1, 11)]
    tried = [{"model": name, "alone": 1.0, "before": None if n == 0 else 1.0, "together": 1.0, "added": True,
              "colour": "c1"} for n, name in enumerate(names)]  # fmt: skip
    answer = {"what": "soup", "tried": tried, "objective": "NLL", "parts": {"validation": 4, "report": 4},
              "members": names, "uniform": 1.0, "value": 1.0, "is_whole": True}  # fmt: skip
    said = panel(job("soup"), answer)
    assert "<code>org/run@0000000</code>" in said and names[0] not in said
    assert "holds 8 models, this soup has 10" in said and not can_be_used(answer)
    assert "holds 8" not in panel(job("soup"), {**answer, "members": names[:8]})
    assert can_be_used({**answer, "members": names[:8]})


def test_of_three_tasks_somebody_chooses_the_two_that_are_plotted():
    """By hand: a and b trade nothing, a and c trade three trials, b and c one."""
    points = [(0.1, 0.1, 0.9), (0.2, 0.2, 0.5), (0.3, 0.3, 0.1)]
    trials = [{"number": n, "values": [0.5], "value": 0.3, "tasks": dict(zip("abc", at, strict=True)), "seconds": 1.0}
              for n, at in enumerate(points)]  # fmt: skip
    fronts = [{"tasks": ["a", "b"], "trials": [0]}, {"tasks": ["a", "c"], "trials": [0, 1, 2]},
              {"tasks": ["b", "c"], "trials": [2]}]  # fmt: skip
    answer = {"what": "search", "trials": trials, "best": 0, "earlier": 0, "objective": "NLL", "measure": "nll",
              "given": None, "dials": ["weight"], "colours": ["merged"], "fronts": fronts, "recipe": "",
              "is_whole": True, "parts": {"validation": 4, "report": 4}}  # fmt: skip
    assert pairs(answer) == ["a and b", "a and c", "b and c"] and pairs({**answer, "fronts": fronts[:1]}) == []
    assert "trade a for c" in panel(job("search"), answer) and "NLL of c, less is better" in panel(
        job("search"), answer
    )
    assert "Thin lines" not in panel(job("search"), answer)  # what the recipe had was not tried
    assert "Thin lines: the recipe as it was" in panel(job("search"), {**answer, "start": 1, "earlier": 2})
    said = panel(job("search"), answer, "b and c")
    assert "trade b for c" in said and said.count('class="front point"') == 1
    assert "trade a for c" in panel(job("search"), answer, "of another set")
    assert "in the order in which they were made" in panel(job("search"), {**answer, "fronts": []})
