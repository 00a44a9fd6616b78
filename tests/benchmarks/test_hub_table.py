"""The results from Hub to Hub as Markdown."""

from dataclasses import replace

from benchmarks.cases import CASES
from benchmarks.hub_table import Plain, Row, report
from benchmarks.measure import Usage
from benchmarks.users import Waits, summed

BY_HAND = Plain(80.0, 60.0, 30.0, 12_000_000_000)
USED = Usage(82.0, 30.0, 900_000_000)
ROW = Row(CASES["linear"], 80.0, USED, 900_000_000, 600_000_000, 7_500_000_000, 7_500_000_000, True, BY_HAND)


def test_targets_that_are_met():
    said = report([ROW], summed(8, [0.1] * 99 + [0.9], 7), {"Machine": "one"})
    assert (
        "| linear | 82.0 s | 80.0 s | 1.02x | 0.90 GB | 0.90 GB | 1.25 GB | 170 s | 80.0 s | 60.0 s | 30.0 s |" in said
    )
    assert said.count(": none.") == 6 and "100 polls half were answered within 100 ms" in said and "met" in said


def test_targets_that_are_missed():
    bad = replace(ROW, ours=Usage(100.0, 1.0, 1_600_000_000), disk_bytes=1_300_000_000, is_same=False)
    said = report([bad], Waits(8, 100, 0.1, 0.4, 2.0, 5), {})
    assert "1.15 times the ideal: linear (1.25x)" in said and "as fast as by hand: linear (1.7x)" in said
    assert "than the limit: linear" in said and "1.5 GB: linear" in said and "merge of folders: linear" in said
    assert "95 of 100 within 400 ms (target: 300 ms, missed)" in said


def test_what_is_read_twice_is_told():
    said = report([replace(ROW, ours=replace(USED, wall=99.0), read_bytes=9_000_000_000)], None, {})
    assert "tensor: linear (9.00 GB for 7.50 GB; 1.04x the ideal for these)" in said  # 99 of 5 + 75 * 1.2


def test_what_was_not_measured_is_not_told():
    said = report([replace(ROW, theirs=None)], None, {})
    assert "By hand: not measured" in said and "polls" not in said
    for block in said.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
