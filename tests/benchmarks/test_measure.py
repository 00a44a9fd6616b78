"""Measured processes have the figures they must have."""

import time
from pathlib import Path

import pytest

from benchmarks.measure import PLAIN, CommandFailed, measure, measure_floor, warm

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_a_process_that_waits():
    used = measure([*PLAIN, "-c", "import time; time.sleep(0.3)"])
    assert 0.3 <= used.wall < 5
    assert used.cpu < 0.2
    assert 3e6 < used.peak_bytes < 50e6  # of that process, not of this one with torch in it


def test_a_process_that_computes():
    used = measure([*PLAIN, "-c", BURN])
    assert 0.3 <= used.cpu < 1
    assert used.wall >= used.cpu - 0.05


def test_a_process_that_takes_memory():
    used = measure([*PLAIN, "-c", "x = bytearray(200_000_000)"])
    assert 200e6 < used.peak_bytes < 250e6


def test_folder_and_environment_are_as_given(tmp_path: Path):
    write = "import os; open(os.environ['NAME'], 'w').close()"
    measure([*PLAIN, "-c", write], cwd=tmp_path, env={"NAME": "here"})
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


def test_failure_says_what_the_process_said():
    with pytest.raises(CommandFailed, match=r"(?s)code 3:.*no such model"):
        measure([*PLAIN, "-c", "import sys; print('no such model'); sys.exit(3)"])


def test_a_program_that_is_not_there():
    with pytest.raises(CommandFailed, match="could not be run"):
        measure(["./no-such-program"])


def test_a_process_that_takes_too_long_is_stopped(tmp_path: Path):
    started, mark = time.monotonic(), tmp_path / "mark"
    with pytest.raises(CommandFailed, match=r"stopped after 0\.5 seconds"):
        measure([*PLAIN, "-c", f"import time; time.sleep(1); open({str(mark)!r}, 'w').close()"], seconds=0.5)
    assert time.monotonic() - started < 10
    time.sleep(1)
    assert not mark.exists()


def test_the_floor_writes_as_much_as_asked_and_removes_it(tmp_path: Path):
    model = tmp_path / "model"
    model.write_bytes(bytes(20_000_000))
    warm([model])
    assert measure_floor([model, model], tmp_path / "out", 10_000_001).wall > 0
    assert not (tmp_path / "out").exists()
