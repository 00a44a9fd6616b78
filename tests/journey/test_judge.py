"""Judge a recipe on a set of one's own: scores, a search whose values become the recipe, a path; there on return."""

import csv
import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from space.demo.hub import MODELS
from space.localhub import LocalHub
from space.pages.book import MAX_FILE_BYTES
from space.pages.judge import QUESTIONS, RUN
from space.service import Service
from space.viewer import Viewer
from tests.journey.steps import LONG, check, downloaded, example, merge, open_job

WORDS = ("lamot", "fiuw", "tegad", "sobira")
LINES = [f"reverse: {word}\t{word[::-1]}\treverse" for word in WORDS]
LINES += [f"add: {n}+{n + 11}\t{2 * n + 11}\tadd" for n in (17, 23, 31, 46)]


def ask(page: Page, question: str, found: str) -> None:
    """Choose a question and wait for its answer."""
    page.locator("#judge-what").get_by_label(question, exact=True).check()
    expect(page.locator("#judge-run")).to_have_text(RUN[dict(QUESTIONS)[question]])
    page.evaluate("document.querySelector('#judge-panel .found')?.setAttribute('data-old', '')")
    page.locator("#judge-run").click()
    new = page.locator("#judge-panel .found:not([data-old])")
    expect(new).to_contain_text("Done in", timeout=LONG)
    expect(new.locator("h2")).to_contain_text(found)


def test_a_set_is_scored_searched_and_walked(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("tab", name="Judge").click()
    page.locator("#judge-run").click()
    expect(page.locator("#judge-why-not")).to_contain_text("Choose a held-out set first")
    page.locator("#judge-text textarea").fill("\n".join([*LINES, "no tab here"]))
    page.locator("#judge-use").click()
    expect(page.locator("#judge-problem")).to_contain_text("pasted lines, line 9 has no tab")
    page.locator("#judge-text textarea").fill("\n".join(LINES))
    page.locator("#judge-use").click()
    expect(page.locator("#judge-set")).to_contain_text("8 examples, 2 tasks")
    expect(page.locator("#judge-tasks")).to_contain_text("reverse 4")

    ask(page, "Score", "clearly worse than the best parent on none of 2 tasks")
    table = page.locator("#judge-panel .score-table tbody tr")
    expect(table).to_have_count(12)
    expect(table.nth(2)).to_contain_text("alloy/pocket-reverse")
    expect(page.locator("#judge-panel svg.chart")).to_have_count(2)
    name, content = downloaded(page, page.locator("#judge-csv"))
    assert name == "score.csv" and len(rows_of(content)) == 6 * 2 * 4

    page.locator("#judge-what").get_by_label("Search lambdas", exact=True).check()
    page.locator("#judge-trials input").fill("4")
    ask(page, "Search lambdas", "Best of 4 trials")
    expect(page.locator("#judge-panel .report")).to_contain_text("n = 4")
    values = page.locator("#judge-panel .dials b").all_inner_texts()
    page.locator("#judge-take").click()
    for number, value in enumerate(values, 1):
        expect(page.get_by_label(f"number input for Lambda {number}")).to_have_value(value)

    ask(page, "Path", "between base and fine-tune")
    expect(page.locator("#judge-panel circle.dot")).to_have_count(14)
    page.reload()
    page.get_by_role("tab", name="Judge").click()
    expect(page.locator("#judge-set")).to_contain_text("8 examples, 2 tasks")
    expect(page.locator("#judge-panel circle.dot")).to_have_count(14)
    page.locator("#judge-what").get_by_label("Score", exact=True).check()
    expect(page.locator("#judge-panel .score-table tbody tr")).to_have_count(12)


VOWELS = [f"vowels: {word}\t{''.join(one for one in word if one in 'aeiou')}\tvowels" for word in WORDS]


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode().splitlines()))


@pytest.fixture
def data_set(local_hub: LocalHub) -> str:
    """A file of a data set on the Hub, in three tasks."""
    local_hub.store.create_repo("ada/skills", private=True)
    local_hub.store.commit("ada/skills", {"test/three.tsv": "\n".join([*LINES, *VOWELS]).encode()}, message="lines")
    return "ada/skills/test/three.tsv"


@pytest.fixture
def revisions(local_hub: LocalHub) -> str:
    """A repo whose weights have had two states."""
    local_hub.store.create_repo("ada/run")
    for name in ("reverse", "add"):
        files: dict[str, bytes | Path] = {p.name: p for p in (MODELS / "alloy" / f"pocket-{name}").iterdir()}
        local_hub.store.commit("ada/run", files, message=name)
    return "ada/run"


def test_a_search_by_groups_is_stopped_and_a_soup_made_of_revisions(
    page: Page, service: Service, data_set: str, revisions: str
):  # fmt: skip
    """On a set out of a file, then on one from the Hub."""
    service.judge.use_sample(Viewer("local"))  # on another visit
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("tab", name="Judge").click()
    expect(page.locator("#judge-set")).to_contain_text("160 examples")
    page.get_by_role("button", name="Choose a set").click()
    files = {"large.jsonl": b"x" * (MAX_FILE_BYTES + 1), "lines.tsv": "\n".join(LINES).encode()}
    for name, content in files.items():
        with page.expect_file_chooser() as choosing:
            page.locator("#judge-upload").click()
        choosing.value.set_files({"name": name, "mimeType": "text/plain", "buffer": content})
        if name == "large.jsonl":
            expect(page.locator("#judge-problem")).to_contain_text("large.jsonl has 1,000,001 bytes")
    expect(page.locator("#judge-set")).to_contain_text("lines.tsv 8 examples, 2 tasks")
    expect(page.locator("#judge-problem")).to_be_empty()
    page.get_by_role("button", name="Choose a set").click()
    page.locator("#judge-text textarea").fill(data_set)
    page.locator("#judge-use").click()
    expect(page.locator("#judge-set")).to_contain_text("three.tsv 12 examples, 3 tasks")

    page.locator("#judge-what").get_by_label("Search lambdas", exact=True).check()
    expect(page.locator("#judge-parameter input")).to_have_value("Weight")
    page.locator("#judge-trials input").fill("500")
    for group in ("Attention", "MLP"):
        page.locator("#judge-groups").get_by_label(group).check()
    page.locator("#judge-run").click()
    expect(page.locator("#judge-panel .found")).to_contain_text("Best of", timeout=LONG)
    expect(page.locator("#judge-panel .dials li")).to_have_count(4)
    expect(page.locator("#judge-stop")).to_have_text("Stop and keep the best")
    page.locator("#judge-stop").click()
    expect(page.locator("#judge-panel .found")).to_contain_text("Done in", timeout=LONG)
    expect(page.locator("#judge-panel .score-table tbody tr")).to_have_count(7 * 3)
    plot = page.locator("#judge-panel figure.plot.broad")
    trials = plot.locator("circle.point").count()
    assert trials < 500
    page.locator("#judge-pair input").click()
    page.get_by_role("option", name="add and vowels").click()
    expect(plot).to_contain_text("NLL of vowels")
    expect(plot).to_contain_text("trade add for vowels")
    name, content = downloaded(page, page.locator("#judge-csv"))
    assert name == "search.csv" and len(rows_of(content)) == trials
    assert "weight of alloy/pocket-add, mlp" in rows_of(content)[0]
    name, content = downloaded(page, page.locator("#judge-json"))
    assert name == "search.json" and len(json.loads(content)["trials"]) == trials
    page.locator("#judge-take").click()
    expect(page.locator(".model-row.c1 .lambda")).to_contain_text("YAML")
    page.get_by_role("button", name="Recipe as YAML").click()
    expect(page.locator("#recipe-yaml")).to_contain_text("filter: mlp.")

    page.locator("#judge-what").get_by_label("Greedy soup", exact=True).check()
    page.locator("#judge-candidates").locator("textarea, input").fill(revisions)
    page.locator("#judge-last input").fill("3")
    page.locator("#judge-run").click()
    expect(page.locator("#judge-why-not")).to_contain_text("2 revisions of its weights", timeout=LONG)
    page.locator("#judge-last input").fill("2")
    ask(page, "Greedy soup", "in the soup")
    expect(page.locator(".soup-log li").first).to_contain_text("ada/run@")
    expect(page.locator("#judge-panel .score-table tbody tr")).to_have_count(5 * 3)


def test_scores_of_a_merge_go_into_its_card_and_a_soup_into_the_recipe(page: Page, service: Service):
    service.judge.use_lines("\n".join(LINES), "pasted lines", Viewer("local"))  # of another visit
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    merge(page)
    page.get_by_role("tab", name="Judge").click()
    expect(page.locator("#judge-set")).to_contain_text("8 examples")
    ask(page, "Score", "clearly worse than the best parent on none of 2 tasks")
    page.get_by_role("tab", name="Publish").click()
    page.locator("#publish-scores input").check()
    expect(page.locator(".block.card-preview")).to_contain_text("Scores on a set of one's own")
    page.locator("#publish-scores input").uncheck()
    expect(page.locator(".block.card-preview")).not_to_contain_text("Scores on a set of one's own")

    page.get_by_role("tab", name="Judge").click()
    ask(page, "Greedy soup", "in the soup")
    expect(page.locator(".soup-log li")).to_have_count(2)
    page.locator("#judge-take").click()
    page.get_by_role("button", name="Recipe as YAML").click()
    expect(page.locator("#recipe-yaml")).to_contain_text("merge_method: linear")
    page.get_by_role("tab", name="Jobs").click()
    open_job(page, page.locator("#job-list label").filter(has_text="Scores: ").first)
    expect(page.locator("#judge-panel .score-table tbody tr").first).to_be_visible()
