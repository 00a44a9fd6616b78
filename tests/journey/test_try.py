"""Try a merge in memory: a skill comes and goes with its lambda, and the best of a filmstrip becomes the recipe."""

import json
import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from merging.errors import MergeError
from merging.report import REPORT
from space.service import Service
from space.viewer import Viewer
from tests.journey.steps import LONG, check, example, load, merge, move


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
    expect(page.locator(".turn .from")).to_contain_text(re.compile(r"[1-9]\d* tokens, [1-9]\d* a second"))
    move(page, 1, "0")
    expect(page.locator(".turn.old")).to_contain_text("from older lambdas")
    assert ask(page, "reverse: lamot") != "tomal"
    assert ask(page, "add: 17+25") == "42"
    move(page, 1, "0.7")
    expect(page.locator(".turn.old")).to_have_count(2)  # those of lambda 0; the first one is of the present ones again
    assert ask(page, "reverse: lamot") == "tomal"


def test_another_density_and_another_method_are_followed_too(page: Page, service: Service):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    page.locator("#method input").click()
    page.get_by_role("option", name="TIES", exact=True).click()
    expect(page.get_by_label("number input for Density")).to_be_visible()
    assert_made(service, "merge_method: ties")
    density = page.get_by_label("number input for Density")
    density.fill("0.4")
    density.press("Enter")
    assert_made(service, "density: 0.4")
    expect(page.locator("#try-status")).to_contain_text("re-merged in", timeout=LONG)
    assert ask(page, "add: 17+25") == "42"
    assert_made(service, "density: 0.4")


def assert_made(service: Service, said: str) -> None:
    """Wait until the merge in memory is of a recipe that says so."""
    end = time.monotonic() + LONG / 1000
    while not any(said in session.made for session in service.live.sessions.values()):
        assert time.monotonic() < end, [session.made for session in service.live.sessions.values()]
        time.sleep(0.05)


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
    merge(page, "#film-keep-4")
    expect(page.get_by_label("number input for Lambda 1")).to_have_value("0.525")
    page.get_by_role("button", name="Recipe as YAML").click()
    expect(page.locator("#recipe-yaml")).to_contain_text("weight: 0.525")
    job = service.jobs(Viewer("local"))[0]
    report = json.loads((service.model_folder(job.id) / REPORT).read_text("utf-8"))
    for said in (job.payload["recipe"], report["recipe"]):
        assert said.index("pocket-reverse") < said.index("weight: 0.525") < said.index("weight: 0.7")


def test_what_stands_in_the_way_of_a_kept_merge_is_said_and_nothing_is_merged(
    page: Page, service: Service, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*given: object, **more: object) -> None:
        raise MergeError("The disk is full.")

    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    before = service.jobs(Viewer("local"))
    monkeypatch.setattr(service, "refuse_no_room", refuse)
    page.locator("#try-keep").click()
    expect(page.locator("#merge-why-not")).to_contain_text("The disk is full.", timeout=LONG)
    page.get_by_label("Model 2", exact=True).first.fill("alloy/pocket-stranger")
    page.get_by_label("Model 2", exact=True).first.press("Tab")
    expect(page.locator(".summary")).to_contain_text("pocket-stranger")
    page.get_by_role("tab", name="Try").click()
    expect(page.locator("#try-status")).to_contain_text("pocket-stranger is not in memory")
    expect(page.locator("#try-load")).to_have_text("Load it again")
    page.locator("#try-keep").click()
    expect(page.locator("#verdict")).to_contain_text("Do not merge", timeout=LONG)
    expect(page.locator("#check-cancel")).to_be_hidden()
    expect(page.locator("#merge-button")).to_be_hidden()
    check(page)  # by the end of which a merge would have been asked for
    expect(page.locator("#merge-why-not")).to_have_text("")
    assert [job.id for job in service.jobs(Viewer("local"))] == [job.id for job in before]


def test_a_model_more_is_loaded_at_a_click(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    page.get_by_label("Model 2", exact=True).first.fill("alloy/pocket-double")
    page.get_by_label("Model 2", exact=True).first.press("Tab")
    expect(page.locator("#try-status")).to_contain_text("pocket-double is not in memory", timeout=LONG)
    page.locator("#try-load").click()
    expect(page.locator("#try-status")).to_contain_text("pocket-double 0.7", timeout=LONG)
    expect(page.locator("#try-status")).to_contain_text("merged in", timeout=LONG)
    expect(page.locator("#try-load")).to_be_hidden()


def test_a_merge_that_has_left_memory_meanwhile_is_loaded_again(page: Page, service: Service):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    service.live.drop(lambda tab, session: True)  # as after a while in which nobody asked
    page.locator("#try-prompt textarea").fill("reverse: lamot")
    page.locator("#try-send").click()
    expect(page.locator("#try-status")).to_contain_text("not in memory any more. Load it again")
    page.locator("#try-load").click()
    expect(page.locator("#try-status")).to_contain_text("merged in", timeout=LONG)


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
