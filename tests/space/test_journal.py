import sqlite3
import threading

from space.journal import Job, Journal


def add(journal, id, *, owner="ada", kind="merge", estimate=None, needs_secret=False):
    journal.add(Job(id, owner, kind, id, {"recipe": "x"}, "queued", created=1.0), estimate=estimate,
                needs_secret=needs_secret)  # fmt: skip


def read(journal: Journal, id: str) -> Job:
    job = journal.get(id)
    assert job is not None
    return job


def test_what_was_written_is_there_after_the_file_was_closed(tmp_path):
    journal = Journal(tmp_path / "journal")
    add(journal, "a")
    journal.progress("a", 5, 10, 2.5, 2.0, "layer 3")
    journal.write("a", "began")
    before = read(journal, "a")
    journal.close()
    again = Journal(tmp_path / "journal")
    assert again.get("a") == before
    assert (before.done_bytes, before.rate, before.detail, before.payload) == (5, 2.5, "layer 3", {"recipe": "x"})
    assert [line.split(" ", 1)[1] for line in again.lines("a")] == ["began"]
    again.close()


def test_only_its_owner_may_read_the_file(tmp_path):
    Journal(tmp_path / "journal").close()
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0


def test_jobs_run_in_their_order_and_know_their_place(tmp_path):
    journal = Journal(tmp_path / "journal")
    for id in "abc":
        add(journal, id, estimate=10.0)
    add(journal, "p", kind="publish")
    assert [read(journal, id).place for id in "abcp"] == [1, 2, 3, 1]
    assert journal.take("merge") == read(journal, "a")
    journal.progress("a", 1, 2, 1.0, 4.0, "")
    assert [read(journal, id).place for id in "abc"] == [0, 1, 2]
    assert [read(journal, id).starts_in for id in "abc"] == [None, 4.0, 14.0]
    journal.stop("b")
    assert (read(journal, "b").state, read(journal, "c").place) == ("cancelled", 1)
    assert journal.take("merge") == read(journal, "c")
    assert journal.take("merge") is None
    journal.close()


def test_progress_tells_when_to_stop(tmp_path):
    journal = Journal(tmp_path / "journal")
    add(journal, "a")
    journal.take("merge")
    assert not journal.progress("a", 1, 2, 0, None, "")
    journal.stop("a")
    assert journal.progress("a", 1, 2, 0, None, "")
    journal.close()


def test_a_restart_interrupts_what_ran_and_what_lost_its_secret(tmp_path):
    journal = Journal(tmp_path / "journal")
    add(journal, "ran")
    journal.take("merge")
    add(journal, "waits")
    add(journal, "secret", needs_secret=True)
    journal.interrupt("stopped", waiting_error="signed out")
    assert [(read(journal, id).state, read(journal, id).error) for id in ("ran", "waits", "secret")] == [
        ("interrupted", "stopped"), ("queued", ""), ("waiting", "signed out"),
    ]  # fmt: skip
    journal.close()


def test_a_job_started_again_goes_to_the_end_of_the_queue(tmp_path):
    journal = Journal(tmp_path / "journal")
    for id in "ab":
        add(journal, id)
    journal.take("merge")
    journal.end("a", "failed", error="no")
    journal.again("a", {})
    assert (read(journal, "a").place, read(journal, "a").error) == (2, "")
    journal.close()


def test_forgetting_a_job_takes_its_log_along(tmp_path):
    journal = Journal(tmp_path / "journal")
    add(journal, "a")
    journal.write("a", "line")
    journal.forget("a")
    assert journal.get("a") is None
    assert sqlite3.connect(tmp_path / "journal").execute("SELECT count(*) FROM log").fetchone() == (0,)
    journal.close()


def test_any_thread_may_use_it(tmp_path):
    journal = Journal(tmp_path / "journal")

    def many(thread):
        for i in range(20):
            add(journal, f"{thread}-{i}")
            journal.progress(f"{thread}-{i}", i, 20, 0, None, "")

    threads = [threading.Thread(target=many, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.of_owner("ada")) == 80
    journal.close()


def test_a_cancel_is_not_lost_on_a_job_that_is_taken_meanwhile(tmp_path, monkeypatch):
    """Between any two statements of a cancel, another thread may take the job."""
    journal = Journal(tmp_path / "journal")
    add(journal, "a")
    run = journal.run

    def run_and_take(sql, *values):
        found = run(sql, *values)
        run("UPDATE job SET state = 'running' WHERE state = 'queued'")
        return found

    monkeypatch.setattr(journal, "run", run_and_take)
    journal.stop("a")
    monkeypatch.undo()
    assert read(journal, "a").state == "cancelled" or journal.stopped("a")
    journal.close()
