"""Go on with a merge when what went wrong has passed: another attempt, from the last complete shard."""

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace

from merging.errors import MergeError, Passing
from merging.progress import WORD, Progress

PAUSES = (5.0, 15.0, 30.0, 60.0)  # before the next attempts, the last again and again
OUTAGE = 1800.0  # seconds without any progress after which it is given up
SETTLED = 60.0  # seconds after which an attempt is through with what it finds again


def persevere(
    attempts: Iterable[Generator[Progress, None, None]],
    *,
    pauses: tuple[float, ...] = PAUSES,
    outage: float = OUTAGE,
) -> Generator[Progress, None, None]:
    """The progress of one attempt after the other, until one ends well or in an error that does not pass.

    What is made anew is progress as well, once an attempt has been at it for a while; what it finds again is not. An
    error that is thrown in here is the attempt's.
    """
    latest, moved, tried = None, time.monotonic(), 0
    for steps in attempts:
        began, furthest = time.monotonic(), 0
        try:
            for step in steps:
                if step.done_bytes > furthest:
                    furthest, now = step.done_bytes, time.monotonic()
                    if latest is None or furthest > latest.done_bytes or (step.tensor and now - began > SETTLED):
                        latest, moved, tried = step, now, 0
                try:
                    yield step
                except MergeError as error:
                    steps.throw(error)
            return
        except Passing as error:
            pause = max(pauses[min(tried, len(pauses) - 1)], error.wait)
            tried += 1
            if time.monotonic() + pause - moved > outage:
                raise
            yield from rest(latest or NOTHING, f"{error} Trying again in {pause:.0f} s.", pause)
        finally:
            steps.close()


NOTHING = Progress(0, 0, "", 0, 0, 1, 1)


def rest(latest: Progress, note: str, seconds: float) -> Iterator[Progress]:
    """Say why, then wait; one may leave at any moment."""
    until = time.monotonic() + seconds
    yield replace(latest, note=note, tensor=note)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(WORD, left))
        yield replace(latest, tensor=note)
