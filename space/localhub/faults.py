"""Keeps the record of requests, and plays the faults of a network and a server when a test asks for them."""

import asyncio
import socket
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from space.localhub.link import Link

LONGEST_RECORD = 20_000


class Seen(NamedTuple):
    """One request. The status is 0 if it got no answer."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one request. Several at once are fine."""

    status: int | None = None  # answer this, and do none of the work
    headers: Mapping[str, str] = field(default_factory=dict)  # with `status`
    body: bytes = b'{"error":"fault"}'  # with `status`
    delay: float = 0.0  # seconds of silence
    delay_after: int | None = None  # how many body bytes are sent before the silence; None: before the work starts
    drop: bool = False  # close the connection, and do none of the work
    lose_answer: bool = False  # do the work, then close the connection without a word
    cut_after: int | None = None  # close the connection after so many bytes of the body
    reset: bool = False  # close it with RST, not with FIN
    ignore_range: bool = False  # answer 200 and the whole file
    flip_bit: int | None = None  # the number of the body's bit that arrives wrong


NO_FAULT = Fault()


class Line(H11Protocol):
    """Tells each request its connection, so that a fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Wire:
    """Lies between the connection and the app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.requests: list[Seen] = []
        self.fault: Callable[[Request], Fault | None] | None = None
        self.closing = False
        self.link: Link | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The router sees the path as it was sent, so that an encoded `/` stays inside its segment.
        scope["path"] = scope["raw_path"].decode("latin-1")
        fault = (self.fault and self.fault(Request(scope))) or NO_FAULT
        exchange = Exchange(self, scope, send, fault)
        if self.link:
            await self.link.wait()
        await exchange.run(self.app, self.slowed(receive) if self.link else receive)
        if exchange.is_cut:
            while (await receive())["type"] != "http.disconnect":
                pass

    def slowed(self, receive: Receive) -> Receive:
        """What is sent to the Hub, no faster than the line."""

        async def receive_slowly() -> Message:
            message = await receive()
            if self.link and (body := message.get("body")):
                await self.link.up.carry(len(body))
            return message

        return receive_slowly

    def record(self, scope: Scope, status: int) -> None:
        if len(self.requests) >= LONGEST_RECORD:
            del self.requests[: LONGEST_RECORD // 2]
        self.requests.append(Seen(scope["method"], scope["path"], status))

    async def silence(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        end = asyncio.get_running_loop().time() + seconds
        while not self.closing and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 0.1))


@dataclass(slots=True)
class Exchange:
    """One request and its answer, with what goes wrong in between."""

    wire: Wire
    scope: Scope
    forward: Send
    fault: Fault
    sent: int = 0
    is_cut: bool = False

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        if self.fault.delay and self.fault.delay_after is None:
            await self.wire.silence(self.fault.delay)
        if self.fault.drop:
            self.cut(recorded=False)
        elif self.fault.status is not None:
            await self.answer(self.fault.status)
        else:
            if self.fault.ignore_range:
                self.scope["headers"] = [(name, value) for name, value in self.scope["headers"] if name != b"range"]
            await app(self.scope, receive, self.send)

    async def answer(self, status: int) -> None:
        said = {"content-type": "application/json", "content-length": str(len(self.fault.body)), **self.fault.headers}
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in said.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": self.fault.body, "more_body": False})

    async def send(self, message: Message) -> None:
        if self.is_cut:
            return
        if message["type"] == "http.response.body":
            await self.send_body(message)
        elif self.fault.lose_answer:
            self.cut(recorded=False)
        else:
            self.wire.record(self.scope, message["status"])
            marked = [*message.get("headers", []), (b"x-request-id", uuid.uuid4().hex.encode())]
            await self.forward({**message, "headers": marked})

    async def send_body(self, message: Message) -> None:
        """Pass a piece of the body on, broken where the fault says so."""
        body = flipped(bytes(message.get("body", b"")), self.sent, self.fault.flip_bit)
        pause, end = self.fault.delay_after, self.fault.cut_after
        if pause is not None and self.sent <= pause < self.sent + len(body):
            split = pause - self.sent
            await self.pass_on(body[:split], message, more=True)
            await self.wire.silence(self.fault.delay)
            body = body[split:]
        if end is not None and self.sent + len(body) >= end:
            await self.pass_on(body[: end - self.sent], message, more=True)
            self.cut(recorded=True)
        else:
            await self.pass_on(body, message, more=message.get("more_body", False))

    async def pass_on(self, body: bytes, message: Message, *, more: bool) -> None:
        self.sent += len(body)
        if self.wire.link:
            await self.wire.link.down.carry(len(body))
        await self.forward({**message, "body": body, "more_body": more})

    def cut(self, *, recorded: bool) -> None:
        """Close the connection. With RST, what lies in the buffers is lost too."""
        self.is_cut = True
        if not recorded:
            self.wire.record(self.scope, 0)
        transport: Any = self.scope["state"]["transport"]
        if self.fault.reset:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        else:
            transport.close()


def flipped(body: bytes, start: int, bit: int | None) -> bytes:
    """A piece of a body that starts at byte `start`, with the wrong bit if that lies in it."""
    place = -1 if bit is None else bit // 8 - start
    if bit is None or not 0 <= place < len(body):
        return body
    return body[:place] + bytes([body[place] ^ 1 << bit % 8]) + body[place + 1 :]
