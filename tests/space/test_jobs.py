import logging
import threading
import time

import pytest

from merging.errors import MergeError
from space.jobs import Jobs
from space.places import Places


@pytest.fixture
def queue(tmp_path):
    """Makes queues on one journal, and closes them."""
    made = []

    def make(run=lambda job, report: {}, **options):
        made.append(Jobs(tmp_path / "journal.sqlite", run, **options))
        return made[-1]

    yield make
    for jobs in made:
        if not jobs.closing.is_set():
            jobs.close()


def steps(job, report):
    """A job that can be stopped between any two of its steps."""
    (report.folder / "half").write_text("made")
    for done in range(2000):
        report.progress(done, 0, "step")
        time.sleep(0.005)
    return {}


def until(jobs, id, state, owner="ada"):
    end = time.monotonic() + 10
    while jobs.get(id, owner).state != state:
        assert time.monotonic() < end, jobs.get(id, owner)
        time.sleep(0.005)


def test_a_job_reports_logs_and_ends(queue):
    def run(job, report):
        report.log("halfway")
        report.progress(10, 10, "last")
        (report.folder / "out").write_text(report.secret)
        return {"folder": str(report.folder)}

    jobs = queue(run)
    job = jobs.submit("ada", "merge", "title", {"n": 1}, secret="token")
    done = jobs.wait(job.id, 10)
    assert (done.state, done.done_bytes, done.title, done.payload) == ("done", 10, "title", {"n": 1})
    assert (jobs.folder(job.id) / "out").read_text() == "token"
    assert jobs.log(job.id, "ada")[0].endswith("halfway")
    assert not jobs.secrets


def test_what_the_user_can_put_right_is_shown_and_a_bug_is_not(queue, caplog):
    def run(job, report):
        (report.folder / "half").write_text("made")
        raise MergeError("a/b is gated.") if job.title == "user" else KeyError("inner secret")

    jobs = queue(run)
    user, bug = (jobs.submit("ada", "merge", title, {}) for title in ("user", "bug"))
    with caplog.at_level(logging.CRITICAL, "space.jobs"):
        assert jobs.wait(user.id, 10).error == "a/b is gated."
        failed = jobs.wait(bug.id, 10)
    assert failed.state == "failed"
    assert failed.error == f"Something went wrong on our side (job {bug.id})."
    assert not jobs.folder(user.id).exists()


def test_a_bug_is_logged_with_its_job_and_trace(queue, caplog):
    jobs = queue(lambda job, report: 1 / 0)
    job = jobs.submit("ada", "merge", "", {})
    jobs.wait(job.id, 10)
    assert job.id in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_running_job_stops_and_leaves_nothing(queue):
    jobs = queue(steps)
    job = jobs.submit("ada", "merge", "", {})
    until(jobs, job.id, "running")
    jobs.cancel(job.id, "ada")
    assert jobs.wait(job.id, 10).state == "cancelled"
    assert not jobs.folder(job.id).exists()


def test_a_waiting_job_is_cancelled_at_once_and_the_next_moves_up(queue):
    jobs = queue(steps)
    first, second, third = (jobs.submit("ada", "merge", "", {}, secret="s") for _ in range(3))
    until(jobs, first.id, "running")
    assert [jobs.get(j.id, "ada").place for j in (first, second, third)] == [0, 1, 2]
    assert jobs.cancel(second.id, "ada").state == "cancelled"
    assert second.id not in jobs.secrets
    assert jobs.get(third.id, "ada").place == 1
    jobs.cancel(first.id, "ada")
    until(jobs, third.id, "running")


def test_a_cancelled_job_that_has_ended_stays_as_it_is(queue):
    jobs = queue()
    job = jobs.submit("ada", "merge", "", {})
    jobs.wait(job.id, 10)
    assert jobs.cancel(job.id, "ada").state == "done"


def test_one_merge_runs_at_a_time_and_a_publication_does_not_wait_for_it(queue):
    inside, most, together = [], [], threading.Barrier(2)

    def run(job, report):
        inside.append(job.kind)
        most.append(inside.count(job.kind))
        if job.title == "both":
            together.wait(10)  # broken unless a merge and a publication are inside at once
        inside.remove(job.kind)
        return {}

    jobs = queue(run, places=Places(9))
    asked = [("merge", "both"), ("merge", ""), ("merge", ""), ("publish", "both"), ("publish", "")]
    made = [jobs.submit("ada", kind, title, {}) for kind, title in asked]
    assert {jobs.wait(job.id, 20).state for job in made} == {"done"}
    assert set(most) == {1}


def test_somebody_elses_job_is_answered_like_none(queue):
    jobs = queue()
    job = jobs.submit("ada", "merge", "", {})
    jobs.wait(job.id, 10)
    for ask in (jobs.get, jobs.cancel, jobs.log, jobs.forget, jobs.again):
        with pytest.raises(MergeError) as theirs:
            ask(job.id, "bob")
        with pytest.raises(MergeError) as none:
            ask("0" * 16, "bob")
        assert str(theirs.value).replace(job.id, "") == str(none.value).replace("0" * 16, "")
    assert jobs.list("bob") == []
    assert jobs.get(job.id, "ada").state == "done"


def test_there_are_limits_and_they_are_said(queue):
    jobs = queue(places=Places(2, queue=3), start=False)
    for owner in ("ada", "ada", "bob"):
        jobs.submit(owner, "merge", "", {})
    with pytest.raises(MergeError, match="You have 2 jobs"):
        jobs.submit("ada", "merge", "", {})
    with pytest.raises(MergeError, match="3 jobs are waiting"):
        jobs.submit("eve", "merge", "", {})


def test_forgetting_deletes_the_folder_of_an_ended_job_only(queue):
    jobs = queue(steps)
    job = jobs.submit("ada", "merge", "", {})
    until(jobs, job.id, "running")
    with pytest.raises(MergeError, match="Cancel it first"):
        jobs.forget(job.id, "ada")
    jobs.cancel(job.id, "ada")
    jobs.wait(job.id, 10)
    jobs.forget(job.id, "ada")
    assert jobs.list("ada") == []


def test_a_job_that_waits_once_more_leaves_nothing_when_it_is_cancelled(queue):
    """It had begun before the app was started again."""
    jobs = queue(start=False)
    job = jobs.submit("ada", "publish", "", {"repo_id": "ada/x"})
    jobs.folder(job.id).mkdir(parents=True)
    (jobs.folder(job.id) / "weights").write_text("many")
    ended = jobs.cancel(job.id, "ada")
    assert ended.state == "cancelled" and "ada/x on the Hub" in ended.error
    assert not jobs.folder(job.id).exists()
    other = jobs.submit("ada", "merge", "", {})
    assert jobs.cancel(other.id, "ada").error == ""


def test_closing_interrupts_what_runs_and_keeps_what_waits(queue):
    jobs = queue(steps)
    first, second = (jobs.submit("ada", "merge", "", {}) for _ in range(2))
    until(jobs, first.id, "running")
    third = jobs.submit("ada", "verify", "", {})
    until(jobs, third.id, "running")
    fourth = jobs.submit("bob", "publish", "", {})
    until(jobs, fourth.id, "running", "bob")
    jobs.close()
    later = queue(start=False)
    assert later.get(first.id, "ada").state == later.get(fourth.id, "bob").state == "queued"  # they go on
    assert later.get(third.id, "ada").state == "interrupted"
    assert "Start it again" in later.get(third.id, "ada").error
    assert later.get(second.id, "ada").state == "queued"
    later.start()
    assert later.wait(second.id, 10).state == "done"


def test_after_a_crash_leftovers_go_and_finished_work_stays(queue):
    jobs = queue(start=False)
    ran, waits, lost = (jobs.submit("ada", "merge", "", {}, needs_secret=n == 2) for n in range(3))
    jobs.journal.take("merge")
    kept = queue_folder(jobs, jobs.submit("eve", "publish", "", {}).id)
    jobs.journal.end(kept.name, "done")
    half, stray = queue_folder(jobs, ran.id), queue_folder(jobs, "stray")
    jobs.journal.close()
    jobs.claim.close()  # as when the process is gone
    jobs.closing.set()
    after = queue()
    assert (kept.exists(), half.exists(), stray.exists()) == (True, True, False)
    assert after.wait(ran.id, 10).state == "done"
    assert after.get(lost.id, "ada").state == "waiting"
    assert "sign-in" in after.get(lost.id, "ada").error
    after.signed_in("ada", "new")
    assert after.wait(lost.id, 10).state == "done"
    assert after.wait(waits.id, 10).state == "done"


def queue_folder(jobs, id):
    jobs.folder(id).mkdir(parents=True)
    (jobs.folder(id) / "file").write_text("x")
    return jobs.folder(id)


def test_an_interrupted_job_can_be_started_again(queue):
    jobs = queue(start=False)
    job = jobs.submit("ada", "publish", "title", {"n": 1}, secret="old", needs_secret=True)
    jobs.journal.take("publish")
    jobs.journal.interrupt("stopped", waiting_error="signed out")
    jobs.run = lambda job, report: {"seen": report.secret}
    jobs.again(job.id, "ada", secret="new")
    jobs.start()
    done = jobs.wait(job.id, 10)
    assert (done.state, done.title, done.error, done.result) == ("done", "title", "", {"seen": "new"})
    with pytest.raises(MergeError, match="is done"):
        jobs.again(job.id, "ada")


def test_two_apps_cannot_share_a_journal(queue):
    queue()
    with pytest.raises(MergeError, match="Another Alloy"):
        queue()


def test_no_secret_is_written_down(queue, tmp_path):
    jobs = queue(lambda job, report: (_ for _ in ()).throw(MergeError(f"refused {report.secret}")))
    job = jobs.submit("ada", "merge", "", {}, secret="hf_canary1234567890")
    assert jobs.wait(job.id, 10).error == "refused [token]"
    jobs.close()
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"canary" not in file.read_bytes()


def test_many_submit_at_once(queue):
    jobs = queue(places=Places(100, queue=100))
    made = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(jobs.submit(f"o{n}", "merge", "", {}))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {jobs.wait(job.id, 10).state for job in made} == {"done"}
