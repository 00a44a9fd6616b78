"""People who poll and chat while a merge runs: how long a poll takes them."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from benchmarks.cases import Case
from benchmarks.slow_hub import OWNER, ROOT, SlowHub

POLL_SECONDS = 0.5  # as the page does
LONGEST = 60.0  # seconds that are measured, at most
POCKET = ("alloy/pocket-reverse", "alloy/pocket-add")


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that polls took."""

    people: int
    polls: int
    median: float
    p95: float
    most: float
    answers: int  # of the chat


def people_at_work(hub: SlowHub, case: Case, home: Path, users: int) -> Waits:
    """Start the app as on a Space; each has a small merge to chat with; then a large one is merged meanwhile."""
    with app(hub, home) as address:
        people = [Person(address, hub.tokens[f"user{n}"]) for n in range(users)]
        owner = Person(address, hub.tokens[OWNER])
        for person in people:
            person.merge(pocket_recipe())
        for person in people:
            person.wait_for("done")
        large = owner.merge(case.recipe(Path(OWNER)))
        owner.wait_for("running")
        stop = threading.Event()
        with ThreadPoolExecutor(2 * users) as pool:
            polls = [pool.submit(person.poll_until, stop) for person in people]
            chats = [pool.submit(person.chat_until, stop) for person in people]
            until = time.monotonic() + LONGEST
            while time.monotonic() < until and owner.ask("job", job_id=large)["state"] == "running":
                time.sleep(1)
            stop.set()
        return summed(users, [wait for one in polls for wait in one.result()], sum(one.result() for one in chats))


def summed(people: int, waits: Sequence[float], answers: int) -> Waits:
    median, p95 = np.quantile(waits, (0.5, 0.95))
    return Waits(people, len(waits), float(median), float(p95), max(waits), answers)


def pocket_recipe() -> str:
    models = [{"model": name, "parameters": {"weight": 0.7}} for name in POCKET]
    return yaml.safe_dump({"merge_method": "task_arithmetic", "base_model": "alloy/pocket-base", "models": models})


@contextmanager
def app(hub: SlowHub, home: Path) -> Iterator[str]:
    """The app in a process of its own, as on a Space; yields its address."""
    log = home.with_suffix(".log")
    place = {
        "SYSTEM": "spaces", "SPACE_ID": "bench/alloy", "OAUTH_CLIENT_ID": "bench", "OAUTH_CLIENT_SECRET": "bench",
        "OAUTH_SCOPES": "openid profile", "OPENID_PROVIDER_URL": hub.url, "ALLOY_HOME": str(home),
        "ALLOY_QUEUE_LENGTH": "99", "PYTHONUNBUFFERED": "1", "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    environ = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"} | place
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", free_port()], cwd=ROOT, env=environ, stdout=out, stderr=out
        )
    try:
        yield address_in(log, process)
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def address_in(log: Path, process: "subprocess.Popen[bytes]") -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"http://[\d.]+:\d+", log.read_text()):
            return found[0].replace("0.0.0.0", "127.0.0.1")
        time.sleep(0.1)
    raise RuntimeError(f"the app did not start: {log.read_text()[-2000:]}")


class Person:
    """Who speaks with the app as scripts do, with a token of their own."""

    def __init__(self, address: str, token: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=120)
        self.token = token
        self.job = ""

    def ask(self, name: str, **data: Any) -> Any:
        """The answer of a named endpoint; the last one where it gives several."""
        begun = self.http.post(f"/gradio_api/call/v2/{name}", json={**data, "oauth_token": self.token})
        begun.raise_for_status()
        said = self.http.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}").text
        event, _, rest = said.rstrip().rpartition("event: ")[2].partition("\n")
        if event != "complete":
            raise RuntimeError(f"{name} was answered with {said[-500:]}")
        return json.loads(rest.removeprefix("data: "))[0]

    def merge(self, recipe: str) -> str:
        self.job = str(self.ask("merge", recipe=recipe)["id"])
        return self.job

    def wait_for(self, state: str) -> None:
        while (found := self.ask("job", job_id=self.job))["state"] != state:
            if found["state"] in ("failed", "cancelled", "interrupted"):
                raise RuntimeError(f"a merge did not end well: {found['error']}")
            time.sleep(0.5)

    def poll_until(self, stop: threading.Event) -> list[float]:
        waits = []
        while not stop.wait(POLL_SECONDS):
            began = time.monotonic()
            self.ask("job", job_id=self.job)
            waits.append(time.monotonic() - began)
        return waits

    def chat_until(self, stop: threading.Event) -> int:
        other, count = Person(str(self.http.base_url), self.token), 0
        while not stop.is_set():
            other.ask("chat", job_id=self.job, prompt="reverse: lamot")
            count += 1
        return count
