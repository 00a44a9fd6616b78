"""What computes for long leaves the processor to the page."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from space.chat import ChatOptions, Chats, Pane
from space.jobs import Jobs
from space.models import Models
from space.priority import NICE, give_way
from space.worker import run_apart
from tests.space.tiny import make_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own here")


def niceness(*given):
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def nice_job(job, report):
    return {"nice": niceness()}


def test_a_thread_and_those_it_starts_give_way_and_no_other():
    before = niceness()

    def compute():
        give_way()
        with ThreadPoolExecutor(1) as pool:
            return niceness(), pool.submit(niceness).result()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(compute).result() == (NICE, NICE)
    assert niceness() == before


def test_merges_give_way(tmp_path):
    queue = Jobs(tmp_path / "journal.sqlite", lambda job, report: run_apart(nice_job, job, report))
    assert queue.wait(queue.submit("ada", "merge", "title", {}).id, 60).result == {"nice": NICE}
    queue.close()


def test_answers_give_way(tmp_path):
    folder, seen = make_model(tmp_path / "one", seed=1), set()
    models = Models(10**9, 600, tmp_path / "scratch")

    def files(tell):
        seen.add(niceness())
        return [folder]

    list(Chats(models).ask([Pane("one", files)], [[{"role": "user", "content": "hello"}]], ChatOptions()))
    models.close()
    assert seen == {NICE}
