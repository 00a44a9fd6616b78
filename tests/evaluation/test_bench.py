"""What is scored is the same however it is made, and is scored once."""

import sqlite3

import pytest

from evaluation.bench import Bench
from evaluation.cache import Cache
from evaluation.examine import at_once
from evaluation.marks import Marks
from evaluation.scoring import Scoring
from evaluation.subject import Subject, compared, ensemble, identity_of, model_alone
from merging.errors import MergeError
from merging.recipe import parse_recipe
from tests.evaluation.conftest import few, opened, ref
from tests.evaluation.made_up import mark

HELD_OUT = few(5, "reverse", "add")


def merge(weight=0.7):
    models = "".join(f"\n  - {{model: {ref(one)}, parameters: {{weight: {weight}}}}}" for one in ("reverse", "add"))
    return Subject("merge", parse_recipe(f"merge_method: task_arithmetic\nbase_model: {ref('base')}\nmodels:{models}"))


@pytest.fixture
def bench():
    made = Bench(opened("base", "reverse", "add"), memory_bytes=10**9)
    yield made
    made.close()


def scored(bench, subject) -> Marks:
    return at_once(bench.marks(subject, HELD_OUT))


def test_in_memory_on_disk_and_offloaded_a_merge_scores_the_same(bench):
    in_memory = scored(bench, merge())
    assert bench.live is not None
    on_disk = Bench(bench.checkpoints, memory_bytes=10**9, streaming=True)
    offloaded = Bench(bench.checkpoints, memory_bytes=400_000, streaming=True)
    assert in_memory == scored(on_disk, merge())
    for mine, other in zip(scored(offloaded, merge()), in_memory, strict=True):
        assert mine.nll == pytest.approx(other.nll, abs=1e-4) and mine.exact == other.exact


def test_where_memory_is_short_a_merge_goes_to_disk(bench):
    bench.memory_bytes = 1_000_000
    scored(bench, merge())
    assert bench.live is None


def test_models_ensemble_and_soup_are_there_to_compare(bench):
    subjects = compared(merge())
    assert [one.label.rpartition("/")[2] for one in subjects] == [
        "merge", "pocket-base", "pocket-reverse", "pocket-add", "uniform soup", "ensemble",
    ]  # fmt: skip
    marks = {one.label: scored(bench, one) for one in subjects[3:]}
    shares = {label: sum(one.exact for one in found) for label, found in marks.items()}
    assert shares[str(ref("add"))] >= 5 and len(marks["ensemble"]) == 10


def test_what_was_scored_is_not_scored_again(tmp_path, bench):
    bench.cache = Cache(tmp_path / "of" / "scores.sqlite")
    first = list(bench.marks(merge(), HELD_OUT))
    assert isinstance(first[0], Scoring)
    assert list(bench.marks(merge(), HELD_OUT)) == []
    assert list(bench.marks(merge(0.6), HELD_OUT)) != []
    assert list(bench.marks(merge(), few(4, "add"))) != []


def test_the_identity_is_that_of_what_computes(bench, tmp_path):
    checkpoints = bench.checkpoints
    names = {
        identity_of(one, checkpoints)
        for one in (merge(), merge(0.6), model_alone(ref("add")), ensemble(merge().recipe))
    }
    assert len(names) == 4
    renamed = Subject("another label", merge().recipe)
    assert identity_of(renamed, checkpoints) == identity_of(merge(), checkpoints)


def test_another_chat_template_is_another_model(tmp_path):
    import shutil

    from merging.opening import open_folder
    from merging.recipe import ModelRef

    folder = tmp_path / "model"
    shutil.copytree(ref("add").path, folder)
    mine = ModelRef(str(folder))
    before = identity_of(model_alone(mine), {mine: open_folder(mine)})
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert identity_of(model_alone(mine), {mine: open_folder(mine)}) != before


def test_a_broken_file_of_scores_is_told(tmp_path):
    (tmp_path / "scores").write_bytes(b"no database at all" * 100)
    with pytest.raises(MergeError, match=r"cannot be used.*Remove the file"):
        Cache(tmp_path / "scores").find("a", "b")


def test_old_scores_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.cache.KEPT", 2)
    cache = Cache(tmp_path / "scores")
    for name in "abc":
        cache.keep(name, "set", (mark(),))
    assert cache.find("a", "set") is None and cache.find("c", "set") == (mark(),)
    with sqlite3.connect(cache.file) as db:
        assert db.execute("SELECT count(*) FROM marks").fetchone() == (2,)
    db.close()
