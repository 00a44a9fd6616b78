"""What the tests of the Hub share: callers who wait no longer than needed, and faults that pass after a while."""

import itertools
from collections.abc import Callable
from dataclasses import replace

from starlette.requests import Request

from merging.hub import Hub, Patience
from space.localhub import Fault
from tests.hub_fixture import ADA_TOKEN, BOB_TOKEN

# Pauses are short, but not the timeouts: the machine of the tests may be busy.
QUICK = Patience(
    connect=10, silence=10, answer=20, question=20, attempts=3, first_pause=0.01, longest_pause=0.05, longest_limit=2
)
HASTY = replace(QUICK, silence=0.3, answer=0.6, question=0.5)  # for a Hub that is silent on purpose
ADA, BOB, ANYONE = (Hub(token, QUICK) for token in (ADA_TOKEN, BOB_TOKEN, False))

Choose = Callable[[Request], Fault | None]


def times(count: int, fault: Fault, *, path: str = "", method: str = "") -> Choose:
    """The fault, on the first `count` requests whose path has this in it."""
    left = itertools.count(count, -1)

    def choose(request: Request) -> Fault | None:
        if path not in request.url.path or method not in request.method:
            return None
        return fault if next(left) > 0 else None

    return choose


def always(fault: Fault, *, path: str = "", method: str = "") -> Choose:
    return times(10**9, fault, path=path, method=method)
