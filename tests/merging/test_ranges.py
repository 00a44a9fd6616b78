"""Read-ahead: the right bytes, few requests where reading goes on in order, few bytes where it does not."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from merging.errors import MergeError
from merging.ranges import FIRST, ReadAhead

BYTES = random.Random(3).randbytes(5_000_000)


class Far:
    """A file that is far away, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.broken = False

    def fetch(self, file: str, start: int, into: memoryview) -> None:
        self.asked.append((start, start + len(into)))
        if self.broken:
            raise MergeError("The Hub is away.")
        into[:] = BYTES[start : start + len(into)]

    @property
    def nbytes(self) -> int:
        return sum(end - start for start, end in self.asked)


@pytest.fixture
def far() -> Far:
    return Far()


def reader(far: Far, **limits: int) -> ReadAhead:
    return ReadAhead(far.fetch, {"f": len(BYTES)}, **limits)


def read(ahead: ReadAhead, start: int, end: int) -> bytes:
    buffer = bytearray(end - start)
    ahead.read_into("f", start, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("window", [FIRST, 300_000, 8_000_000])
def test_any_reads_give_the_right_bytes(far: Far, window: int):
    ahead, chance = reader(far, window=window, kept=2 * window), random.Random(window)
    for _ in range(200):
        start = chance.randrange(len(BYTES))
        end = min(len(BYTES), start + chance.choice([0, 1, 1000, 200_000, 900_000]))
        assert read(ahead, start, end) == BYTES[start:end]


def test_reading_in_order_takes_few_requests_and_no_byte_twice(far: Far):
    ahead = reader(far)
    for at in range(0, len(BYTES), 1000):
        read(ahead, at, min(at + 1000, len(BYTES)))
    assert len(far.asked) <= 7
    assert far.nbytes == len(BYTES)


def test_a_few_bytes_here_and_there_stay_few(far: Far):
    ahead = reader(far)
    for at in (4_000_000, 100, 2_000_000):
        read(ahead, at, at + 10)
    assert far.nbytes == 3 * FIRST


def test_what_is_kept_stays_within_its_bounds(far: Far):
    ahead = reader(far, window=FIRST, kept=3 * FIRST)
    for at in range(0, len(BYTES) - 10, FIRST):
        read(ahead, at, at + 10)
        assert sum(s.end - s.start for s in ahead.spans.values()) <= 3 * FIRST
    ahead.clear()
    assert not ahead.spans


def test_threads_that_need_the_same_bytes_ask_once(far: Far):
    ahead, all_there = reader(far), threading.Barrier(8)

    def ask(_: int) -> bytes:
        all_there.wait()
        return read(ahead, 1000, 2000)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {BYTES[1000:2000]}
    assert len(far.asked) == 1


def test_an_error_reaches_everybody_and_is_not_remembered(far: Far):
    ahead = reader(far)
    far.broken = True
    with pytest.raises(MergeError, match="The Hub is away"):
        read(ahead, 0, 10)
    far.broken = False
    assert read(ahead, 0, 10) == BYTES[:10]


@pytest.mark.parametrize(("file", "start", "end"), [("f", 0, 5_000_001), ("f", 5_000_000, 5_000_001), ("g", 0, 1)])
def test_reading_past_the_end_is_an_error(far: Far, file: str, start: int, end: int):
    with pytest.raises(MergeError, match="are needed"):
        reader(far).read_into(file, start, memoryview(bytearray(end - start)))
