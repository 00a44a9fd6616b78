"""The adapter to lm-evaluation-harness, which is not installed for the tests."""

import pytest

from evaluation import harness
from evaluation.harness import HarnessScore, run_tasks, scores_in
from evaluation.reader import Single
from merging.errors import MergeError


def test_what_to_do_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(harness, "PACKAGE", "no_such_package")
    with pytest.raises(MergeError, match=r"not installed.*pip install -r requirements-harness.txt"):
        run_tasks(Single(None, None), ["hellaswag"])


def test_its_results_as_scores():
    values = {"alias": "x", "acc,none": 0.5, "acc_stderr,none": 0.25, "f1,strict": 1, "f1_stderr,strict": "N/A"}
    assert scores_in("x", values) == [HarnessScore("x", "acc", 0.5, 0.25), HarnessScore("x", "f1", 1.0, None)]
