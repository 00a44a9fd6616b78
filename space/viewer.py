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
from merging.hub import Account, Hub, TokenRefused, local_token
from space.places import VISITOR_OWNER
from space.settings import Settings
from space.sign_in import VISITOR, session_of, signed_out

log = logging.getLogger(__name__)

Token = str | Literal[False]  # False: anonymous, said aloud so that no client falls back to a token it finds
HubFor = Callable[[Token], Hub]

ACCOUNT_SECONDS = 300  # whoami is strictly rate-limited
RETRY_SECONDS = 15
MAX_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Viewer:
    """One caller. `owner` is the key of their jobs; the token lives in memory and is never shown."""

    owner: str  # "hf:<id of the account>" on a Space, "anon:<hash>" of the browser there, "local" on a laptop
    account: Account | None = None
    token: Token = field(default=False, repr=False)
    before: str = ""  # the owner they were until they signed in, in the same browser


class SignedOut(MergeError):
    """A sign-in has come to its end, and whose jobs are meant cannot be known until the next."""

    def __init__(self, name: str) -> None:
        whose = f"The sign-in of {name}" if name else "Your sign-in"
        super().__init__(f"{whose} has ended. Sign in again: jobs go on meanwhile, and what you typed stays.")


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
    if token is None or 0 < token.expires_at < time.time():  # a script that sends its token says no time
        if name := signed_out(request):
            raise SignedOut(name)
        return Viewer(anonymous(request))
    try:
        account = account_of(token.token, hub_for)
    except TokenRefused:
        raise SignedOut("") from None
    if account is None:
        raise MergeError("The Hub does not say who you are. Try again in a minute, or sign out and in again.")
    before = anonymous(request) if VISITOR in session_of(request) else ""
    return Viewer(f"hf:{account.id}", account, token.token, before)


def anonymous(request: gr.Request | None) -> str:
    """By the number in the browser's cookie, else by that of the tab. It is what its owner is known by, so the journal
    keeps only a hash of it."""
    number = session_of(request).get(VISITOR) or (request.session_hash if request is not None else None)
    return VISITOR_OWNER + hashlib.sha256((number or secrets.token_hex()).encode()).hexdigest()[:24]


# hash of a token -> when the Hub was asked, and whose it is or why it is nobody's
known: dict[str, tuple[float, Account | TokenRefused | None]] = {}


def account_of(token: Token, hub_for: HubFor) -> Account | None:
    """Whose token it is, asked once in a while. When the Hub is away the last answer holds; None when there is none.

    Raises TokenRefused when the Hub says that the token is worth nothing.
    """
    if token is False:
        return None
    key = hashlib.sha256(token.encode()).hexdigest()
    asked, found = known.get(key, (-math.inf, None))
    if time.monotonic() - asked >= (RETRY_SECONDS if found is None else ACCOUNT_SECONDS):
        found = ask(hub_for(token), found)
        if len(known) >= MAX_KNOWN:
            known.clear()
        known[key] = (time.monotonic(), found)
    if isinstance(found, TokenRefused):
        raise found
    return found


def ask(hub: Hub, last: Account | TokenRefused | None) -> Account | TokenRefused | None:
    try:
        return hub.whoami()
    except TokenRefused as e:
        return e
    except MergeError as e:
        log.warning("whoami failed: %s", e)
        return last
