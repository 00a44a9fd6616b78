"""Who is signed in, remembered by this process alone: a browser's cookie holds a number, never a token.

Gradio keeps what a sign-in gives in a cookie that is signed, not sealed. This layer inside of it puts a number into the
cookie instead, and the token back in its place for as long as a request is answered.
"""

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from starlette.middleware.sessions import Session
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

INFO = "oauth_info"  # Gradio's name for what a sign-in gives
MARK = "sign_in"  # ours: the number under which we keep it, and whose it is
VISITOR = "visitor"  # a number for who has not signed in, so that their jobs outlive the tab
MAX_KEPT = 10_000
FAILED = "/?sign_in=failed"

# Gradio serves these whether a page uses them or not. They write to disk for anybody, and this app uses none of them.
CLOSED = ("upload", "deep_link", "proxy=", "stream/", "process_recording", "vibe-", "undo-vibe", "run-history")


class Vault:
    """What sign-ins gave, by number."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: dict[str, Mapping[str, Any]] = {}

    def put(self, info: Mapping[str, Any]) -> str:
        number = secrets.token_urlsafe(24)
        with self.lock:
            self.kept = {n: i for n, i in self.kept.items() if not ended(i)}
            if len(self.kept) >= MAX_KEPT:
                del self.kept[next(iter(self.kept))]  # the oldest
            self.kept[number] = info
        return number

    def get(self, number: str) -> Mapping[str, Any] | None:
        with self.lock:
            info = self.kept.get(number)
            if info is not None and ended(info):
                del self.kept[number]
                return None
            return info

    def drop(self, number: str) -> None:
        with self.lock:
            self.kept.pop(number, None)


def ended(info: Mapping[str, Any]) -> bool:
    return bool(info.get("expires_at", 0) < time.time())


class SignIns:
    """The layer. `app` is Gradio, inside its own session layer where the page has a sign-in button."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.vault = Vault()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif closed(scope["path"]):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
        elif "session" not in scope:
            await self.app(scope, receive, send)
        else:
            await self.answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        session: Session = scope["session"]
        mark = session.get(MARK)
        if mark and (info := self.vault.get(mark["number"])):
            dict.__setitem__(session, INFO, info)  # unnoticed: the cookie need not be written again
        if scope["path"] == "/" and VISITOR not in session:
            session[VISITOR] = secrets.token_urlsafe(24)

        async def sealed_send(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)
                return
            self.settle(session, leaving=scope["path"] == "/logout")
            scope["session"] = without_token(session)
            try:
                await send(message)
            finally:
                scope["session"] = session  # the answer to an event comes later, and asks again

        try:
            await self.app(scope, receive, sealed_send)
        except Exception:
            if not scope["path"].startswith("/login/"):
                raise
            # The person said no, took too long, or the Hub is away.
            log.exception("a sign-in failed")
            await RedirectResponse(FAILED)(scope, receive, sealed_send)

    def settle(self, session: Session, *, leaving: bool) -> None:
        """Note what Gradio did with the session: signed somebody in, or out."""
        info, mark = session.get(INFO), session.get(MARK)
        if leaving and mark:
            self.vault.drop(mark["number"])
            del session[MARK]
        elif info is not None and (mark is None or self.vault.get(mark["number"]) is not info):
            session[MARK] = {"number": self.vault.put(info), "name": info["userinfo"]["preferred_username"]}


def without_token(session: Session) -> Session:
    sealed = Session({name: value for name, value in session.items() if name != INFO})
    sealed.accessed, sealed.modified = session.accessed, session.modified
    return sealed


def closed(path: str) -> bool:
    return path.removeprefix("/gradio_api/").removeprefix("/").startswith(CLOSED)


def session_of(request: Any) -> Mapping[str, Any]:
    """The session behind a `gr.Request`; empty where there is none."""
    scope = getattr(getattr(request, "request", None), "scope", None) or {}
    session: Mapping[str, Any] = scope.get("session") or {}
    return session


def signed_out(request: Any) -> str:
    """Whose sign-in has come to its end without their doing; empty otherwise."""
    session = session_of(request)
    return str(session[MARK]["name"]) if MARK in session and INFO not in session else ""
