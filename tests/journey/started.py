"""The app in a process of its own, as it is started."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from space.localhub import LocalHub
from tests.environment import HUB_PORT, free_port

ROOT = Path(__file__).parents[2]
APP, SECRET = "alloy-on-a-space", "secret-of-the-space"
SPACE = {
    "SYSTEM": "spaces", "SPACE_ID": "acme/alloy", "OAUTH_CLIENT_ID": APP, "OAUTH_CLIENT_SECRET": SECRET,
    "OAUTH_SCOPES": "openid profile read-repos gated-repos contribute-repos",
    "OPENID_PROVIDER_URL": f"http://127.0.0.1:{HUB_PORT}",
}  # fmt: skip


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


@contextmanager
def space(hub: LocalHub, log: Path, **environ: str) -> Iterator[tuple[str, Path]]:
    """The app as on a Space, where people sign in at the local Hub; yields its address and its work folder.

    Without SPACE_HOST: Gradio would send people back to https on that host, which is not this machine.
    """
    home = Path.home() / ".cache" / f"alloy-test-{os.getpid()}"  # not where Gradio serves files from
    hub.sign_in.apps[APP] = SECRET
    try:
        with started(home, log, **{**SPACE, **environ}) as address:
            yield address, home
    finally:
        shutil.rmtree(home, ignore_errors=True)
