"""The gate before a small app in Gradio's place, behind the session layer that Gradio has."""

import base64
import json
import time

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from space.gate import FAILED, MAX_BODY_BYTES, Gate

TOKEN = "hf_oauth_of_somebody_1234567890"


async def page(request: Request) -> JSONResponse:
    return JSONResponse(request.session.get("oauth_info"))


async def login(request: Request) -> JSONResponse:
    seconds = float(request.query_params.get("seconds", 60))
    who = {"preferred_username": "ada"}
    request.session["oauth_info"] = {"access_token": TOKEN, "userinfo": who, "expires_at": time.time() + seconds}
    return JSONResponse("in")


async def broken(request: Request) -> JSONResponse:
    raise RuntimeError("the Hub is away")


async def logout(request: Request) -> JSONResponse:
    request.session.pop("oauth_info", None)
    return JSONResponse("out")


async def echo(request: Request) -> JSONResponse:
    return JSONResponse(len(await request.body()))


@pytest.fixture
def client():
    routes = [
        Route("/", page), Route("/login/callback", login), Route("/login/huggingface", broken),
        Route("/logout", logout), Route("/gradio_api/queue/join", echo, methods=["POST"]),
        Route("/gradio_api/heartbeat/{tab}", page), Route("/gradio_api/upload", echo, methods=["POST"]),
    ]  # fmt: skip
    layers = [Middleware(SessionMiddleware, secret_key="s"), Middleware(Gate)]
    app = Starlette(routes=routes, middleware=layers)
    return TestClient(app, follow_redirects=False)


def cookie(client):
    text = client.cookies["session"].strip('"').split(".")[0]
    return json.loads(base64.b64decode(text))


def test_the_cookie_holds_a_number_and_the_app_sees_the_token(client):
    client.get("/login/callback")
    assert TOKEN not in json.dumps(cookie(client))
    assert client.get("/").json()["access_token"] == TOKEN


def test_after_signing_out_an_old_cookie_is_worth_nothing(client):
    client.get("/login/callback")
    old = client.cookies["session"]
    client.get("/logout")
    client.cookies.clear()
    client.cookies["session"] = old
    assert client.get("/").json() is None


def test_a_sign_in_that_has_ended_gives_no_token(client):
    client.get("/login/callback?seconds=-1")
    assert client.get("/").json() is None
    assert cookie(client)["sign_in"]["name"] == "ada"


def test_a_sign_in_that_fails_leads_back_to_the_page(client):
    answer = client.get("/login/huggingface")
    assert (answer.status_code, answer.headers["location"]) == (307, FAILED)


def test_a_tab_is_its_browsers_own(client):
    client.get("/")
    assert client.post("/gradio_api/queue/join", json={"session_hash": "tab"}).json() > 0
    mine = client.cookies["session"]
    for other in ("", "another visit"):
        client.cookies.clear()
        if other:
            client.get("/")
        assert client.post("/gradio_api/queue/join", json={"session_hash": "tab"}).status_code == 404
        assert client.get("/gradio_api/queue/data?session_hash=tab").status_code == 404
        assert client.get("/gradio_api/heartbeat/tab").status_code == 404
    client.cookies.clear()
    client.cookies["session"] = mine
    assert client.get("/gradio_api/heartbeat/tab").status_code == 200


def test_doors_are_closed_and_bodies_bounded(client):
    assert client.post("/gradio_api/upload", content=b"x").status_code == 404
    assert client.post("/gradio_api/queue/join", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert client.post("/gradio_api/queue/join", content=b"x" * 1_000_000).json() == 1_000_000


def test_the_browser_is_told_to_load_nothing_of_others(client):
    for path in ("/", "/gradio_api/upload"):
        policy = client.get(path).headers["content-security-policy"]
        assert "img-src 'self' data: blob:;" in policy and "object-src 'none'" in policy
