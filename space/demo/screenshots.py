"""The README's pictures, taken from the running demo: `python -m space.demo.screenshots`."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from space.demo.browser import FLAGS, installed

ROOT = Path(__file__).parents[2]
LONG = 120_000  # ms
DESKTOP, PHONE = (1280, 860), (390, 844)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with demo() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=FLAGS)
        for name, size, theme in (
            ("desktop-light", DESKTOP, "light"),
            ("desktop-dark", DESKTOP, "dark"),
            ("phone-light", PHONE, "light"),
            ("phone-dark", PHONE, "dark"),
        ):
            journey(visit(browser, address, size, theme), out, name)


@contextmanager
def demo() -> Iterator[str]:
    """The demo in a process and a home of its own; yields its address."""
    with tempfile.TemporaryDirectory(prefix="alloy-pictures-") as home:
        command = [sys.executable, "app.py", "--demo", "--port", "7871"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "ALLOY_HOME": home},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://" in line)
            yield re.findall(r"http://[\d.:]+", line)[0]
        finally:
            process.terminate()
            process.wait()


def visit(browser: Browser, address: str, size: tuple[int, int], theme: str) -> Page:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(LONG)
    page.goto(f"{address}?__theme={theme}")
    page.get_by_text("Signed in as ada").wait_for()
    page.wait_for_timeout(1500)
    return page


def journey(page: Page, out: Path, name: str) -> None:
    """Each step of the main job, a picture of each."""

    def shoot(step: str) -> None:
        page.wait_for_timeout(600)
        page.screenshot(path=out / f"{step}-{name}.png")

    page.get_by_role("button", name="Another pretraining").click()
    page.wait_for_timeout(1000)
    check(page)
    shoot("refused")
    page.get_by_role("button", name="Two skills in one").click()
    page.wait_for_timeout(1000)
    check(page)
    shoot("check")
    inspect(page)
    shoot("inspect")
    try_it(page)
    shoot("try")
    page.locator("#try-beside").click()
    ask(page, "reverse: lamot")
    shoot("live")
    page.get_by_role("tab", name="Check").click()
    check(page)
    merged(page, shoot)
    judge(page)
    shoot("judge")
    publish(page, name)
    shoot("publish")


def merged(page: Page, shoot: Callable[[str], None]) -> None:
    """The merge, and what it answers beside its parents."""
    page.locator("#merge-button").click()
    expect(page.locator("#job-panel")).to_contain_text("Done in", timeout=LONG)
    shoot("merge")
    page.locator("#to-chat").click()
    for prompt in ("reverse: lamot", "add: 17+25"):
        ask(page, prompt)
    shoot("chat")
    book(page)
    shoot("book")
    vote(page)
    shoot("blind")


def check(page: Page) -> None:
    """Press Check; on a phone the recipe may be folded, and the button with it."""
    if not page.locator("#check-button").is_visible():
        page.get_by_role("button", name="Change").click()
    page.locator("#check-button").click()
    page.wait_for_timeout(500)
    expect(page.locator("#verdict .busy")).to_have_count(0, timeout=LONG)
    expect(page.locator("#verdict .verdict")).to_be_visible(timeout=LONG)


def inspect(page: Page) -> None:
    """What the weights say, scrolled to the pictures."""
    page.get_by_role("tab", name="Inspect").click()
    page.evaluate("document.querySelector('#look-report .inspection')?.setAttribute('data-old', '')")
    page.locator("#look-button").click()
    report = page.locator("#look-report .inspection:not([data-old])")
    report.wait_for()
    report.evaluate("one => one.scrollIntoView()")


def try_it(page: Page) -> None:
    """The merge in memory: an answer before and one after a lambda was moved, and a row of five."""
    page.get_by_role("tab", name="Check").click()
    page.locator("#to-try").click()
    page.locator("#try-load").click()
    expect(page.locator("#try-status")).to_contain_text("merged in", timeout=LONG)
    for amount in ("0.2", "0.7"):
        number = page.get_by_label("number input for Lambda 1")
        if not number.is_visible():
            page.get_by_role("button", name="Change").click()
        number.fill(amount)
        number.press("Enter")
        expect(page.locator("#try-status")).to_contain_text(f"pocket-reverse {amount}", timeout=LONG)
        answers = page.locator(".turn").count()
        page.locator("#try-prompt textarea").fill("reverse: lamot")
        page.locator("#try-send").click()
        expect(page.locator(".turn")).to_have_count(answers + 1, timeout=LONG)
        expect(page.locator("#try-send")).to_be_visible(timeout=LONG)
    page.locator("#film-make").click()
    expect(page.locator("#film-keep-5")).to_be_visible(timeout=LONG)


def ask(page: Page, prompt: str) -> None:
    """A prompt, answered by all panes."""
    page.locator("#chat-prompt textarea").fill(prompt)
    page.locator("#chat-send").click()
    expect(page.locator("#chat-stop")).to_be_visible()
    expect(page.locator("#chat-send")).to_be_visible(timeout=LONG)


def book(page: Page) -> None:
    """Prompts of one's own, asked of every pane."""
    page.get_by_role("tab", name="Prompt book").click()
    page.locator("#book-text textarea").fill("reverse: lamot\nadd: 17+25\nadd: 30+12\nreverse: tiger")
    page.locator("#book-run").click()
    expect(page.locator("#book-csv")).to_be_visible(timeout=LONG)
    expect(page.locator("#book-run")).to_be_visible(timeout=LONG)


def vote(page: Page) -> None:
    """Two panes without names, answered and yet to be voted on."""
    page.get_by_role("tab", name="Talk").click()
    panes = page.locator(".pane:visible")
    if panes.count() > 2:
        page.locator("#chat-panes").get_by_role("button", name="Remove").nth(1).click()
    expect(panes).to_have_count(2)
    page.get_by_label("Blind").check()
    expect(panes.nth(1)).to_contain_text("Right")
    ask(page, "reverse: lamot")
    expect(page.locator("#vote-left")).to_be_visible(timeout=LONG)


def judge(page: Page) -> None:
    """The merge beside its parents on the demo's sample, without a task that none of them was tuned for."""
    page.get_by_role("tab", name="Judge").click()
    page.wait_for_timeout(1000)
    if page.locator("#judge-sample").is_visible():
        page.locator("#judge-sample").click()
    page.locator("#judge-tasks").get_by_label("vowels").uncheck()
    page.locator("#judge-what").get_by_label("Score", exact=True).check()
    page.wait_for_timeout(1000)
    page.evaluate("document.querySelector('#judge-panel .found')?.setAttribute('data-old', '')")
    page.locator("#judge-run").click()
    expect(page.locator("#judge-panel .found:not([data-old])")).to_contain_text("Done in", timeout=LONG)
    page.locator("#judge-panel").scroll_into_view_if_needed()


def publish(page: Page, name: str) -> None:
    page.get_by_role("tab", name="Merge").click()
    page.locator("#to-publish").click()
    page.locator("#publish-name").locator("input, textarea").fill(f"pocket-both-{name}")
    page.locator("#publish-button").click()
    expect(page.locator("#publish-link a")).to_be_visible(timeout=LONG)


if __name__ == "__main__":
    main()
