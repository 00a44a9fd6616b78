"""The process of a merge: what it says arrives, and it does not outlive the app."""

import os
import signal
import time

import pytest

from merging.errors import Kept, MergeError, SignedOut
from space import worker
from space.jobs import Jobs
from space.turns import Turns, no_turn
from space.worker import context, run_apart, serve


def count(job, report):
    report.log("began")
    report.progress(1, 1, "last")
    return {"secret": report.secret, "apart": os.getpid() != job.payload["pid"]}


def wait_for_ever(job, report):
    while True:
        report.progress(0, 1, "waiting")
        time.sleep(0.01)


def deaf(job, report):
    report.log("began")
    time.sleep(60)


def killed(job, report):
    os.kill(os.getpid(), signal.SIGKILL)


def refused(job, report):
    raise {"out": SignedOut, "kept": Kept, "else": MergeError}[job.title](f"no {report.secret}")


def broken(job, report):
    return 1 / 0


def uses_the_accelerator(job, report):
    report.progress(1, 4, "begins")
    with report.turn():
        report.log("has it")
        while not (report.folder / "enough").exists():
            time.sleep(0.01)
    return {}


def dies_with_the_accelerator(job, report):
    with report.turn():
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def jobs(tmp_path):
    made = []

    def make(task, turn=no_turn):
        made.append(Jobs(tmp_path / "journal.sqlite", lambda job, report: run_apart(task, job, report, turn)))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


def submit(queue, title="title"):
    return queue.submit("ada", "merge", title, {"pid": os.getpid()}, secret="hf_canary1234567890")


def test_what_it_says_arrives(jobs):
    queue = jobs(count)
    job = queue.wait(submit(queue).id, 60)
    assert job.state == "done" and job.result == {"secret": "hf_canary1234567890", "apart": True}
    assert "began" in queue.log(job.id, "ada")[0]


@pytest.mark.parametrize("task", [wait_for_ever, deaf])
def test_it_is_stopped_within_two_seconds_even_if_it_does_not_listen(jobs, task):
    queue = jobs(task)
    job = submit(queue)
    while queue.get(job.id, "ada").detail != "waiting" and not queue.log(job.id, "ada"):
        time.sleep(0.01)
    began = time.monotonic()
    queue.cancel(job.id, "ada")
    assert queue.wait(job.id, 10).state == "cancelled" and time.monotonic() - began < 2.5


@pytest.mark.parametrize(("title", "state"), [("out", "waiting"), ("kept", "failed"), ("else", "failed")])
def test_errors_stay_what_they_are_and_tell_no_token(jobs, title, state):
    queue = jobs(refused)
    job = submit(queue, title)
    while queue.get(job.id, "ada").state in ("queued", "running"):
        time.sleep(0.01)
    ended = queue.get(job.id, "ada")
    assert ended.state == state and "no [token]" in ended.error
    assert queue.folder(job.id).exists() is (title != "else")


def test_a_process_that_dies_again_and_again_is_given_up(jobs):
    queue = jobs(killed)
    job = queue.wait(submit(queue).id, 60)
    assert job.state == "failed" and "was killed, perhaps for want of memory" in job.error
    assert len(queue.log(job.id, "ada")) == worker.DEATHS - 1


def waiting_for(queue, job, *, detail):
    while (now := queue.get(job.id, "ada")).detail != detail:
        assert now.active, now.error
        time.sleep(0.01)


def test_it_waits_for_its_turn_and_others_for_it(jobs):
    turns = Turns()
    ahead: list[int] = []
    queue = jobs(uses_the_accelerator, turns.turn)
    with turns.turn(ahead.append):
        job = submit(queue)
        waiting_for(queue, job, detail="Waiting for the accelerator: 1 ahead")
        assert queue.log(job.id, "ada") == [] and queue.get(job.id, "ada").done_bytes == 1
    while not queue.log(job.id, "ada"):
        time.sleep(0.01)

    def wait(number):
        ahead.append(number)
        (queue.folder(job.id) / "enough").touch()

    with turns.turn(wait):
        assert ahead[0] == 1
    assert queue.wait(job.id, 10).state == "done" and not turns.line


def test_who_is_cancelled_while_it_waits_leaves_the_line(jobs):
    turns = Turns()
    queue = jobs(uses_the_accelerator, turns.turn)
    with turns.turn(lambda ahead: None):
        job = submit(queue)
        waiting_for(queue, job, detail="Waiting for the accelerator: 1 ahead")
        queue.cancel(job.id, "ada")
        assert queue.wait(job.id, 10).state == "cancelled" and len(turns.line) == 1


def test_a_process_that_dies_gives_its_turn_back(jobs):
    turns = Turns()
    queue = jobs(dies_with_the_accelerator, turns.turn)
    assert queue.wait(submit(queue).id, 60).state == "failed" and not turns.line


def test_a_bug_is_logged_and_not_shown(jobs, caplog):
    queue = jobs(broken)
    job = queue.wait(submit(queue).id, 60)
    assert "went wrong on our side" in job.error and "ZeroDivisionError" in caplog.text


def test_it_ends_when_the_app_is_gone(tmp_path):
    near, far = context().Pipe()
    process = context().Process(target=serve, args=(far, deaf, None, tmp_path, None))
    process.start()
    far.close()
    assert near.recv() == ("log", "began")
    near.close()  # as the system does when the app is killed
    process.join(5)
    assert process.exitcode == 1
