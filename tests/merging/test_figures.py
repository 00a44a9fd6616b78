"""Pictures can be drawn of every diagnosis, and their sentences say what the numbers are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from merging.diagnostics.diagnosis import Diagnosis
from merging.diagnostics.entries import histogram, read_entries
from merging.figures import delta_histogram, pictures, write_pictures
from tests.merging.diagnostics.diagnosed import LAYERS, made, noise, run
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Diagnosis:
    base = noise()
    path, paths = made(tmp_path_factory.mktemp("models"), base, fine_tunes(base, 3, by=0.001))
    found: Diagnosis = run(recipe_of("task_arithmetic", paths, path, weight=0.5))
    return found


@pytest.mark.parametrize("dark", [False, True])
def test_all_pictures(found, dark, tmp_path):
    drawn = pictures(found, dark=dark)
    names = ["cosine", "size-by-layer-and-role", "energy", "conflict-by-layer-and-role", "merge-by-layer-and-role"]
    assert [p.name for p in drawn] == names
    paths = write_pictures(drawn, tmp_path / "plots")
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    assert all(p.sentence.endswith(".") and p.title for p in drawn)


def test_sentences_say_what_the_numbers_are(found):
    cosine, size, energy, conflict, merge = pictures(found)
    assert "if its parents were unrelated" in merge.sentence
    assert "nearly at right angles" in cosine.sentence and "spread like noise" in energy.sentence
    assert "as unrelated task vectors do" in conflict.sentence and "the base's norm there" in size.sentence
    alike = replace(found.whole, pairs=tuple(replace(p, cosine=0.8, conflict_weighted=0.2) for p in found.whole.pairs))
    cosine, _, _, conflict, _ = pictures(replace(found, whole=alike))
    assert "learned partly the same" in cosine.sentence and "partly learned the same" in conflict.sentence


def test_pictures_of_models_that_changed_nothing(tmp_path):
    base = noise()
    path, paths = made(tmp_path, base, [base, base])
    drawn = pictures(run(recipe_of("ties", paths, path, weight=1.0)))
    assert all(p.png().startswith(PNG) for p in drawn)
    assert [p.sentence for p in drawn if p.name == "energy"] == ["No model changed anything."]


def test_pictures_without_a_base(tmp_path):
    paths = [write_model(tmp_path / f"m{i}", t, LAYERS) for i, t in enumerate(fine_tunes(noise(), 2))]
    (cosine,) = pictures(run(recipe_of("linear", paths, weight=1.0)))
    assert "give a base_model" in cosine.sentence and cosine.png().startswith(PNG)


def test_one_fine_tune_has_no_pairs(tmp_path):
    base = noise()
    path, paths = made(tmp_path, base, fine_tunes(base, 1))
    assert [p.name for p in pictures(run(recipe_of("slerp", paths, path, t=0.5)))] == [
        "size-by-layer-and-role",
        "energy",
        "merge-by-layer-and-role",
    ]


@pytest.mark.parametrize("method", ["ties", "tsv"])
def test_the_histogram_of_a_tensor(tmp_path, method):
    base = noise({"a.weight": (700, 100)} if method == "tsv" else {"a.weight": (20, 10)})
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), config={})
    recipe = recipe_of(method, paths, path, **({"weight": 1.0, "density": 0.1} if method == "ties" else {}))
    drawn = delta_histogram(histogram(read_entries(recipe, opened(recipe), "a.weight", 60_000), method))
    assert drawn.png().startswith(PNG)
    assert ("needs the whole matrix" if method == "tsv" else "leaves") in drawn.sentence


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, merging.figures, merging.diagnostics.tables; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr
