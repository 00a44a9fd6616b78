import time

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from space.api import add_api
from space.service import build_service
from space.settings import Settings
from tests.hub_fixture import ADA_TOKEN
from tests.space.conftest import BOTH, quick_hub, recipe

ENDPOINTS = {"/check", "/merge", "/job", "/cancel", "/chat", "/publish"}


@pytest.fixture(scope="module")
def url(pocket_hub, tmp_path_factory):
    """The API as an agent finds it, with Ada signed in at this machine."""
    settings = Settings(tmp_path_factory.mktemp("home"), demo=True, demo_token=ADA_TOKEN, threads=2)
    service = build_service(settings, hub_for=quick_hub)
    with gr.Blocks() as page:
        add_api(service, settings)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", mcp_server=True)
    yield url
    page.close()
    service.close()


@pytest.fixture(scope="module")
def client(url):
    found = Client(url, verbose=False)
    yield found
    found.close()


@pytest.fixture(scope="module")
def merged(client):
    return ended(client, client.predict(BOTH, api_name="/merge")["id"])


@pytest.fixture(scope="module")
def hosted(pocket_hub, tmp_path_factory):
    """The API as on a Space, where nobody is signed in."""
    settings = Settings(tmp_path_factory.mktemp("home"), hosted=True, threads=2)
    service = build_service(settings, hub_for=quick_hub)
    with gr.Blocks() as page:
        add_api(service, settings)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield url
    page.close()
    service.close()


def ended(client, job_id):
    end = time.monotonic() + 60
    while (job := client.predict(job_id, api_name="/job"))["state"] in ("queued", "running"):
        assert time.monotonic() < end
        time.sleep(0.05)
    return job


def test_the_endpoints_are_named_and_described(client, url):
    told = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert told.keys() == ENDPOINTS
    tools = {tool["name"]: tool for tool in httpx.get(f"{url}gradio_api/mcp/schema").json()}
    assert {f"/{name}" for name in tools} == ENDPOINTS
    for tool in tools.values():
        assert tool["description"]
        assert all(p.get("description") for p in tool["inputSchema"]["properties"].values()), tool
        assert not {"request", "token", "self"} & tool["inputSchema"]["properties"].keys()


def test_check_tells_verdict_reasons_and_cost(client):
    found = client.predict(BOTH, api_name="/check")
    assert found["verdict"] in ("ok", "warn")
    assert found["write_bytes"] > 1_000_000
    refused = client.predict(recipe("alloy/pocket-reverse", "alloy/pocket-stranger"), api_name="/check")
    assert refused["verdict"] == "block"
    assert refused["findings"][0]["remedy"]


def test_what_the_caller_can_put_right_is_told(client):
    with pytest.raises(AppError, match="alloy/nobody"):
        client.predict(recipe("alloy/pocket-reverse", "alloy/nobody"), api_name="/check")
    with pytest.raises(AppError, match="There is no job 'x' of yours"):
        client.predict("x", api_name="/job")


def test_a_merge_is_made_asked_and_published(client, merged, hub, repo_name):
    assert merged["state"] == "done", merged["error"]
    assert merged["log"]
    assert "folder" not in merged["result"]
    labels = ["Merge", "alloy/pocket-add"]
    replies = client.predict(merged["id"], "reverse: pocket", labels, api_name="/chat")
    assert [reply["label"] for reply in replies] == labels
    assert replies[0]["text"].strip() == "tekcop"
    job = client.predict(merged["id"], f"acme/{repo_name}", api_name="/publish")
    done = ended(client, job["id"])
    assert done["state"] == "done", done["error"]
    assert done["result"]["url"].endswith(f"acme/{repo_name}")
    assert hub.store.repo(f"acme/{repo_name}").private


def test_a_finished_job_cannot_be_cancelled(client, merged):
    assert client.predict(merged["id"], api_name="/cancel")["state"] == "done"


def test_no_answer_holds_the_token(client, merged, url):
    said = str(client.predict(merged["id"], api_name="/job")) + httpx.get(f"{url}config").text
    assert ADA_TOKEN not in said


def test_on_a_space_a_stranger_finds_no_job_of_another(hosted):
    one, other = (Client(hosted, verbose=False) for _ in range(2))
    job = one.predict(BOTH, api_name="/merge")
    assert one.predict(job["id"], api_name="/job")["id"] == job["id"]
    for endpoint, rest in [("job", ()), ("cancel", ()), ("chat", ("hello",)), ("publish", ("ada/x",))]:
        with pytest.raises(AppError, match="There is no job"):
            other.predict(job["id"], *rest, api_name=f"/{endpoint}")
    with pytest.raises(AppError, match="sign in"):
        done = ended(one, job["id"])
        one.predict(done["id"], "ada/x", api_name="/publish")
    one.close()
    other.close()
