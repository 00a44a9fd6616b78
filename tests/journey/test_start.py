"""The app as it is started: the demo in one command, and as a Space with a sign-in button."""

import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, expect

from space.localhub import LocalHub
from tests.journey.started import space, started


def test_the_demo_starts_with_models_and_a_signed_in_user(browser: Browser, tmp_path: Path):
    with started(tmp_path / "home", tmp_path / "log", "--demo") as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_text("Signed in as ada")).to_be_visible(timeout=60_000)
        page.get_by_label("Model 1", exact=True).first.press_sequentially("pirate", delay=30)
        expect(page.get_by_role("option", name="alloy/pocket-pirate")).to_be_visible(timeout=60_000)
        page.close()
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_space_has_a_sign_in_button_and_merges_for_nobody_unknown(
    browser: Browser, local_hub: LocalHub, tmp_path: Path
):
    with space(local_hub, tmp_path / "log") as (address, _):
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_text("Not signed in")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="Sign in with Hugging Face")).to_be_visible()
        with urllib.request.urlopen(f"{address}/gradio_api/mcp/schema") as answer:
            assert b"check" in answer.read()
        page.close()
