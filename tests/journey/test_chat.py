"""Judge a merge in the browser: side by side, blind, and with a prompt book."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page, expect

from evaluation.prompt import Message
from space.chat import ChatOptions, Pane
from space.reply import Reply
from space.service import Service
from space.viewer import Viewer
from tests.journey.steps import LONG, say
from tests.journey.watched import watched

HOSTILE = """**Bold**, `a < b` and:

```python
print("<b>[x](y)</b>")
```

![seen](ADDRESS/picture.png) <img src="ADDRESS/tag.png"> <div style="background: url(ADDRESS/style.png)">x</div>
[the docs](ADDRESS/?secret=1) <a href="ADDRESS/raw">raw</a>
<style>@import url("ADDRESS/style.css"); .pane { display: none }</style><script>fetch("ADDRESS/script")</script>
<iframe src="ADDRESS/frame"></iframe> <video src="ADDRESS/video"></video> <link rel="prefetch" href="ADDRESS/link">
"""


@pytest.fixture
def chat(merged: Page) -> Page:
    """The Chat stage of a merge of two skills."""
    merged.locator("#to-chat").click()
    return merged


def test_what_a_model_writes_can_do_nothing_but_show(chat: Page, service: Service, monkeypatch: pytest.MonkeyPatch):
    with watched() as (elsewhere, asked):
        text = HOSTILE.replace("ADDRESS", elsewhere)

        def hostile(
            panes: Sequence[Pane], conversations: Sequence[list[Message]], options: ChatOptions
        ) -> Iterator[list[Reply]]:
            yield [Reply(pane.label, text, 1, 1.0, done=True) for pane in panes]

        monkeypatch.setattr(service.chats, "ask", hostile)
        say(chat, "show me a picture")
        answer = chat.locator(".pane:visible .message.bot").first
        expect(answer.locator("strong")).to_have_text("Bold")
        expect(answer.locator("pre")).to_contain_text('print("<b>[x](y)</b>")')
        for shown in (f"![seen]({elsewhere}/picture.png)", f"[the docs]({elsewhere}/?secret=1)", "<script>fetch("):
            expect(answer).to_contain_text(shown)
        assert answer.locator("img, style, script, iframe, video, link").count() == 0
        for link in answer.locator("a").all():
            assert unquote(link.get_attribute("href") or "") == link.inner_text()  # where it leads is what it says
            assert "noreferrer" in (link.get_attribute("rel") or "")
        assert asked == []
        # What got past all that would not be loaded either.
        chat.evaluate("url => new Promise(r => { const i = new Image(); i.onerror = r; i.src = url; })", elsewhere)
        assert asked == []


def test_a_prompt_changed_in_one_pane_is_answered_anew_in_all(chat: Page):
    assert say(chat, "reverse: lamot")[0] == "tomal"
    for note in chat.locator(".pane:visible .pane-note").all():
        expect(note).to_have_text(re.compile(r"[1-9]\d* tokens, [1-9]\d* a second"))
    say(chat, "add: 17+25")
    first = chat.locator(".pane:visible").first
    first.get_by_role("button", name="Edit").first.click(force=True)
    box = first.locator("textarea").first
    box.fill("reverse: tiger")
    first.get_by_role("button", name="Submit").click()
    panes = chat.locator(".pane:visible")
    expect(panes.first.locator(".message.bot")).to_have_text(["regit"], timeout=LONG)
    for place in range(panes.count()):
        expect(panes.nth(place).locator(".message.user")).to_have_text(["reverse: tiger"])
    expect(chat.locator("#chat-send")).to_be_visible(timeout=LONG)
    assert say(chat, "add: 17+25")[0] == "42"


def test_a_prompt_book_from_a_file_to_a_table_to_a_file(chat: Page, tmp_path: Path):
    chat.get_by_role("tab", name="Prompt book").click()
    chat.get_by_role("button", name="Several turns").click()
    text, note = chat.locator("#book-text textarea"), chat.locator("#book-note")
    expect(text).to_have_value(re.compile("I keep bees"))
    expect(chat.locator("#book-look")).to_contain_text("still know the first question")
    book = tmp_path / "book.jsonl"
    prompts = ["reverse: lamot", "add: 17+25"]
    book.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts) + '{"promt": "x"}\n')
    with chat.expect_file_chooser() as chooser:
        chat.locator("#book-upload").click()
    chooser.value.set_files(book)
    expect(text).to_have_value(re.compile("promt"))
    chat.locator("#book-run").click()
    expect(note).to_contain_text("Line 3 has neither a prompt nor messages")
    text.fill("\n".join(prompts))
    chat.locator("#book-run").click()
    expect(note).to_contain_text("All 6 answers are here.", timeout=LONG)
    expect(chat.locator("#book-table thead th")).to_have_text(
        ["Prompt", "Merge", "alloy/pocket-reverse", "alloy/pocket-add"]
    )
    expect(chat.locator('#book-table td[data-pane="Merge"]')).to_have_text(["tomal", "42"])
    with chat.expect_download() as saved:
        chat.locator("#book-csv").click()
    assert saved.value.suggested_filename == "answers.csv"
    with saved.value.path().open(newline="") as file:
        assert [row[:2] for row in csv.reader(file)] == [
            ["prompt", "Merge"],
            ["reverse: lamot", "tomal"],
            ["add: 17+25", "42"],
        ]
    with chat.expect_download() as saved:
        chat.locator("#book-jsonl").click()
    assert json.loads(saved.value.path().read_text().splitlines()[1])["answers"]["Merge"] == ["42"]


def test_a_blind_vote_names_nobody_before_it_is_given(chat: Page, service: Service, two_skills: str):
    chat.get_by_label("Blind").click()  # the app takes it back
    expect(chat.locator("#blind-note")).to_contain_text("choose exactly two")
    expect(chat.get_by_label("Blind")).not_to_be_checked()
    chat.locator("#chat-panes").get_by_role("button", name="Remove").nth(1).click()  # merge and pocket-add are left
    panes = chat.locator(".pane:visible")
    expect(panes).to_have_count(2)
    chat.get_by_label("Blind").check()
    expect(panes.nth(1)).to_contain_text("Right")
    answers = say(chat, "reverse: lamot")
    assert set(answers) == {"tomal", "?"}
    seen = panes.first.inner_text() + panes.nth(1).inner_text()
    assert not re.search("merge|pocket|token|second", seen, re.IGNORECASE)
    assert all("unnamed" in (pane.get_attribute("class") or "") for pane in panes.all())
    side = "left" if answers[0] == "tomal" else "right"
    chat.locator(f"#vote-{side}").click()
    expect(panes.nth(answers.index("tomal"))).to_contain_text("Merge")
    expect(panes.nth(answers.index("?"))).to_contain_text("alloy/pocket-add")
    expect(chat.locator("#tally")).to_contain_text(
        "1 vote on Merge and alloy/pocket-add. 19 more until they are ranked."
    )
    expect(chat.locator("#vote-left")).to_be_hidden()
    (found,) = service.tallies(two_skills, Viewer("local"))
    assert (found.first_wins, found.second_wins, found.prompts) == (1, 0, ("reverse: lamot",))
    chat.locator("#chat-prompt textarea").fill("add: 17+25")
    chat.locator("#chat-send").click()
    expect(chat.locator("#vote-left")).to_be_visible(timeout=LONG)
    for pane in panes.all():
        expect(pane.locator(".message.user")).to_have_text(["add: 17+25"])
        expect(pane).not_to_contain_text(re.compile("merge|pocket|token", re.IGNORECASE))
    given = service.votes.of("local", two_skills)
    for vote in given * 19:
        service.votes.add("local", two_skills, vote)
    chat.get_by_role("tab", name="Publish").click()
    chat.get_by_label("Add my blind votes").check()
    card = chat.locator(".block.card-preview")
    expect(card).to_contain_text("20 votes of one person, blind, on these 1 prompt")
    chat.get_by_label("Add my blind votes").uncheck()
    expect(card).not_to_contain_text("Blind votes")
    chat.get_by_role("tab", name="Chat").click()
    chat.get_by_role("checkbox", name="Blind", exact=True).uncheck()
    expect(chat.locator("#blind-note")).to_contain_text("Merge is preferred to alloy/pocket-add")
