"""Who is signed in, remembered by this process alone: a browser's cookie holds a number, never a token.

Gradio keeps what a sign-in gives in a cookie that is signed, not sealed. Here a number takes its place.
"""

import math
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from starlette.middleware.sessions import Session

INFO = "oauth_info"  # Gradio's name for what a sign-in gives
MARK = "sign_in"  # ours: the number under which we keep it, and whose it is
VISITOR = "visitor"  # a number for the browser, so that jobs outlive the tab without a sign-in too
MAX_KEPT = 10_000


class SignIns:
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

    def fill(self, session: Session) -> None:
        """Put what is kept for this session into it, for as long as a request is answered."""
        mark = session.get(MARK)
        if mark and (info := self.get(mark["number"])):
            dict.__setitem__(session, INFO, info)  # unnoticed: the cookie need not be written again

    def settle(self, session: Session, *, leaving: bool) -> None:
        """Note what Gradio did with the session: signed somebody in, or out."""
        info, mark = session.get(INFO), session.get(MARK)
        if leaving and mark:
            self.drop(mark["number"])
            del session[MARK]
        elif info is not None and (mark is None or self.get(mark["number"]) is not info):
            session[MARK] = {"number": self.put(info), "name": info["userinfo"]["preferred_username"]}


def ended(info: Mapping[str, Any]) -> bool:
    return bool(info.get("expires_at", math.inf) < time.time())


def without_token(session: Session) -> Session:
    sealed = Session({name: value for name, value in session.items() if name != INFO})
    sealed.accessed, sealed.modified = session.accessed, session.modified
    return sealed


def session_of(request: Any) -> Mapping[str, Any]:
    """The session behind a `gr.Request`; empty where there is none."""
    scope = getattr(getattr(request, "request", None), "scope", None) or {}
    session: Mapping[str, Any] = scope.get("session") or {}
    return session


def signed_out(request: Any) -> str:
    """Whose sign-in has come to its end without their doing; empty otherwise."""
    session = session_of(request)
    return str(session[MARK]["name"]) if MARK in session and INFO not in session else ""
