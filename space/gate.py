"""What stands before Gradio: it closes doors that the app does not use, and keeps tokens out of cookies and one
browser out of another's tabs. Inside of Gradio's own session layer, where the page has a sign-in button."""

import logging
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space.sign_in import VISITOR, SignIns, without_token
from space.tabs import Tabs, tab_in

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4_000_000  # of what a page or a script sends at once
FAILED = "/?sign_in=failed"

# The page shows what models write: nothing of others is fetched for it, whatever gets past what cleans it.
POLICY = (
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; frame-src 'self'; "
    "object-src 'none'; base-uri 'self'"
)

# Gradio serves these whether a page uses them or not. They write to disk for anybody, and this app uses none of them.
CLOSED = ("upload", "deep_link", "proxy=", "stream/", "process_recording", "vibe-", "undo-vibe", "run-history")


class Gate:
    """`app` is Gradio."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.sign_ins = SignIns()
        self.tabs = Tabs()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = with_policy(send)
        if closed(scope["path"]):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
            return
        try:
            body = await whole_body(scope, receive)
        except ClientDisconnect:
            return
        if body is None:
            await PlainTextResponse("Too much at once", 413)(scope, receive, send)
        elif "session" not in scope:
            await self.app(scope, replayed(body, receive), send)
        elif (tab := tab_in(scope, body)) and not self.tabs.belongs(tab, scope["session"].get(VISITOR, "")):
            await PlainTextResponse("There is no such tab of yours", 404)(scope, receive, send)
        else:
            await self.answer(scope, replayed(body, receive), send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        self.sign_ins.fill(session)
        if scope["path"] == "/" and VISITOR not in session:
            session[VISITOR] = secrets.token_urlsafe(24)

        async def sealed_send(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)
                return
            self.sign_ins.settle(session, leaving=scope["path"] == "/logout")
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


def with_policy(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["content-security-policy"] = POLICY
        await send(message)

    return guarded


def closed(path: str) -> bool:
    return path.removeprefix("/gradio_api/").removeprefix("/").startswith(CLOSED)


async def whole_body(scope: Scope, receive: Receive) -> bytes | None:
    """What was sent with a request; None when it is more than is taken."""
    if scope["method"] != "POST":
        return b""
    body = bytearray()
    async for chunk in Request(scope, receive).stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what comes after it."""
    if not body:
        return receive
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
