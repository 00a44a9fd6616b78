"""What a person does on the page, step by step, with what they wait for."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError, expect
from starlette.requests import Request

from space.jobs import Report
from space.localhub import Fault, LocalHub

LONG = 180_000  # ms: a first load of torch and a model on a machine that is very busy


def choose(page: Page, label: str, text: str) -> None:
    """Type into a model's box until the Hub suggests the repo, and take the suggestion.

    Typed once more if need be: the list that comes when the page opens may replace what was suggested meanwhile.
    """
    box, option = page.get_by_label(label, exact=True).first, page.get_by_role("option", name=text, exact=True).first
    for _ in range(3):
        box.click()
        box.fill("")
        box.press_sequentially(text.split("/")[1], delay=20)
        with suppress(TimeoutError):
            option.click(timeout=5000)
            break
    else:  # the tests' Hub may hold ten others that match better; the whole name is as good
        box.fill(text)
        box.press("Tab")
    expect(box).to_have_value(text)


def example(page: Page, title: str, model: str) -> None:
    """Take an example, and wait until it is in the form, and with it in the YAML and in the line on top."""
    page.get_by_role("button", name=title).click()
    expect(page.get_by_label("Model 2", exact=True).first).to_have_value(model)
    expect(page.locator(".summary")).to_contain_text(model.split("/")[1])


def yaml_of(page: Page) -> str:
    return page.locator("#recipe-yaml .cm-content").inner_text()


def downloaded(page: Page, link: Locator) -> tuple[str, bytes]:
    """What a click on it saves: the name that is proposed, and the content."""
    with page.expect_download() as arriving:
        link.click()
    return arriving.value.suggested_filename, Path(arriving.value.path()).read_bytes()


def check(page: Page) -> None:
    """Press Check and wait for a verdict that was not there before."""
    page.evaluate("document.querySelector('#verdict .verdict')?.setAttribute('data-old', '')")
    page.locator("#check-button").click()
    expect(page.locator("#verdict .verdict:not([data-old])")).to_be_visible(timeout=LONG)


def load(page: Page) -> None:
    """Have the merge that was checked in memory, to try it."""
    page.locator("#to-try").click()
    expect(page.locator("#try-load")).to_contain_text("MB and try it")  # what it takes, before anything is read
    page.locator("#try-load").click()
    expect(page.locator("#try-status")).to_contain_text("merged in", timeout=LONG)


def move(page: Page, number: int, value: str) -> None:
    """Move a lambda, and wait for its merge."""
    amount = page.get_by_label(f"number input for Lambda {number}")
    amount.fill(value)
    amount.press("Enter")
    name = ("reverse", "add")[number - 1]
    expect(page.locator("#try-status")).to_contain_text(f"pocket-{name} {value}", timeout=LONG)
    expect(page.locator("#try-status")).to_contain_text("re-merged in", timeout=LONG)


def merge(page: Page, button: str = "#merge-button") -> None:
    """Press what merges and wait for the end of that job: the page may show an earlier one."""
    page.evaluate("document.querySelector('#job-panel .job')?.setAttribute('data-old', '')")
    page.locator(button).click()
    expect(page.locator("#job-panel .job.done:not([data-old])")).to_contain_text("Done in", timeout=LONG)


def publish_as(page: Page, name: str) -> Locator:
    """Name the new repo, once the page has proposed a name; the button that then publishes."""
    button, box = page.locator("#publish-button"), page.locator("#publish-name").locator("input, textarea")
    expect(button).to_contain_text("Publish to")
    expect(box).not_to_have_value("")
    fill_until(box, name, button, f"/{name}")
    return button


def fill_until(box: Locator, text: str, place: Locator, said: str) -> None:
    """Gradio fills a box that has just been made once more, which no person is quick enough to see: also when what was
    typed has been told already."""
    for _ in range(4):
        box.fill(text)
        with suppress(AssertionError):
            expect(place).to_contain_text(said, timeout=4000)
            box.page.wait_for_timeout(400)
            expect(box).to_have_value(text, timeout=500)
            expect(place).to_contain_text(said, timeout=500)
            return
        box.press("End")
        box.press("Tab")
    expect(place).to_contain_text(said)


def open_job(page: Page, job: Locator) -> None:
    """Choose a line of Jobs and open it: a list that comes anew at the same moment takes the choice back."""
    for _ in range(4):
        job.click()
        page.wait_for_timeout(300)
        with suppress(AssertionError):
            expect(page.locator("#open-job")).to_be_visible(timeout=2000)
            break
    page.locator("#open-job").click()


def say(page: Page, prompt: str) -> list[str]:
    """Ask all panes, and wait until every pane has answered."""
    panes = page.locator(".pane:visible")
    asked = panes.first.locator(".message.user")
    before = asked.count()
    page.locator("#chat-prompt textarea").fill(prompt)
    page.locator("#chat-send").click()
    expect(asked).to_have_count(before + 1, timeout=LONG)  # Send is hidden by now
    expect(page.locator("#chat-send")).to_be_visible(timeout=LONG)
    return [panes.nth(i).locator(".message.bot").last.inner_text().strip() for i in range(panes.count())]


def weights(request: Request) -> bool:
    return "/cdn/" in request.url.path


def fail(hub: LocalHub, fault: Fault) -> Callable[[Report], None]:
    """A fault on every read of weights."""

    def begin(report: Report) -> None:
        hub.fault = lambda request: fault if weights(request) else None

    return begin
