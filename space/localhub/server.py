"""Serves a store on loopback: the app with its routes and refusals, and the thread it runs in."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import ClientDisconnect

from space.localhub import routes_accounts, routes_files, routes_pages, routes_repos, routes_sign_in, routes_uploads
from space.localhub.errors import BadRequest, HubError
from space.localhub.faults import Fault, Line, Seen, Wire
from space.localhub.link import Link
from space.localhub.links import Signer
from space.localhub.page import error_page
from space.localhub.services import Limits, Services
from space.localhub.sign_in import SignIn
from space.localhub.store import Store

LOOPBACK = "127.0.0.1"
LONGEST_START = 20.0


def make_app(services: Services) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.services = services
    # The first match wins: the pages come last, as they match nearly anything.
    for routes in (routes_accounts, routes_sign_in, routes_files, routes_uploads, routes_repos, routes_pages):
        app.include_router(routes.router)
    app.add_exception_handler(HubError, refuse)
    app.add_exception_handler(RequestValidationError, refuse_form)
    app.add_exception_handler(ClientDisconnect, hang_up)
    return app


def refuse(request: Request, error: Exception) -> Response:
    """Say no as the Hub does: a status, a code for the client, a message for the person."""
    assert isinstance(error, HubError)
    message = str(error)
    # A header holds one line of ASCII.
    line = "".join(c if " " <= c <= "~" else " " for c in message)
    headers = {**error.headers, "X-Error-Message": line.strip()}
    if error.code:
        headers["X-Error-Code"] = error.code
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(error_page(error.answer_status, message), error.answer_status, headers)
    return JSONResponse({"error": message, **error.facts}, error.answer_status, headers)


def refuse_form(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return refuse(request, BadRequest(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"))


def hang_up(request: Request, error: Exception) -> Response:
    """The client left in the middle of its upload. Nobody reads this answer."""
    return Response(status_code=499)


class LocalHub:
    """A small Hub for the demo and the tests. It can be reached from this machine only."""

    def __init__(
        self,
        root: Path,
        port: int = 0,
        *,
        limits: Limits | None = None,
        link_lifetime: float = 3600.0,
        cdn_host: str = "",
        browser_user: str = "",
    ) -> None:
        self.store = Store(Path(root))
        self.sign_in = SignIn(self.store.accounts)
        services = Services(self.store, Signer(link_lifetime), limits or Limits(), self.sign_in, cdn_host, browser_user)
        self.wire = Wire(make_app(services))
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def requests(self) -> list[Seen]:
        """What was asked so far: (method, path, status)."""
        return self.wire.requests

    @property
    def fault(self) -> Callable[[Request], Fault | None] | None:
        """Called with each request before any work is done: what is to go wrong with it."""
        return self.wire.fault

    @fault.setter
    def fault(self, choose: Callable[[Request], Fault | None] | None) -> None:
        self.wire.fault = choose

    @property
    def link(self) -> Link | None:
        """The line that answers go through; None is as fast as the machine."""
        return self.wire.link

    @link.setter
    def link(self, link: Link | None) -> None:
        self.wire.link = link

    def start(self) -> Self:
        sock = socket.create_server((LOOPBACK, self._port))
        # Connections inherit it. Without it each small answer waits 40 ms for the client's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = sock.getsockname()[1]
        config = uvicorn.Config(
            self.wire,
            http=Line,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self.wire.closing = False
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, args=([sock],), name="localhub", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + LONGEST_START
        while not server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError(f"The local Hub did not start at {self.url}.")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        if self._server and self._thread:
            self.wire.closing = True
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
