"""Faults at random on the requests for contents, as a bad network and a busy server make them."""

import random
import threading
from collections.abc import Callable

from starlette.requests import Request

from merging.hub import Hub, Patience
from space.localhub import Fault

# Little patience for silence, since some of it is on purpose; much for faults that come one after the other.
STUBBORN = Hub(
    False,
    Patience(connect=5, silence=0.7, answer=5, question=20, attempts=20, first_pause=0.01, longest_pause=0.05),
)

Make = Callable[[random.Random], Fault]

KINDS: dict[str, Make] = {
    "500": lambda chance: Fault(status=500),
    "503": lambda chance: Fault(status=503),
    "429": lambda chance: Fault(status=429, headers={"Retry-After": "0"}),
    "reset": lambda chance: Fault(drop=True, reset=True),
    "reset on the way": lambda chance: Fault(cut_after=chance.randrange(400_000), reset=True),
    "cut": lambda chance: Fault(cut_after=chance.randrange(400_000)),
    "truncated": lambda chance: Fault(cut_after=0),
    "slow": lambda chance: Fault(delay=0.1),
    "stalled": lambda chance: Fault(delay=1.2, delay_after=chance.randrange(400_000)),
    "expired": lambda chance: Fault(status=403),
    "range ignored": lambda chance: Fault(ignore_range=True),
}


def is_content(request: Request) -> bool:
    return request.method == "GET" and "/cdn/" in request.url.path


class AtRandom:
    """Breaks a share of the contents, and remembers how."""

    def __init__(self, seed: int, share: float = 0.2) -> None:
        self.chance, self.share = random.Random(seed), share
        self.made: list[str] = []

    def __call__(self, request: Request) -> Fault | None:
        if not is_content(request) or self.chance.random() >= self.share:
            return None
        self.made.append(self.chance.choice(list(KINDS)))
        return KINDS[self.made[-1]](self.chance)


OF_API: dict[str, Make] = {
    name: KINDS[name] for name in ("500", "503", "429", "reset", "slow")
} | {"lost answer": lambda chance: Fault(lose_answer=True), "stalled": lambda chance: Fault(delay=1.2)}  # fmt: skip


class Everywhere:
    """Breaks a share of all requests, whatever they ask for, and remembers how."""

    def __init__(self, seed: int, share: float = 0.2) -> None:
        self.chance, self.share, self.lock = random.Random(seed), share, threading.Lock()
        self.made: list[str] = []

    def __call__(self, request: Request) -> Fault | None:
        with self.lock:
            if self.chance.random() >= self.share:
                return None
            kinds = KINDS if is_content(request) else OF_API
            self.made.append(self.chance.choice(list(kinds)))
            return kinds[self.made[-1]](self.chance)


class OneBit:
    """Flips one bit of the n-th content that begins beyond the header of its file."""

    def __init__(self, seed: int, among: int) -> None:
        chance = random.Random(seed)
        self.left, self.place = chance.randrange(among), chance.randrange(2**30)
        self.lock = threading.Lock()
        self.made = False

    def __call__(self, request: Request) -> Fault | None:
        start, _, last = request.headers.get("range", "").removeprefix("bytes=").partition("-")
        with self.lock:
            if self.made or not is_content(request) or not start or int(start) < 10_000:
                return None
            self.left -= 1
            if self.left >= 0:
                return None
            self.made = True
        return Fault(flip_bit=self.place % (8 * (int(last) - int(start) + 1)))
