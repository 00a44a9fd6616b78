"""Try a merge in memory: a skill comes and goes with its lambda, and the best of a filmstrip becomes the recipe."""

import time

from playwright.sync_api import Browser, Page, expect

from space.service import Service
from tests.journey.steps import LONG, check, example, load, move


def ask(page: Page, prompt: str) -> str:
    """The answer to a prompt, which stands last."""
    before = page.locator(".turn").count()
    page.locator("#try-prompt textarea").fill(prompt)
    page.locator("#try-send").click()
    expect(page.locator(".turn")).to_have_count(before + 1, timeout=LONG)
    expect(page.locator("#try-send")).to_be_visible(timeout=LONG)
    return page.locator(".turn").first.locator(".answer").inner_text()


def test_a_skill_comes_and_goes_with_its_slider(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    assert ask(page, "reverse: lamot") == "tomal"
    move(page, 1, "0")
    expect(page.locator(".turn.old")).to_contain_text("from older lambdas")
    assert ask(page, "reverse: lamot") != "tomal"
    assert ask(page, "add: 17+25") == "42"
    move(page, 1, "0.7")
    expect(page.locator(".turn.old")).to_have_count(2)  # those of lambda 0; the first one is of the present ones again
    assert ask(page, "reverse: lamot") == "tomal"


def test_the_best_of_a_filmstrip_becomes_the_recipe(page: Page, service: Service):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    page.locator("#try-prompt textarea").fill("reverse: lamot")
    page.locator("#film-which input").click()
    page.get_by_role("option", name="That of alloy/pocket-reverse").click()
    page.locator("#film-make").click()
    expect(page.locator("#film-keep-5")).to_be_visible(timeout=LONG)
    shots = page.locator(".shot")
    assert shots.nth(0).locator(".answer").inner_text() != "tomal"
    assert shots.nth(3).locator(".answer").inner_text() == "tomal"
    expect(shots.nth(3)).to_contain_text("pocket-reverse 0.525, pocket-add 0.7")
    page.locator("#film-keep-4").click()
    expect(page.get_by_label("number input for Lambda 1")).to_have_value("0.525")
    page.get_by_role("button", name="Recipe as YAML").click()
    expect(page.locator("#recipe-yaml")).to_contain_text("weight: 0.525")
    expect(page.locator("#recipe-yaml")).to_contain_text("weight: 0.7")
    expect(page.locator("#merge-why-not")).to_contain_text("Check again")


def test_a_merge_leaves_memory_with_its_tab(browser: Browser, address: str, service: Service):
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    assert service.live.sessions
    context.close()
    end = time.monotonic() + 60
    while service.chats.models.reserved_bytes and time.monotonic() < end:  # given back last
        time.sleep(0.05)
    assert service.live.sessions == {} and service.chats.models.reserved_bytes == 0
