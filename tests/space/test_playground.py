"""The playground: what is typed is read as it is meant, and every step of a method is shown with its numbers."""

import re

import numpy as np
import pytest

from merging.diagnostics.entries import Entries
from merging.errors import MergeError
from merging.walkthrough import WALKS, walk
from space.playground import COLUMNS, FIRST, Play, read_numbers, share_label, shown, typed

EVIL = "<script>alert(1)</script>"


def titles(html):
    return re.findall(r"<h3>([^<]+)</h3>", html)


@pytest.mark.parametrize("method", WALKS)
def test_every_step_is_shown_with_its_sentence(method):
    html = shown(Play(FIRST, method))
    base, *models = read_numbers(FIRST)
    used = models[:1] if method == "slerp" else models
    found = walk(method, base.values, [m.values for m in used], Play(FIRST, method).parameters(len(used)))
    assert titles(html) == [step.title for step in found.steps] and html.count('<p class="help">') == len(found.steps)
    last = re.findall(r"<td[^>]*>([^<]+)</td>", html)[-len(found.result) :]
    assert [float(text.replace("\N{MINUS SIGN}", "-")) for text in last] == pytest.approx(found.result, rel=0.01)


def test_a_slider_changes_what_comes_out():
    assert len({shown(Play(FIRST, "ties", first=by)) for by in (-1.0, 0.5, 1.0)}) == 3
    assert shown(Play(FIRST, "task_arithmetic", share=0.1)) == shown(Play(FIRST, "task_arithmetic", share=0.9))
    assert shown(Play(FIRST, "slerp", share=0.1)) != shown(Play(FIRST, "slerp", share=0.9))
    assert share_label("ties") == "Density" and not share_label("task_arithmetic") and "(0)" in share_label("slerp")


def test_numbers_may_be_parted_by_anything():
    found = read_numbers("1, 2;3\n\n the: one : 1e-3 -2 \t+3\n4 5 6")
    assert [(line.label, line.values) for line in found] == [
        ("base", (1, 2, 3)), ("the: one", (0.001, -2, 3)), ("model 2", (4, 5, 6)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "0 lines"), ("1 2", "1 line cannot"), ("1 2\n1", "The base has 2 numbers, model 1 has 1"),
     ("1\nb: x", "'x' in the line of b is no number"), ("1\n" * 10, "10 lines"), ("a:\nb:", "0 numbers in a line"),
     ("1 " * (COLUMNS + 1) + "\n" + "1 " * (COLUMNS + 1), "17 numbers in a line"), ("1" * 5000, "5,000 characters"),
     ("1\nnan", "not finite"), ("1\n1e300", "not finite")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_its_place(text, words):
    html = shown(Play(text, "ties"))
    assert words in html.replace("&#x27;", "'") and 'class="note error"' in html and titles(html) == []


def test_a_method_without_a_walk_is_refused():
    with pytest.raises(MergeError, match="'tsv' cannot be walked through"):
        Play(FIRST, "tsv")


def test_entries_of_a_tensor_are_typed_as_somebody_would():
    wide = np.array([[0.5, -0.25], [0.50390625, 1e-9]], np.float32)
    text = typed(Entries("a", ("with: colon",), wide, (2,), 2, None))
    assert text == "base: 0.5 -0.25\nwith  colon: 0.50390625 1e-09"
    assert [line.values for line in read_numbers(text)] == [(0.5, -0.25), (0.50390625, 1e-9)]


def test_names_are_text():
    html = shown(Play(f"0 1\n{EVIL}: 1 2", "ties"))
    assert "<script" not in html and "&lt;script" in html
