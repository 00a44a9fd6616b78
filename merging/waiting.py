"""Waiting for what may take long, without being held up by it once one is told to stop."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from typing import Protocol, TypeVar

from merging.errors import MergeError

Result = TypeVar("Result")

TICK = 0.1  # seconds between two looks at whether one should stop
READERS = 8  # models read at the same time, so that their latencies do not add up


class Stopped(MergeError):
    """What was waited for was stopped, and not because anything is wrong with it."""


class Stoppable(Protocol):
    def stop(self) -> None: ...


def in_thread(work: Callable[[], Result]) -> "Future[Result]":
    """Do it in a thread that nobody has to wait for: not who asked for it, and not the end of the process."""
    doing: Future[Result] = Future()

    def run() -> None:
        try:
            doing.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is awaited
            doing.set_exception(error)

    threading.Thread(target=run, name="wait", daemon=True).start()
    return doing


def outcome(doing: "Future[Result]", is_stopped: Callable[[], bool], what: str) -> Result:
    """What comes of it, or Stopped as soon as it need not be waited for."""
    while not wait_for([doing], TICK).done:
        if is_stopped():
            raise stopped(what)
    return doing.result()


def watched(work: Callable[[], Result], tick: Callable[[], None]) -> Result:
    """What comes of it. `tick` is called again and again meanwhile; what it raises is raised at once."""
    doing = in_thread(work)
    while not wait_for([doing], TICK).done:
        tick()
    return doing.result()


def stopped(what: str) -> Stopped:
    return Stopped(f"The reading of {what} was stopped.")


@contextmanager
def readers(sources: Iterable[Stoppable]) -> Iterator[ThreadPoolExecutor]:
    """Threads to read with. Where the work is left with an error, what they still read is stopped."""
    with ThreadPoolExecutor(READERS, "read") as pool:
        try:
            yield pool
        except BaseException:
            for source in sources:
                source.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
