"""What an inspection shows: every number beside its null value, and nothing from outside as HTML."""

import re
from dataclasses import replace

import pytest

from merging.diagnostics import Advice, Diagnosis, advise
from merging.diagnostics.entries import Histogram
from merging.diagnostics.numbers import Model, Pair, Part
from space import inspect_view

EVIL = "<script>alert(1)</script>"
ENERGY = (0.01, 0.02, 0.04, 0.08, 0.13, 0.28, 0.44, 0.65, 0.78, 0.86, 0.92, 0.96, 0.98, 0.99, 1.0, 1.0)
PAIR = Pair(0, 1, 0.25, 0.1, 2.0, 0.9, 0.4, 0.3, 0.05, 0.04, 0.02, 0.02)


def part(name, layer=None, role=None, size=0.1):
    models = tuple(Model(size * (1 + i), 0.25, ENERGY, 0.2) for i in range(2))
    return Part(name, layer, role, 1000, 1000, models, (PAIR,), 0.12, 0.1, 0.03)


def made(layers=2, *, has_base=True, names=("ada/one", "ada/two")):
    cells = tuple(part(f"layer {i}, mlp", i, "mlp", 0.01 * (i + 1)) for i in range(layers))
    tops = tuple(part(f"layer {i}", i) for i in range(layers))
    tensors = (part("a.weight", 0, "mlp", 0.01), part("b.weight", 1, "mlp", 0.02))
    return Diagnosis(
        "ties", "ada/base", has_base, names, 0.2, False, 12_000, "", tensors, tops, (part("mlp", None, "mlp"),), cells,
        part("all tensors"),
    )  # fmt: skip


FILES = {"diagnosis.csv": ("download/1/diagnosis.csv", 2000), "energy.png": ("download/1/energy.png", 30_000)}


def test_every_number_stands_over_its_null_value():
    shown = inspect_view.report(made(), (), FILES)
    assert "one and two beside base" in shown and "Every one of 1,000 entries" in shown
    for value, null in (("0.2500", "0 ± 0.03"), ("40.0 %", "50.0 %"), ("30.0 %", "50.0 %"), ("5.00 %", "4.00 %"),
                        ("25.0 %", "0.0 %"), ("65.0 %", "65.0 %"), ("28.0 %", "27.9 %"),
                        ("10.0 %", "141.4 %"), ("2.00", "1")):  # fmt: skip
        assert f">{value}<small>null {null}</small>" in shown
    assert 'href="download/1/diagnosis.csv" download>' in shown and "30.0 kB" in shown


def test_each_picture_has_its_sentence():
    shown = inspect_view.report(made(), (), {})
    found = re.findall(r'<figure id="inspect-(\w+)"><figcaption><h3>[^<]+</h3><p class="help">([^<]+)</p>', shown)
    assert [name for name, _ in found] == ["cosine", "size", "energy", "conflict", "merge"]
    assert all(sentence.endswith(".") for _, sentence in found)
    assert '<td class="hot half far" style="--v:1.00">4.00 %</td>' in shown  # the largest of both maps
    assert "stroke" not in shown and 'class="c2"' in shown  # colours are those of the page, so they follow the dark


def test_layers_that_are_many_have_their_numbers_as_titles():
    shown = inspect_view.report(made(40), (), {})
    assert 'class="heat many"' in shown and 'title="80.0 %"></td>' in shown
    assert len(shown) < 40_000


def test_without_a_base_only_what_can_be_told_is_shown():
    bare = replace(made(has_base=False), whole=replace(part("all tensors"), models=()))
    shown = inspect_view.report(bare, (), {})
    assert "choose one to see what each model changed" in shown and "Distance" in shown
    assert re.findall(r'<figure id="inspect-(\w+)"', shown) == ["cosine"] and "Relative size" not in shown


def test_advice_has_its_source():
    advice = (Advice("They are far.", "Take less.", "https://arxiv.org/abs/2408.03092"),
              Advice("They are equal.", "Take one.", "arithmetic"))  # fmt: skip
    shown = inspect_view.report(made(), advice, {})
    assert '<a href="https://arxiv.org/abs/2408.03092" target="_blank" rel="noopener">arXiv 2408.03092</a>' in shown
    assert "Follows from the formula alone." in shown and "speaks against" not in shown
    assert "speaks against" in inspect_view.report(made(), (), {})
    assert "fewer than" not in inspect_view.report(made(), advise(made()), {})


def changed(**more):
    shares = ((0.1, 0.3, 0.1),), (0.0, 0.2, 0.0)
    found = Histogram("a.weight", "ties", ("one",), (-2.0, -1.0, 1.0, 2.0), *shares, (0.5,), 0.8, 0.5, 1000, 4000)
    return replace(found, **more)


def test_a_histogram_has_one_scale():
    shown = inspect_view.changes(changed(), {"Download CSV": "changes/1/csv/a.weight"})
    assert re.findall(r'height="([\d.]+)"', shown) == ["33.3", "100.0", "33.3", "66.7"]
    assert "after ties" in shown and "80.0 % unchanged" in shown and "\N{MINUS SIGN}2<" in shown
    assert '<a href="changes/1/csv/a.weight" download>Download CSV</a>' in shown
    still = changed(before=((0.0,) * 3,), after=(0.0,) * 3)
    assert "No model changed it" in inspect_view.changes(still, {}) and "<svg" not in inspect_view.changes(still, {})


@pytest.mark.parametrize(
    "shown",
    [inspect_view.report(made(names=(EVIL, "two")), (Advice(EVIL, EVIL, EVIL),), {EVIL: (EVIL, 1)}),
     inspect_view.changes(changed(tensor=EVIL, models=(EVIL,), method=EVIL), {EVIL: EVIL})],
)  # fmt: skip
def test_nothing_from_outside_is_html(shown):
    assert "<script" not in shown and "&lt;script" in shown
