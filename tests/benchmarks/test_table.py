"""The result as Markdown."""

from dataclasses import replace

from benchmarks.agreement import Agreement
from benchmarks.cases import CASES
from benchmarks.measure import Usage
from benchmarks.table import Row, report, speed_table, table, verdict
from benchmarks.trials import Trial

RIGHT, WRONG = Agreement(0.5, 0.0, 1.0), Agreement(900.0, 0.25, 1.5)
OURS = Trial((Usage(2.5, 4.0, 500_000_000), Usage(2.0, 4.0, 400_000_000)), RIGHT)
THEIRS = Trial((Usage(120.0, 160.0, 6_000_000_000),), WRONG)
ROW = Row(CASES["linear"], 10_000_000_000, Usage(1.0, 1.0, 10_000_000), OURS, THEIRS)


def test_a_table():
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| :-- | --: |\n| x | 1 |"


def test_one_line_of_figures():
    *_, line = speed_table([ROW]).splitlines()
    assert line == (
        "| linear | 2.0 s (to 2.5 s) | 4.0 s | 0.50 GB | 5.00 | 2.0x "
        "| 120 s | 160 s | 6.00 GB | 0.08 | 60.0x | 40.0x | 12.0x |"
    )


def test_every_line_has_as_many_cells_as_the_head():
    for theirs in (THEIRS, None):
        text = report([replace(ROW, theirs=theirs), replace(ROW, case=CASES["dare_ties"])], {"Machine": "one"})
        for block in text.split("\n\n"):
            if block.startswith("|"):
                assert len({line.count("|") for line in block.splitlines()}) == 1


def test_targets_that_are_met():
    assert verdict([ROW]).count("none.") == 3
    assert "not measured" in verdict([replace(ROW, theirs=None)])


def test_targets_that_are_missed():
    slow = Trial((Usage(240.0, 1.0, 2_100_000_000),), WRONG)
    said = verdict([replace(ROW, ours=slow)])
    assert "linear (0.50x)" in said
    assert "linear (2.10 GB)" in said
    assert said.endswith("asked for: linear.")


def test_only_what_was_measured_is_reported():
    assert "draw" not in report([ROW], {})
    assert "dare_linear" in report([replace(ROW, case=CASES["dare_linear"])], {})
