"""When it is tried again, and when no more: with a clock of the tests' own."""

from collections.abc import Generator, Iterator
from itertools import count, pairwise

import pytest

from merging.errors import Kept, MergeError, Passing
from merging.perseverance import OUTAGE, persevere
from merging.progress import Progress


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("merging.perseverance.time", clock)
    return clock


def at(done_bytes: int, tensor: str = "w") -> Progress:
    return Progress(done_bytes, 100, tensor, 0, 1, 1, 1)


def attempts(clock: Clock, *steps: tuple[float, Progress], began: list[float]) -> Iterator[Generator[Progress]]:
    """The same again and again: each step after so many seconds, then a fault."""

    def attempt() -> Generator[Progress]:
        began.append(clock.now)
        for seconds, step in steps:
            clock.now += seconds
            yield step
        raise Passing("The Hub does not answer.")

    return (attempt() for _ in range(1000))


def test_pauses_grow_and_it_is_given_up_when_nothing_has_moved_for_long(clock: Clock):
    began: list[float] = []
    with pytest.raises(Passing, match="does not answer"):
        list(persevere(attempts(clock, began=began)))
    assert [round(b - a) for a, b in pairwise(began[:6])] == [5, 15, 30, 60, 60]
    assert OUTAGE - 61 <= clock.now <= OUTAGE + 1


def test_what_is_found_again_is_no_progress(clock: Clock):
    """As it would be tried for ever: each attempt finds what the first one made, and gets no further."""
    began: list[float] = []
    with pytest.raises(Passing):
        list(persevere(attempts(clock, (1, at(0, "")), (90, at(50, "")), (1, at(50)), began=began)))
    assert clock.now <= OUTAGE + 200


def test_what_is_made_again_is_progress_however_long_it_takes(clock: Clock):
    """A shard that takes longer than an outage may, and is begun anew: the Hub is there all the time."""
    slowly = [(60.0, at(n)) for n in range(1, 40)]  # 39 minutes
    began: list[float] = []
    steps, last = persevere(attempts(clock, *slowly, began=began)), 0.0
    for step in steps:
        last = step.done_bytes
        if len(began) == 4:
            break
    assert len(began) == 4 and last >= 0
    steps.close()


def test_an_error_that_is_thrown_in_is_the_attempts(clock: Clock):
    ended: list[str] = []

    def attempt() -> Generator[Progress]:
        try:
            for n in count():
                yield at(n)
        except MergeError as error:
            ended.append(str(error))
            raise

    steps = persevere(attempt() for _ in range(2))
    next(steps)
    with pytest.raises(Kept, match="no room"):
        steps.throw(Kept("There is no room."))
    assert ended == ["There is no room."]
