"""Two people and a stranger on one Space, each in a browser of their own: real sign-in, and nothing of one for another."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from space.demo.hub import MODELS
from space.localhub import LocalHub
from tests.journey.started import space
from tests.journey.test_journey import LONG, check, example, merge


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("space") / "log"


@pytest.fixture(scope="module")
def served(local_hub: LocalHub, log: Path) -> Iterator[tuple[str, Path]]:
    local_hub.store.import_folder(MODELS)
    with space(local_hub, log) as found:
        yield found


@contextmanager
def visit(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(address)
    expect(page.get_by_text("Not signed in")).to_be_visible(timeout=30_000)
    yield page
    context.close()


def sign_in(page: Page, user: str, *, answer: str = "Allow") -> None:
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    page.get_by_role("radio", name=user).check()
    page.get_by_role("button", name=answer, exact=True).click()


def test_two_people_sign_in_and_out_beside_each_other(browser: Browser, served: tuple[str, Path]):
    with visit(browser, served[0]) as ada, visit(browser, served[0]) as bob:
        sign_in(ada, "Ada")
        sign_in(bob, "Bob")
        expect(ada.get_by_text("Signed in as ada")).to_be_visible()
        expect(bob.get_by_text("Signed in as bob")).to_be_visible()
        ada.reload()
        expect(ada.get_by_text("Signed in as ada")).to_be_visible()
        ada.get_by_role("button", name="Sign out (ada)").click()
        expect(ada.get_by_text("Not signed in")).to_be_visible()
        bob.reload()
        expect(bob.get_by_text("Signed in as bob")).to_be_visible()


def test_who_does_not_allow_it_is_told_that_they_are_not_signed_in(browser: Browser, served: tuple[str, Path]):
    with visit(browser, served[0]) as page:
        sign_in(page, "Ada", answer="Do not allow")
        expect(page.locator("#notice")).to_contain_text("You are not signed in")
        sign_in(page, "Ada")
        expect(page.get_by_text("Signed in as ada")).to_be_visible()
        expect(page.locator("#notice")).to_be_hidden()


def test_a_merge_from_before_the_sign_in_is_there_after_it(browser: Browser, served: tuple[str, Path]):
    with visit(browser, served[0]) as page:
        example(page, "Half way to instruct", "")
