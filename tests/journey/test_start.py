"""The app as it is started: the demo in one command, and as a Space with a sign-in button."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.conftest import HUB_PORT, free_port

ROOT = Path(__file__).parents[2]


@contextmanager
def started(home: Path, log: Path, *arguments: str, **environ: str) -> Iterator[str]:
    """The app in a process of its own; yields its address once it says it."""
    command = [sys.executable, "app.py", "--port", str(free_port()), *arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "ALLOY_HOME": str(home), **environ}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield address_in(log, process)
    finally:
        process.terminate()
        process.wait(20)


def address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"http://[\d.]+:\d+", log.read_text()):
            return found[0].replace("0.0.0.0", "127.0.0.1")
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_demo_starts_with_models_and_a_signed_in_user(browser: Browser, tmp_path: Path):
    with started(tmp_path / "home", tmp_path / "log", "--demo") as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_text("Signed in as ada")).to_be_visible(timeout=30_000)
        page.get_by_label("Model 1", exact=True).first.press_sequentially("pirate", delay=30)
        expect(page.get_by_role("option", name="alloy/pocket-pirate")).to_be_visible(timeout=30_000)
        page.close()
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_space_has_a_sign_in_button_and_merges_for_nobody_unknown(
    browser: Browser, local_hub: object, tmp_path: Path
):
    home = Path.home() / ".cache" / f"alloy-test-{os.getpid()}"  # not where Gradio serves files from
    space = {
        "SYSTEM": "spaces", "SPACE_ID": "acme/alloy", "SPACE_HOST": "acme-alloy.hf.space", "OAUTH_CLIENT_ID": "id",
        "OAUTH_CLIENT_SECRET": "secret", "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": f"http://127.0.0.1:{HUB_PORT}",
    }  # fmt: skip
    try:
        with started(home, tmp_path / "log", **space) as address:
            page = browser.new_page()
            page.goto(address)
            expect(page.get_by_text("Not signed in")).to_be_visible(timeout=30_000)
            expect(page.get_by_role("button", name="Sign in with Hugging Face")).to_be_visible()
            with urllib.request.urlopen(f"{address}/gradio_api/mcp/schema") as answer:
                assert b"check" in answer.read()
            page.close()
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)
