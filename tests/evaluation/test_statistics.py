"""Intervals that hold what they promise, and differences on the same examples."""

import numpy as np
import pytest

from evaluation.marks import Mark, binned, columns, from_json, to_json
from evaluation.objective import Objective
from evaluation.statistics import MEASURES, compare, interval, intervals
from merging.errors import MergeError
from tests.evaluation import plain
from tests.evaluation.made_up import mark

EXACT, NLL = MEASURES["exact"], MEASURES["nll"]


def test_an_interval_covers_the_truth_as_often_as_it_says():
    chance, covered = np.random.default_rng(1), {"exact": 0, "nll": 0}
    for seed in range(200):
        marks = tuple(
            mark(nll, exact=bool(hit))
            for nll, hit in zip(chance.exponential(2.0, 80), chance.random(80) < 0.7, strict=True)
        )
        found = intervals(marks, [EXACT, NLL], seed, 300)
        for name, truth in (("exact", 0.7), ("nll", 2.0)):
            covered[name] += found[name].low <= truth <= found[name].high
    assert 0.90 <= covered["exact"] / 200 <= 0.98 and 0.90 <= covered["nll"] / 200 <= 0.98


def test_the_same_numbers_come_every_time():
    marks = tuple(mark(float(i)) for i in range(20))
    assert interval(marks, NLL) == interval(marks, NLL) != interval(marks, NLL, seed=1)


def test_when_all_are_right_the_bound_is_not_the_value_itself():
    """Clopper and Pearson's for 10 of 10: 0.025 ** 0.1 is 0.6915."""
    found = interval((mark(exact=True),) * 10, EXACT)
    assert (found.value, round(found.low, 4), found.high) == (1.0, 0.6915, 1.0)
    found = interval((mark(),) * 10, EXACT)
    assert (found.value, found.low, round(found.high, 4)) == (0.0, 0.0, 0.3085)


def test_a_mean_nll_is_by_token_and_the_perplexity_its_exponential():
    marks = (mark(1.0, tokens=1), mark(8.0, tokens=3))
    assert interval(marks, NLL).value == 9 / 4
    assert interval(marks, MEASURES["perplexity"]).value == pytest.approx(np.exp(9 / 4))


def test_the_calibration_error_of_a_worked_example():
    """Two at 0.9 of which one is right: a gap of 0.4; two at 0.3 of which none is: 0.3. Half and half: 0.35."""
    confidences = [(0.9, True), (0.9, False), (0.3, False), (0.3, False)]
    marks = tuple(Mark("all", 1.0, 1, right, None, binned([sure], [right])) for sure, right in confidences)
    assert float(MEASURES["ece"].of(columns(marks).sum(0))) == pytest.approx(0.35)
    assert plain.ece(confidences) == pytest.approx(0.35)


def test_a_small_difference_on_the_same_examples_is_clear():
    """Each example's own difficulty is far larger than what the two models differ by."""
    hard = np.random.default_rng(0).exponential(5.0, 60)
    first, second = (tuple(mark(nll + more) for nll in hard) for more in (0.1, 0.0))
    found = compare(first, second, NLL)
    assert found.is_clear and found.change.value == pytest.approx(0.1) and found.share_above == 1.0
    assert interval(first, NLL).low < interval(second, NLL).high
    assert not compare(first, first, NLL).is_clear
    with pytest.raises(MergeError, match="different examples"):
        compare(first, second[:-1], NLL)


def test_marks_are_kept_as_they_are():
    marks = (mark(0.1 + 0.2, exact=True), mark(1e-17, right=False, tokens=7))
    assert from_json(to_json(marks)) == marks


@pytest.mark.parametrize(
    ("objective", "value", "gain"),
    [(Objective(), 2.0, -2.0), (Objective(over="worst"), 3.0, -3.0), (Objective("exact", "worst"), 0.0, 0.0)],
)
def test_an_objective_is_the_mean_or_the_worst_of_the_tasks(objective, value, gain):
    marks = (mark(1.0, "a", exact=True), mark(3.0, "b"))
    assert (objective.value(marks), objective.gain(marks)) == (value, gain)


def test_an_accuracy_needs_options():
    with pytest.raises(MergeError, match="task b has no options"):
        Objective("accuracy").value((mark(task="a", right=True), mark(task="b")))
