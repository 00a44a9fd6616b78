"""When things go wrong in the browser: cancel, a Hub that goes away, models that may not be read. Nothing is lost."""

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from merging.compatibility import Check
from merging.patience import Patience
from space.demo.hub import MODELS
from space.jobs import Report
from space.localhub import Fault, LocalHub
from space.service import Service
from space.viewer import Viewer
from tests.journey.steps import LONG, check, example, fail


def start(page: Page) -> None:
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    page.locator("#merge-button").click()


def jobs_on_disk(service: Service) -> list[Path]:
    return sorted((service.settings.home / "jobs").iterdir())


def test_what_the_browser_missed_comes_all_the_same(browser: Browser, address: str):
    """The stream of answers is closed while something is asked, as happens on a busy machine."""
    closed: list[str] = []

    def close_at_first(route: Route) -> None:
        closed.append(route.request.url)
        if len(closed) > 3:
            route.continue_()
        else:
            route.fulfill(content_type="text/event-stream", body='data: {"msg": "close_stream"}\n\n')

    context = browser.new_context()
    page = context.new_page()
    page.route("**/queue/data*", close_at_first)
    page.goto(address)
    expect(page.get_by_text("Signed in as ada")).to_be_visible(timeout=LONG)
    assert len(closed) > 3
    context.close()


def test_cancel_stops_the_merge_and_leaves_nothing(page: Page, hub: LocalHub, service: Service, begins):
    before = jobs_on_disk(service)
    begins(fail(hub, Fault(delay=60)))
    start(page)
    page.locator("#cancel-button").click(timeout=LONG)
    expect(page.locator("#job-panel")).to_contain_text("Cancelled", timeout=LONG)
    expect(page.locator("#cancel-button")).to_be_hidden()
    assert jobs_on_disk(service) == before


def test_a_check_can_be_left_while_the_hub_is_silent(page: Page, hub: LocalHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Patience, "hurried", lambda patience: replace(patience, silence=120))
    example(page, "Two skills in one", "alloy/pocket-add")
    hub.fault = lambda request: Fault(delay=120) if "/api/models/" in request.url.path else None
    page.locator("#check-button").click()
    expect(page.locator("#verdict .busy")).to_be_visible()
    page.locator("#check-cancel").click()
    expect(page.locator("#verdict")).to_contain_text("Check cancelled")
    expect(page.locator("#check-cancel")).to_be_hidden()
    hub.fault = None
    check(page)
    expect(page.locator("#verdict")).to_contain_text("These belong together.")
    expect(page.get_by_label("Model 2", exact=True).first).to_have_value("alloy/pocket-add")


def test_what_is_changed_while_a_check_runs_stays(page: Page, service: Service, monkeypatch: pytest.MonkeyPatch):
    look, goes_on = service.check, Event()

    def slowly(*given: Any, **more: Any) -> Check:
        assert goes_on.wait(LONG / 1000)
        return look(*given, **more)

    monkeypatch.setattr(service, "check", slowly)
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("button", name="Recipe as YAML").click()
    page.locator("#check-button").click()
    expect(page.locator("#verdict .busy")).to_be_visible()
    amount = page.get_by_label("number input for Lambda 2")
    amount.fill("0.35")
    amount.press("Enter")
    expect(page.locator("#recipe-yaml .cm-content")).to_contain_text("weight: 0.35")
    goes_on.set()
    expect(page.locator("#merge-why-not")).to_contain_text("The recipe has changed since this check.", timeout=LONG)
    expect(page.locator("#merge-button")).to_be_disabled()
    expect(amount).to_have_value("0.35")
    expect(page.locator("#recipe-yaml .cm-content")).to_contain_text("weight: 0.35")
    check(page)
    expect(page.locator("#merge-button")).to_be_enabled()
    expect(page.locator("#merge-why-not")).to_have_text("")
    amount.fill("0.4")
    amount.press("Enter")
    expect(page.locator("#merge-button")).to_be_disabled()
    amount.fill("0.35")
    amount.press("Enter")
    expect(page.locator("#merge-button")).to_be_enabled()


def test_what_is_merged_is_what_was_checked(page: Page, hub: LocalHub, service: Service):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    before = hub.store.revision("alloy/pocket-add", "main").sha
    hub.store.commit("alloy/pocket-add", {"notes.txt": before.encode()}, message="meanwhile")
    page.locator("#merge-button").click()
    expect(page.locator("#job-panel .job.done")).to_be_visible(timeout=LONG)
    assert before in service.jobs(Viewer("local"))[0].payload["recipe"]


def test_a_hub_that_goes_away_is_said_and_the_job_can_be_started_again(page: Page, hub: LocalHub, begins):
    begins(fail(hub, Fault(status=404)))
    start(page)
    expect(page.locator("#job-panel .job.failed")).to_be_visible(timeout=LONG)
    expect(page.locator("#job-panel .state")).to_contain_text("alloy/pocket-")
    hub.fault = None
    page.locator("#again-button").click()
    expect(page.locator("#job-panel")).to_contain_text("Done in", timeout=LONG)


def test_the_second_job_waits_with_its_place_shown(page: Page, hub: LocalHub, begins):
    goes_on = Event()

    def hold(report: Report) -> None:
        while not goes_on.wait(0.1):
            report.check()

    begins(hold)
    start(page)
    expect(page.locator("#job-panel .job.running")).to_be_visible(timeout=LONG)
    page.get_by_role("tab", name="Check").click()
    page.locator("#merge-button").click()
    expect(page.locator("#job-panel .state")).to_contain_text("place 1 in the queue", timeout=LONG)
    page.locator("#cancel-button").click()
    expect(page.locator("#job-panel")).to_contain_text("Cancelled", timeout=LONG)
    goes_on.set()
    page.get_by_role("tab", name="Jobs").click()
    expect(page.locator("#job-list label").nth(1)).to_contain_text("done", timeout=LONG)


@pytest.mark.parametrize(
    ("name", "gated", "private", "words"),
    [("locked", "manual", False, "is gated"), ("hidden", False, True, "There is no model")],
)
def test_models_that_may_not_be_read_are_named(page: Page, hub: LocalHub, name, gated, private, words):
    repo = f"bob/{name}"
    hub.store.create_repo(repo, private=private, gated=gated)
    files = {p.name: p for p in (MODELS / "alloy" / "pocket-add").iterdir()}
    hub.store.commit(repo, files, message="weights")
    example(page, "Two skills in one", "alloy/pocket-add")
    box = page.get_by_label("Model 2", exact=True).first
    box.fill(repo)
    box.press("Tab")
    expect(page.locator(".summary")).to_contain_text(name)
    check(page)
    expect(page.locator("#verdict")).to_contain_text(repo)
    expect(page.locator("#verdict")).to_contain_text(words)
    expect(box).to_have_value(repo)
