"""A merge in memory beside its parents: one lambda is moved, and one pane alone answers differently."""

import json
import re

from playwright.sync_api import Page, expect

from space.service import Service
from tests.journey.steps import LONG, check, example, load, move, say


def sit_down(page: Page) -> None:
    """Two skills in memory, and Chat on the merge and its two parents."""
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    page.locator("#try-beside").click()
    expect(page.locator(".pane:visible")).to_have_count(3)


def test_a_lambda_changes_the_answer_of_one_pane(page: Page):
    sit_down(page)
    panes, live = page.locator(".pane:visible"), page.locator(".pane.in-memory")
    expect(live).to_contain_text("Live merge, λ 0.7, 0.7")
    before = say(page, "reverse: lamot")
    assert before[:2] == ["tomal", "tomal"]  # the merge and pocket-reverse
    expect(live.locator(".block.pane-note")).to_contain_text("λ pocket-reverse 0.7, pocket-add 0.7.")
    move(page, 1, "0")
    expect(live).to_contain_text("Live merge, λ 0, 0.7")
    expect(live.locator(".block.pane-note")).to_contain_text("λ pocket-reverse 0.7")  # what it has said stays as it was
    after = say(page, "reverse: lamot")
    assert after[0] != "tomal" and after[1:] == before[1:]
    expect(live.locator(".block.pane-note")).to_contain_text("λ pocket-reverse 0, pocket-add 0.7.")
    expect(live.locator(".block.pane-note")).to_contain_text("Earlier answers came from other lambdas")
    expect(panes.nth(1).locator(".block.pane-note")).not_to_contain_text("λ")
    page.get_by_role("tab", name="Prompt book").click()
    page.locator("#book-text textarea").fill("add: 17+25")
    page.locator("#book-run").click()
    expect(page.locator("#book-note")).to_contain_text("All 3 answers are here.", timeout=LONG)
    expect(page.locator("#book-table thead th").nth(1)).to_have_text(
        re.compile(r"Live merge, λ 0, 0.7 \(live:\w{16}\)")
    )
    with page.expect_download() as saved:
        page.locator("#book-jsonl").click()
    assert next(iter(json.loads(saved.value.path().read_text())["answers"].values())) == ["42"]


def test_a_blind_vote_is_on_the_lambdas_that_answered(page: Page, service: Service):
    sit_down(page)
    page.locator("#chat-panes").get_by_role("button", name="Remove").nth(1).click()  # the merge and pocket-add are left
    panes = page.locator(".pane:visible")
    expect(panes).to_have_count(2)
    page.get_by_label("Blind").check()
    expect(panes.nth(1)).to_contain_text("Right")
    answers = say(page, "reverse: lamot")
    assert set(answers) == {"tomal", "?"}
    move(page, 1, "0")
    seen = panes.first.inner_text() + panes.nth(1).inner_text()
    assert not re.search("merge|pocket|λ|token", seen, re.IGNORECASE)  # nobody is named by a move either
    page.locator(f"#vote-{'left' if answers[0] == 'tomal' else 'right'}").click()
    expect(panes.nth(answers.index("tomal"))).to_contain_text("Live merge, λ 0, 0.7")  # who answers next
    expect(panes.nth(answers.index("tomal"))).to_contain_text("λ pocket-reverse 0.7, pocket-add 0.7.")  # who has
    expect(page.locator("#tally")).to_contain_text("1 vote on Live merge, λ 0.7, 0.7 and alloy/pocket-add.")
    (vote,) = service.votes.of("local", "live")
    assert vote.prompts == ("reverse: lamot",) and {vote.left, vote.right} >= {tried_key(service, "0.7")}
    page.locator("#chat-prompt textarea").fill("reverse: lamot")
    page.locator("#chat-send").click()
    page.locator("#vote-bad").click(timeout=LONG)
    expect(page.locator("#tally")).to_contain_text("1 vote on Live merge, λ 0, 0.7 and alloy/pocket-add.")
    assert len(service.votes.of("local", "live")) == 2


def tried_key(service: Service, reverse: str) -> str:
    """Of the merge in memory, at another lambda."""
    ((tab, session),) = service.live.sessions.items()
    tried = service.live.tried(tab, session.owner)
    assert tried is not None
    first, rest = tried.recipe.split("weight: ", 1)
    return tried.at(f"{first}weight: {reverse}\n" + rest.partition("\n")[2]).key


def test_a_merge_that_has_left_memory_says_so_in_its_pane(page: Page):
    sit_down(page)
    page.get_by_role("tab", name="Try").click()
    page.locator("#try-leave").click()
    page.get_by_role("tab", name="Chat").click()
    page.locator("#chat-prompt textarea").fill("reverse: lamot")
    page.locator("#chat-send").click()
    expect(page.locator(".pane.in-memory .block.pane-note")).to_contain_text("Load it again under Try", timeout=LONG)
    expect(page.locator(".pane:visible").nth(1).locator(".message.bot")).to_have_text("tomal", timeout=LONG)
