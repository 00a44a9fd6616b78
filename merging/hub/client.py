"""The Hub's own client, made patient: a timeout on every request, faults that pass asked again."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import httpx2  # the Hub client's own, for its types
from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # it exports them without saying so
    disable_progress_bars,
    parse_ratelimit_headers,
    validate_repo_id,
)
from huggingface_hub.utils._http import default_client_factory  # set_client_factory needs what it replaces
from huggingface_hub.utils.logging import set_verbosity

from merging.errors import Kept, MergeError
from merging.hub.words import HubFault, in_words, is_of_upload
from merging.patience import Patience
from merging.waiting import in_thread, outcome, stopped

Answer = TypeVar("Answer")

PASSING = {408, 425, 429, 500, 502, 503, 504}  # what may be gone when one asks again
FAULTS = (httpx2.HTTPError, OfflineModeIsEnabled, ValueError, RuntimeError)  # ValueError: not the JSON it should be

LONGEST_PART = 96  # of a repo ID
ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[\w.-]+/[\w.-]+)?", re.ASCII)

WAITING: ContextVar[Patience | None] = ContextVar("WAITING", default=None)


@dataclass(frozen=True, slots=True)
class Client:
    """The client's functions as one caller may use them."""

    token: str | bool = field(repr=False)
    patience: Patience
    stopped: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def api(self) -> HfApi:
        return HfApi(token=self.token, library_name="alloy")

    def ask(self, about: str, call: Callable[[], Answer], attempts: int = 3) -> Answer:
        """Make a call in bounded time, again after faults that pass. Raise MergeError, in the user's words."""
        prepare()
        began, pauses = time.monotonic(), self.patience.pauses()
        for left in reversed(range(attempts)):
            try:
                return outcome(in_thread(lambda: self.call(call)), self.stopped.is_set, about)
            except FAULTS as error:
                late = time.monotonic() - began > self.patience.question
                if not left or late or not may_pass(error) or asked_to_wait(error):
                    raise self.in_words(error, about) from None
            if self.stopped.wait(next(pauses, 0)):
                raise stopped(about)
        raise AssertionError("the last attempt returns or raises")

    def call(self, call: Callable[[], Answer]) -> Answer:
        earlier = WAITING.set(self.patience)
        try:
            return call()
        finally:
            WAITING.reset(earlier)

    def may_try_again(self, error: MergeError, pauses: Iterator[float], given_up: threading.Event) -> bool:
        """Wait after a fault that passes; whether to try again by then."""
        pause = next(pauses, None)
        if pause is None or not isinstance(error, HubFault) or error.wait > self.patience.longest_limit:
            return False
        return not given_up.wait(max(pause, error.wait))

    def in_words(self, error: Exception, about: str) -> MergeError:
        words = in_words(error, about, token=self.token, wait=asked_to_wait(error))
        if not may_pass(error):
            return words
        if isinstance(error, HfHubHTTPError) and is_of_upload(error):
            return Kept(str(words))  # a new address was asked for already
        fault = HubFault(str(words))
        fault.wait = asked_to_wait(error)
        return fault

    @property
    def timeout(self) -> httpx2.Timeout:
        """For the reading of weights: short, because what stalls is asked for again."""
        return httpx2.Timeout(self.patience.silence, connect=self.patience.connect)


@cache
def prepare() -> None:
    """Give every request of the client a timeout, have uploads go over HTTP, and switch off its own progress bars.
    Once per process.

    The client sends most calls without any timeout, and passes an explicit None on some: a silent server would hold
    them for ever. A hook on the request is the one place that all of them pass.
    """

    def make_client() -> httpx2.Client:
        client = default_client_factory()
        client.event_hooks["request"].append(limit_waiting)
        return client

    set_client_factory(make_client)
    if "HF_HUB_DISABLE_XET" not in os.environ:  # its uploads have no timeouts, and may hang
        constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    set_verbosity(logging.ERROR)  # its warnings show signed addresses; what fails in the end is said by us


def limit_waiting(request: httpx2.Request) -> None:
    patience = WAITING.get() or Patience()
    silence = patience.silence if request.method in ("GET", "HEAD") else patience.answer
    limits = {"connect": patience.connect, "read": silence, "write": patience.answer, "pool": patience.answer}
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = limits | {k: v for k, v in given.items() if v is not None}


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request may succeed a little later."""
    match error:
        case HfHubHTTPError():
            return error.response.status_code in PASSING or is_of_upload(error)
        case httpx2.TransportError():
            return True
        case RuntimeError():  # the client wraps the errors of an upload
            return may_pass(error.__cause__)
    return False


def asked_to_wait(error: BaseException) -> float:
    """The seconds after which the Hub says that it may be asked again; 0 when it does not say."""
    if not isinstance(error, HfHubHTTPError):
        return 0
    headers = error.response.headers
    limit = parse_ratelimit_headers(headers)
    if error.response.status_code == 429 and limit and limit.remaining == 0:
        return limit.reset_in_seconds + 1  # it counts in whole seconds
    seconds = headers.get("retry-after", "")
    return int(seconds) if seconds.isdigit() else 0


def is_hub(url: str) -> bool:
    """Whether a URL is of the Hub itself, the one place that may see the token."""
    ours, theirs = httpx2.URL(constants.ENDPOINT), httpx2.URL(url)
    return (ours.scheme, ours.host, ours.port) == (theirs.scheme, theirs.host, theirs.port)


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be a repo ID before it reaches a URL."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        shown = repr(repo_id if len(repo_id) <= 100 else f"{repo_id[:100]}…")
        raise MergeError(f"{shown} is not a repo ID{broken_rule(repo_id)}") from None


def broken_rule(repo_id: str) -> str:
    """Which of the rules of `validate_repo_id` it breaks, as the end of a sentence."""
    if named := ADDRESS.match(repo_id):
        return f" but an address. Write {named['id'] or 'owner/name'}."
    parts = repo_id.split("/")
    odd = next((c for c in repo_id if not (c.isascii() and (c.isalnum() or c in "-_./"))), None)
    form = "it must read owner/name, such as meta-llama/Llama-3.2-1B"
    rules = {
        form: len(parts) > 2 or "" in parts,
        f"{odd!r} cannot stand in it; only letters from a to z, digits, '-', '_' and '.' can": odd is not None,
        "'--' and '..' cannot stand in it": "--" in repo_id or ".." in repo_id,
        "neither part may begin or end with '-' or '.'": any(part[:1] in "-." or part[-1:] in "-." for part in parts),
        f"each part has at most {LONGEST_PART} characters": max(map(len, parts)) > LONGEST_PART,
        "it may not end with '.git'": repo_id.endswith(".git"),
    }
    return f": {next((rule for rule, broken in rules.items() if broken), form)}."
