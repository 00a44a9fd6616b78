"""Chromium as the tests and the pictures use it."""

import shutil

# Without these Chromium calls home, which a closed network answers with a flood of refusals.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # as in .ci/browser


def installed() -> str | None:
    """Where a Chromium is that can be used; None: Playwright's own. The shell draws a page in less time."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)
