import threading

import pytest

from merging.errors import SignedOut
from space.expiry import Expiry
from space.jobs import Jobs
from space.places import Places
from space.votes import LIVE, Vote, Votes

KEEP = 1000.0


@pytest.fixture
def queue(tmp_path):
    """Jobs that are called "wait" wait for a sign-in, those called "run" run until told, others end at once."""
    told = threading.Event()

    def run(job, report):
        if job.title == "wait":
            raise SignedOut("Sign in again.")
        if job.title == "run":
            told.wait(10)
        (report.folder / "weights").write_text("many")
        return {}

    jobs = Jobs(tmp_path / "journal.sqlite", run, places=Places(9))
    yield jobs
    told.set()
    jobs.close()


def later(queue, seconds, let_go=lambda folder: True):
    """An expiry that finds that so many seconds have passed since now."""
    import time

    now = time.time()
    return Expiry(queue, KEEP, let_go, Votes(queue.root.parent / "journal.sqlite"), clock=lambda: now + seconds)


def ended(queue, title="end", kind="merge", **payload):
    return queue.wait(queue.submit("hf:1", kind, title, payload).id, 10)


def ids(queue):
    return {job.id for job in queue.list("hf:1")}


def test_what_has_ended_goes_after_its_time_and_not_before(queue):
    job = ended(queue)
    later(queue, KEEP - 60).sweep()
    assert ids(queue) == {job.id} and (queue.folder(job.id) / "weights").exists()
    later(queue, KEEP + 60).sweep()
    assert ids(queue) == set() and not queue.folder(job.id).exists()


def test_votes_and_their_prompts_go_with_what_they_are_on(queue):
    job, votes = ended(queue), Votes(queue.root.parent / "journal.sqlite")
    for page in (job.id, LIVE):
        votes.add("hf:1", page, Vote("a", "b", "left", ("what I asked",)))
    later(queue, KEEP - 60).sweep()
    assert len(votes.of("hf:1", job.id)) == len(votes.of("hf:1", LIVE)) == 1
    later(queue, KEEP + 60).sweep()
    assert votes.of("hf:1", job.id) == votes.of("hf:1", LIVE) == []
    votes.close()


def test_what_runs_stays_and_so_does_the_merge_that_it_needs(queue):
    merge, other = ended(queue), ended(queue)
    running = queue.submit("hf:1", "publish", "run", {"merge": merge.id})
    later(queue, KEEP + 60).sweep()
    assert ids(queue) == {merge.id, running.id} and other.id not in ids(queue)
    assert (queue.folder(merge.id) / "weights").exists()


def test_a_model_that_somebody_talks_with_stays(queue):
    busy, idle = ended(queue), ended(queue)
    later(queue, KEEP + 60, let_go=lambda folder: folder.parent.name != busy.id).sweep()
    assert ids(queue) == {busy.id} and idle.id not in ids(queue)


def test_who_does_not_come_back_to_sign_in_is_not_waited_for_for_ever(queue):
    job = queue.submit("hf:1", "merge", "wait", {}, secret="token", needs_secret=True)
    while queue.get(job.id, "hf:1").state != "waiting":
        pass
    later(queue, KEEP - 60).sweep()
    assert ids(queue) == {job.id}
    later(queue, KEEP + 60).sweep()
    assert ids(queue) == set() and not queue.folder(job.id).exists()


def test_it_looks_by_itself_until_it_is_closed(queue):
    job = ended(queue)
    expiry = later(queue, KEEP + 60)
    expiry.start()
    while job.id in ids(queue):
        pass
    expiry.close()
    assert not expiry.thread.is_alive()
