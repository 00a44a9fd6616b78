"""Look at the weights before a merge: what is found is shown and kept, and a few numbers can be played with."""

import csv
import re

from playwright.sync_api import Page, expect

from space.localhub import Fault, LocalHub
from space.service import Service
from space.viewer import Viewer
from tests.journey.steps import LONG, downloaded, example, fail

PNG = b"\x89PNG\r\n\x1a\n"


def look(page: Page) -> None:
    page.get_by_role("tab", name="Inspect").click()
    page.locator("#look-button").click()
    expect(page.locator("#look-report .inspection")).to_be_visible(timeout=LONG)


def test_what_the_weights_say_is_shown_kept_and_downloaded(page: Page):
    page.get_by_role("tab", name="Inspect").click()
    expect(page.locator("#look-panel")).to_contain_text("Look before you merge")
    expect(page.locator("#look-button")).to_be_disabled()  # nothing to look at is chosen
    example(page, "Two skills in one", "alloy/pocket-add")
    look(page)
    report = page.locator("#look-report")
    expect(report).to_contain_text("pocket-reverse and pocket-add beside pocket-base")
    expect(report.locator("figure")).to_have_count(5)
    expect(report.locator("#inspect-cosine")).to_contain_text("nearly at right angles")
    expect(report.locator("#inspect-conflict")).to_contain_text("50.0 % by chance")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.reload()
    page.get_by_role("tab", name="Inspect").click()
    expect(report.locator("table.numbers").first).to_contain_text("null 8.45 %")
    report.get_by_text("Download", exact=True).click()
    _, table = downloaded(page, report.get_by_role("link", name="diagnosis.csv"))
    name, picture = downloaded(page, report.get_by_role("link", name="energy.png"))
    assert name == "energy.png" and picture.startswith(PNG)
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert {row["level"] for row in rows} == {"whole", "roles", "layers", "cells", "tensors"}


def test_every_entry_is_looked_at_and_a_look_is_cancelled(page: Page, service: Service, hub: LocalHub, begins):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("tab", name="Inspect").click()
    page.locator("#look-amount").get_by_label("Every entry").check()
    begins(fail(hub, Fault(delay=60)))
    page.locator("#look-button").click()
    page.locator("#look-cancel").click(timeout=LONG)
    expect(page.locator("#look-panel")).to_contain_text("Cancelled", timeout=LONG)
    expect(page.locator("#look-cancel")).to_be_hidden()
    hub.fault = None
    look(page)
    looks = [job for job in service.jobs(Viewer("local")) if job.kind == "diagnose"]
    assert [(job.state, job.payload["sample"]) for job in looks[:2]] == [("done", False), ("cancelled", False)]


def test_one_tensor_and_its_numbers_in_the_playground(page: Page):
    example(page, "Another pretraining", "alloy/pocket-stranger")
    look(page)
    expect(page.locator("#look-report .advice")).to_contain_text("is over 20% of the base's norm")
    expect(page.locator("#look-report .advice a").first).to_have_attribute("href", "https://arxiv.org/abs/2408.03092")
    page.locator("#look-tensor input").click()
    page.locator("#look-tensor input").press_sequentially("1.mlp.up", delay=20)
    page.get_by_role("option", name="model.layers.1.mlp.up_proj.weight").click()
    expect(page.locator("#inspect-changes")).to_contain_text("after task_arithmetic", timeout=LONG)
    for kind, begins in (("CSV", b"tensor,model,from,to,share"), ("PNG", PNG)):
        name, content = downloaded(page, page.locator("#inspect-changes").get_by_role("link", name=f"Download {kind}"))
        assert name == f"changes-model.layers.1.mlp.up_proj.weight.{kind.lower()}" and content.startswith(begins)
    page.locator("#look-take").click()
    expect(page.locator("#play-numbers textarea")).to_have_value(
        re.compile(r"base: .*\npocket-reverse: .*\npocket-stranger: ")
    )
    steps, share = page.locator("#play-walk .walk li"), page.get_by_label("number input for Density")
    expect(steps.nth(2)).to_contain_text("of pocket-stranger 50%")
    share.fill("0.25")
    share.press("Enter")
    expect(steps.nth(2)).to_contain_text("of pocket-stranger 25%")
    page.locator("#play-method").get_by_text("DARE", exact=True).click()
    expect(steps.nth(2)).to_contain_text("Drop at random")
    page.locator("#play-method").get_by_text("SLERP", exact=True).click()
    expect(page.locator("#play-walk")).to_contain_text("SLERP takes one model besides the base")
    expect(steps.last).to_contain_text("The blend")
    expect(page.get_by_label("range slider for First lambda")).to_be_hidden()
    page.locator("#play-method").get_by_text("Task arithmetic").click()
    expect(steps).to_have_count(5)
    expect(share).to_be_hidden()
    page.get_by_label("range slider for First lambda").press("ArrowLeft")
    expect(steps.nth(2)).to_contain_text("The changes of pocket-reverse by 0.95")
    page.locator("#play-numbers textarea").fill("1 2\n3")
    expect(page.locator("#play-walk")).to_contain_text("The base has 2 numbers, model 1 has 1")
