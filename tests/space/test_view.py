"""What the page shows: numbers as people say them, and nothing from outside as HTML."""

import time
from dataclasses import replace

import pytest

from merging.compatibility import Check, Finding
from merging.recipe import parse_recipe
from space import view
from space.book import Entry, Result
from space.form import Form, Row
from space.jobs import Job
from space.settings import Settings
from space.words import ago, ahead, count, duration, size

EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (1_363_000, "1.36 MB"), (999_600, "1.00 MB"),
     (23_400_000, "23.4 MB"), (2_400_000_000, "2.40 GB"), (1_234_000_000_000, "1,234 GB")],
)  # fmt: skip
def test_sizes_have_three_digits(nbytes, words):
    assert size(nbytes) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "under 1 s"), (3.2, "3 s"), (100, "2 min"), (3600, "1 h"), (5400, "1 h 30 min")]
)
def test_durations_are_said_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_ages_and_counts():
    assert ago(100, now=102) == "just now" and ago(0, now=120) == "2 min ago"
    assert ahead(100, now=90) == "soon" and ahead(7200, now=0) == "in 2 h" and ahead(260_000, now=0) == "in 3 days"
    assert count(1, "shard") == "1 shard" and count(3, "shard") == "3 shards"


def finding(level="block", text="It differs."):
    return Finding("different-base", level, text, ("a/x", "b/y"), ("1", "2"), "Because.", "Do this.")


def check(*findings):
    return Check(tuple(findings), None, 1.0, {}, parse_recipe("{merge_method: passthrough, models: [a/x]}"))


def test_a_verdict_is_a_sentence_with_the_first_reason():
    assert "Do not merge: it differs." in view.verdict(check(finding()))
    assert "with 2 things to look at" in view.verdict(check(finding("warn"), finding("warn")))
    assert "These belong together." in view.verdict(check())


def test_the_way_through_the_page_is_a_numbered_list():
    shown = view.steps("How", [("Check", "first."), (EVIL, EVIL)])
    assert shown.count("<li>") == 2 and "<b>Check</b> first." in shown and EVIL not in shown


def test_what_fits_is_folded_and_what_blocks_is_not():
    shown = view.findings(check(finding(), finding("ok")))
    assert shown.count("<details") == 1 and shown.index("Blocks the merge") < shown.index("<details")


def job(**changes):
    made = Job("0f", "local", "merge", "a + b", {}, "running", created=0.0)
    return replace(made, total_bytes=200, done_bytes=50, rate=10.0, detail="model.norm", **changes)


def test_a_running_job_shows_share_and_figures():
    shown = view.job_panel(job())
    assert 'aria-valuenow="25"' in shown and "50 bytes of 200 bytes" in shown and "model.norm" in shown


def test_a_failed_job_says_why():
    assert "Disk full." in view.job_panel(job(state="failed", error="Disk full."))


def test_nothing_from_outside_becomes_html():
    evil_job = replace(job(error=EVIL), title=EVIL, detail=EVIL)
    evil_form = Form(rows=(Row(EVIL),))
    evil_check = check(Finding(EVIL, "block", EVIL, (EVIL,), (EVIL,), EVIL, EVIL))
    shown = [
        view.job_panel(evil_job), view.note(EVIL, "error"), view.problem(EVIL, EVIL), view.empty(EVIL, EVIL),
        view.summary(evil_form), view.verdict(evil_check), view.findings(evil_check), view.log_lines([EVIL]),
    ]  # fmt: skip
    assert not any("<script" in text for text in shown)


def test_only_a_web_address_becomes_a_link():
    done = replace(job(), state="done")
    assert view.published(replace(done, result={"url": "javascript:alert(1)"})) == ""
    assert 'href="https://hub/ada/x"' in view.published(replace(done, result={"url": "https://hub/ada/x"}))


def test_a_job_that_is_done_names_no_tensor_any_more():
    assert "model.norm" in view.job_panel(job()) and "model.norm" not in view.job_panel(replace(job(), state="done"))


def test_a_job_says_when_it_is_removed_where_it_is():
    ended = Job("1", "hf:1", "merge", "two-skills", {}, "done", created=time.time(), ended=time.time())
    assert view.job_label(ended, 3 * 86400).endswith("removed in 3 days")
    assert "removed" not in view.job_label(ended) + view.job_label(replace(ended, state="running"), 3 * 86400)


def test_limits_of_strangers_are_shown_where_there_are_strangers(tmp_path):
    shown = view.limits(Settings(tmp_path, hosted=True, max_jobs_per_visitor=2, keep_days=3))
    assert "Without a sign-in it is 2 jobs, and 4 for all" in shown and "removed with its files after 3 days" in shown
    assert "sign-in" not in view.limits(Settings(tmp_path)) and "removed" not in view.limits(Settings(tmp_path))


def test_what_models_wrote_is_text_in_the_table_of_a_prompt_book():
    said = ("one <b>", "two", "three")
    entry = Entry(tuple({"role": r, "content": c} for r, c in zip(("user", "user", "user"), said, strict=True)))
    shown = view.book_table([Result(entry, {"a": ("<i>", ""), "b": ("x", "y", "z")}, {"a": "It is gone."})], ["a", "b"])
    assert '<pre>one &lt;b&gt;</pre></th><td data-pane="a"><pre>&lt;i&gt;</pre></td>' in shown
    assert shown.count("It is gone.") == 1 and "(nothing)" in shown and '<td data-pane="a"></td>' in shown


def test_an_answer_that_was_given_is_said_to_be():
    roles = ("user", "assistant", "user")
    entry = Entry(tuple({"role": role, "content": role} for role in roles))
    assert view.book_table([Result(entry, {"a": ("x",)}, {})], ["a"]).count("(given)") == 1
