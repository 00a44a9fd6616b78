"""Who asks: whose jobs they see, and with whose token the Hub is asked."""

import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import gradio as gr

from merging.errors import MergeError
from merging.hub import Account, Hub, local_token
from space.settings import Settings

log = logging.getLogger(__name__)

Token = str | Literal[False]  # False: anonymous, said aloud so that no client falls back to a token it finds
HubFor = Callable[[Token], Hub]

ACCOUNT_SECONDS = 300  # whoami is strictly rate-limited
RETRY_SECONDS = 15
MAX_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Viewer:
    """One caller. `owner` is the key of their jobs; the token lives in memory and is never shown."""

    owner: str  # "hf:<name>" signed in on a Space, "local" on a laptop, "anon:<hash of the session>" otherwise
    account: Account | None = None
    token: Token = field(default=False, repr=False)


def viewer_of(
    settings: Settings, request: gr.Request | None, token: gr.OAuthToken | None, *, hub_for: HubFor = Hub
) -> Viewer:
    """On a Space only a sign-in counts; on a laptop it is the token of `hf auth login`, in the demo the demo user's."""
    if settings.hosted:
        return visitor(request, token, hub_for)
    own = token_here(settings)
    return Viewer("local", account_of(own, hub_for), own)


def token_here(settings: Settings) -> Token:
    """The token of the person at this machine; none on a Space, where everybody brings their own."""
    if settings.hosted:
        return False
    found = settings.demo_token if settings.demo else local_token()
    return found if isinstance(found, str) and found else False


def visitor(request: gr.Request | None, token: gr.OAuthToken | None, hub_for: HubFor) -> Viewer:
    if token is None or token.expires_at < time.time():
        return Viewer(anonymous(request))
    account = account_of(token.token, hub_for)
    if account is None:
        raise MergeError("The Hub does not say who you are. Try again in a minute, or sign out and in again.")
    return Viewer(f"hf:{account.name}", account, token.token)


def anonymous(request: gr.Request | None) -> str:
    """The session's hash is what its owner is known by, so the journal keeps only a hash of it."""
    session = request.session_hash if request is not None else None
    return "anon:" + hashlib.sha256((session or secrets.token_hex()).encode()).hexdigest()[:24]


known: dict[str, tuple[float, Account | None]] = {}  # hash of a token -> when asked, whose it is


def account_of(token: Token, hub_for: HubFor) -> Account | None:
    """Whose token it is, asked once in a while. When the Hub is away the last answer holds; None when there is none."""
    if token is False:
        return None
    key = hashlib.sha256(token.encode()).hexdigest()
    asked, account = known.get(key, (-math.inf, None))
    if time.monotonic() - asked < (ACCOUNT_SECONDS if account else RETRY_SECONDS):
        return account
    try:
        account = hub_for(token).whoami() or account
    except MergeError as e:
        log.warning("whoami failed: %s", e)
    if len(known) >= MAX_KNOWN:
        known.clear()
    known[key] = (time.monotonic(), account)
    return account
