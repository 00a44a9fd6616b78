"""What a kill leaves: the same merge goes on from its last complete shard, and ends with the same bytes."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
import torch

from merging.checkpoint import Folder
from merging.engine import merge
from merging.errors import MergeError, Passing
from merging.journal import Journal
from merging.recipe import to_yaml
from tests.merging.killed import FINE, REFUSED, SMALL, merge_disturbed, run, written
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

ROOT = Path(__file__).parents[2]
SAMPLE = (1, 13, 33)  # of the calls to the system; all of them in `make soak`


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    g = torch.Generator().manual_seed(0)
    base = {f"w{i}": torch.randn(100, 100, generator=g) for i in range(3)}
    (tune,) = fine_tunes(base, 1)
    return write_model(folder / "base", base), write_model(folder / "tune", tune)


@pytest.fixture
def recipe(models):
    return recipe_of("task_arithmetic", [models[1]], models[0], weight=0.5)


@pytest.fixture
def expected(recipe, tmp_path):
    list(merge(recipe, opened(recipe), tmp_path / "expected", SMALL))
    return written(tmp_path / "expected")


def go_on(recipe, out, **more):
    """What was said."""
    return [step.note for step in merge(recipe, opened(recipe), out, SMALL, **more) if step.note]


def killed(recipe, out, at, how="kill"):
    out.parent.mkdir(exist_ok=True)
    return run(merge_disturbed, to_yaml(recipe), out, at, how)


def complete(out):
    return sorted(p.name for p in out.parent.glob(f".{out.name}.*/*.safetensors"))


def disturbances(request):
    return itertools.count(1) if request.config.getoption("--soak") else SAMPLE


@pytest.mark.parametrize("how", ["kill", "torn", "entry"])
def test_killed_at_any_call_it_goes_on_and_ends_the_same(recipe, expected, tmp_path, how, request):
    for at in disturbances(request):
        out = tmp_path / f"work-{at}" / "out"
        status = killed(recipe, out, at, how)
        assert status in (FINE, -signal.SIGKILL)
        if status == FINE:
            break
        if not out.exists():
            go_on(recipe, out)
        assert written(out) == expected, f"killed at call {at}"
        assert not list(out.parent.glob(".out*.partial")), f"killed at call {at}"


def test_a_disk_that_fails_at_any_call_leaves_nothing_or_the_whole(recipe, expected, tmp_path, request):
    for at in disturbances(request):
        out = tmp_path / f"work-{at}" / "out"
        status = killed(recipe, out, at, "fail")
        assert status in (FINE, REFUSED)
        if status == REFUSED and not out.exists():  # else only what came after its place was taken has failed
            go_on(recipe, out)
        assert written(out) == expected
        if status == FINE:
            break


@pytest.fixture
def half(recipe, tmp_path):
    """A merge that was killed when its second shard of three was complete."""
    out = tmp_path / "work/out"
    assert killed(recipe, out, 3, "entry") == -signal.SIGKILL
    assert len(complete(out)) == 2
    return out


def test_what_is_complete_is_not_made_again(recipe, expected, half):
    (folder,) = half.parent.glob(".out.*.partial")
    before = {p.name: p.stat().st_ino for p in folder.glob("*.safetensors")}
    assert go_on(recipe, half) == ["Going on where an earlier run was stopped: 2 of 3 shards are done."]
    assert {name: (half / name).stat().st_ino for name in before} == before
    assert written(half) == expected
    assert [p.name for p in half.parent.iterdir()] == ["out"]


def test_a_complete_shard_that_was_changed_is_made_again(recipe, expected, half):
    path = next(half.parent.glob(".out.*/*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    go_on(recipe, half)
    assert written(half) == expected


@pytest.mark.parametrize("other", ["recipe", "layout", "model"])
def test_what_another_merge_left_is_said_and_not_touched(recipe, half, other, models):
    theirs = {p: p.read_bytes() for p in half.parent.rglob("*") if p.is_file()}
    options = SMALL
    if other == "recipe":
        recipe = recipe_of("task_arithmetic", [models[1]], models[0], weight=0.25)
    elif other == "layout":
        options = replace(SMALL, shard_bytes=60_000 * 3)
    else:
        os.utime(models[1] / "model.safetensors", (1, 1))
    notes = [s.note for s in merge(recipe, opened(recipe), half, options) if s.note]
    assert len(notes) == 1 and "is of another merge, and is left as it is" in notes[0]
    assert {p: p.read_bytes() for p in theirs} == theirs


def test_the_same_merge_twice_at_once_is_refused(recipe, tmp_path):
    steps = merge(recipe, opened(recipe), tmp_path / "out", SMALL)
    next(steps)
    with pytest.raises(MergeError, match="under way in another process"):
        go_on(recipe, tmp_path / "out")
    steps.close()
    assert not list(tmp_path.glob(".out*"))


def test_a_process_that_is_being_started_holds_up_a_journal_for_a_moment_only(tmp_path):
    closed = Journal(tmp_path / "journal")
    copy = os.dup(closed.handle)  # what a fork has until it becomes another program
    closed.close()
    Timer(0.1, os.close, [copy]).start()
    Journal(tmp_path / "journal").close()


def test_leaving_a_merge_that_went_on_removes_all_of_it(recipe, half):
    steps = merge(recipe, opened(recipe), half, SMALL)
    next(steps)
    steps.close()
    assert list(half.parent.iterdir()) == []


class Away(Folder):
    def read_into(self, file, start, into):
        raise Passing("The Hub is away.")


def test_a_fault_that_passes_keeps_what_is_complete(recipe, expected, half):
    broken = {ref: replace(c, source=Away(Path(c.label))) for ref, c in opened(recipe).items()}
    with pytest.raises(Passing, match=r"The Hub is away. 2 finished shards are kept"):
        list(merge(recipe, broken, half, SMALL))
    go_on(recipe, half)
    assert written(half) == expected


def test_a_line_that_was_cut_off_never_was(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.add("plan", digest="x")
    journal.add("shard", file="a")
    journal.close()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"kind": "shard", "fi')
    again = Journal(tmp_path / "journal")
    assert [e["kind"] for e in again.entries] == ["plan", "shard"]
    again.add("shard", file="b")
    again.close()
    later = Journal(tmp_path / "journal")
    assert [e.get("file") for e in later.entries] == [None, "a", "b"]
    later.close()


def test_from_the_command_line(recipe, expected, half):
    (half.parent / "recipe.yaml").write_text(to_yaml(recipe))
    command = [sys.executable, "-m", "merging", "merge", half.parent / "recipe.yaml", half, "--shard-size", "50kB",
               "--device", "cpu"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Going on where an earlier run was stopped: 2 of 3 shards" in done.stderr
    assert written(half)["merge_report.json"]["shards"] == expected["merge_report.json"]["shards"]
