import threading

import pytest

from space.journal import Job, Journal
from space.report import Cancelled, Interrupted, Pace, Report


def test_the_pace_is_smooth_and_tells_the_time_left():
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    for second in range(1, 11):
        now[0] = float(second)
        pace.moved(100 * second)
    assert pace.rate == pytest.approx(100)
    assert pace.seconds_left(2000) == pytest.approx(10)
    now[0] = 11.0
    pace.moved(2000)  # a burst moves it a little
    assert 100 < pace.rate < 400


def test_a_pace_that_has_not_moved_knows_no_time():
    assert Pace(clock=lambda: 0.0).seconds_left(10) is None


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.add(Job("a", "ada", "merge", "", {}, "queued", created=1.0), estimate=None, needs_secret=False)
    journal.take("merge")
    yield journal
    journal.close()


def report_to(journal, tmp_path):
    return Report(journal, journal.get("a"), tmp_path, "hf_secret1", threading.Event())


def test_the_journal_is_not_written_at_every_step(journal, tmp_path):
    report = report_to(journal, tmp_path)
    for done in range(100):
        report.progress(done, 1000)
    assert journal.get("a").done_bytes == 0
    report.progress(1000, 1000)
    assert journal.get("a").done_bytes == 1000


def test_cancel_and_close_are_raised_where_the_job_reports(journal, tmp_path):
    report = report_to(journal, tmp_path)
    report.check()
    report.closing.set()
    with pytest.raises(Interrupted):
        report.check()
    journal.stop("a")
    with pytest.raises(Cancelled):
        report.progress(1, 1)


def test_a_token_does_not_reach_the_log(journal, tmp_path):
    report_to(journal, tmp_path).log("sent hf_abcDEF1234567890 to the Hub")
    assert journal.lines("a")[0].endswith("sent [token] to the Hub")
