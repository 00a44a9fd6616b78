"""Who presses Stop or closes the tab is answered no further: within two seconds what computes is free for others."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from torch import Tensor

from space.generate import Voice, generate
from space.service import Service
from tests.journey.steps import LONG, check, example, load

SOON = 2.0  # seconds


class Speaks(Event):
    """Set once a model has begun to answer; has the most tokens that one wrote although it was stopped: transformers
    writes one more, of half a dozen that there would be."""

    late = 0


@dataclass
class Held:
    """What transformers gives tokens to: after the first one it waits until the answer is stopped."""

    voice: Voice
    stop: Event
    speaks: Speaks
    late: int = 0

    def put(self, tokens: Tensor) -> None:
        self.voice.put(tokens)
        if self.voice.ids:
            self.late += self.stop.is_set()
            self.speaks.late = max(self.speaks.late, self.late)
            self.speaks.set()
            self.stop.wait(LONG / 1000)

    def end(self) -> None:
        self.voice.end()


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch) -> Speaks:
    """Has a model wait after its first token: a small one would be done before one can press Stop."""
    speaks = Speaks()

    def slowly(speaker: Any, prompt: Any, options: Any, voice: Voice, stop: Event) -> None:
        generate(speaker, prompt, options, Held(voice, stop, speaks), stop)  # type: ignore[arg-type]

    monkeypatch.setattr("space.chat.generate", slowly)
    monkeypatch.setattr("space.live.generate", slowly)
    return speaks


def chat(page: Page) -> None:
    page.locator("#to-chat").click()
    page.locator("#chat-prompt textarea").fill("reverse: lamot")
    page.locator("#chat-send").click()


def book(page: Page) -> None:
    page.locator("#to-chat").click()
    page.get_by_role("tab", name="Prompt book").click()
    page.locator("#book-text textarea").fill("reverse: lamot\nadd: 17+25")
    page.locator("#book-run").click()


def loaded(page: Page) -> None:
    """Another recipe than that of the job that is open, so that one sees when it has come."""
    example(page, "Two in each other's way", "alloy/pocket-double")
    check(page)
    load(page)


def trial(page: Page) -> None:
    loaded(page)
    page.locator("#try-prompt textarea").fill("reverse: lamot")
    page.locator("#try-send").click()


def filmstrip(page: Page) -> None:
    loaded(page)
    page.locator("#try-prompt textarea").fill("reverse: lamot")
    page.locator("#film-make").click()


def is_free(service: Service) -> bool:
    """Whether nobody has the accelerator, or waits for it, soon."""
    end = time.monotonic() + SOON
    while service.chats.turns.line and time.monotonic() < end:
        time.sleep(0.02)
    return not service.chats.turns.line


BEGINNINGS = [(chat, "chat-stop"), (book, "book-stop"), (trial, "try-stop"), (filmstrip, "try-stop")]


@pytest.mark.parametrize(("begin", "stop"), BEGINNINGS)
def test_stop_ends_the_answer(
    merged: Page, service: Service, speaks: Speaks, begin: Callable[[Page], None], stop: str
):  # fmt: skip
    begin(merged)
    expect(merged.locator(f"#{stop}")).to_be_visible(timeout=LONG)
    assert speaks.wait(LONG / 1000) and service.chats.turns.line
    merged.locator(f"#{stop}").click()
    assert is_free(service) and speaks.late <= 1
    expect(merged.locator(f"#{stop}")).to_be_hidden()
    if begin is chat:
        merged.locator("#chat-clear").click()
        expect(merged.locator(".pane .message")).to_have_count(0)


@pytest.mark.parametrize("begin", [chat, book, trial])
def test_a_tab_that_is_closed_ends_its_answer(
    merged: Page, service: Service, speaks: Speaks, begin: Callable[[Page], None]
):  # fmt: skip
    begin(merged)
    assert speaks.wait(LONG / 1000) and service.chats.turns.line
    merged.context.close()
    assert is_free(service) and speaks.late <= 1
