"""The page as scripts and agents see it: six named endpoints, and nothing else."""

import time
import urllib.request
from typing import Any

from gradio_client import Client

from space.localhub import LocalHub
from tests.journey.callers import Caller
from tests.journey.conftest import TWO_SKILLS

NAMES = {"/check", "/merge", "/job", "/cancel", "/chat", "/publish"}


def test_the_page_offers_six_endpoints_with_words(address: str):
    listed: Any = Client(address, verbose=False).view_api(return_format="dict")
    assert listed["named_endpoints"].keys() == NAMES and not listed["unnamed_endpoints"]
    with urllib.request.urlopen(f"{address}/gradio_api/mcp/schema") as answer:
        schema = answer.read().decode()
    assert all(f'"{name[1:]}"' in schema or f"_{name[1:]}" in schema for name in NAMES)


def test_no_component_is_told_of_every_event(address: str):
    """Or the browser looks for all of them at each: see `tell_once`."""
    listeners = Caller(address).config()["dependencies"]
    told = {tuple(one["show_progress_on"] or one["outputs"]) for one in listeners}
    assert len(listeners) > 100 and len(told) == 1 and len(told.pop()) == 1
    assert max(len(one["inputs"]) for one in listeners if one["backend_fn"]) < 12  # each is told as well


def test_a_script_goes_the_whole_way(address: str, local_hub: LocalHub):
    client = Client(address, verbose=False)
    assert client.predict(TWO_SKILLS, api_name="/check")["verdict"] == "ok"
    job = finished(client, client.predict(TWO_SKILLS, api_name="/merge"))
    assert client.predict(job["id"], "reverse: lamot", api_name="/chat")[0]["text"].strip() == "tomal"
    pushed = finished(client, client.predict(job["id"], "ada/by-script", api_name="/publish"))
    assert pushed["result"]["url"].endswith("/ada/by-script")
    assert local_hub.store.repo("ada/by-script").private


def finished(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + 120
    while job["state"] in ("queued", "running") and time.monotonic() < end:
        time.sleep(0.2)
        job = client.predict(job["id"], api_name="/job")
    assert job["state"] == "done", job
    return job
