"""The real app, served on loopback over the local Hub, and a real Chromium."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from space.demo.browser import FLAGS, installed
from space.demo.hub import MODELS
from space.examples import examples
from space.jobs import Job, Report
from space.localhub import LocalHub
from space.pages.launch import launch
from space.pages.page import build_page
from space.service import Service, build_service
from space.settings import Settings
from space.viewer import Viewer
from tests.environment import free_port
from tests.hub_fixture import ADA_TOKEN
from tests.journey.steps import open_job

TWO_SKILLS = """
merge_method: task_arithmetic
base_model: alloy/pocket-base
models:
- {model: alloy/pocket-reverse, parameters: {weight: 0.7}}
- {model: alloy/pocket-add, parameters: {weight: 0.7}}
"""
PATIENCE = 30_000  # ms until a state that must come is given up; a busy machine takes seconds to draw a page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service(local_hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    local_hub.store.import_folder(MODELS)
    home = tmp_path_factory.mktemp("app") / "home"
    service = build_service(Settings(home, demo=True, demo_token=ADA_TOKEN, threads=2))
    yield service
    service.close()


@pytest.fixture(scope="session")
def address(service: Service) -> Iterator[str]:
    page = build_page(service, service.settings, examples(service.settings))
    yield launch(page, service, port=free_port(), wait=False)
    page.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh visit at desktop size. An error in the browser's console fails the test."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_text("Signed in as ada").wait_for()
    yield page
    context.close()
    assert errors == []


@pytest.fixture(scope="session")
def two_skills(service: Service, address: str) -> str:
    """The id of a finished merge, made once for the tests of what comes after merging."""
    job = service.merge(TWO_SKILLS, Viewer("local"))
    while (job := service.job(job.id, Viewer("local"))).active:
        time.sleep(0.1)
    assert job.state == "done", job.error
    return job.id


@pytest.fixture
def merged(page: Page, two_skills: str) -> Page:
    """The page with that merge opened."""
    page.get_by_role("tab", name="Jobs").click()
    open_job(page, page.locator(f"#job-list input[value='{two_skills}']"))
    expect(page.locator("#job-panel .job.done")).to_contain_text("Done in")
    return page


@pytest.fixture
def hub(local_hub: LocalHub) -> Iterator[LocalHub]:
    yield local_hub
    local_hub.fault = None


@pytest.fixture
def begins(service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Report], None]], None]:
    """Have something done when the next job begins to run, which its check came before."""
    run = service.queue.run

    def at(first: Callable[[Report], None]) -> None:
        def begin(job: Job, report: Report) -> Any:
            monkeypatch.setattr(service.queue, "run", run)
            first(report)
            return run(job, report)

        monkeypatch.setattr(service.queue, "run", begin)

    return at
