"""What is fetched ahead: the right bytes, within the memory, in order, checked, and an error to whoever reads."""

import hashlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from merging.checksum import Checksum
from merging.errors import MergeError
from merging.prefetch import LANES, Prefetch
from merging.reading import Stretch
from merging.waiting import Stopped

BYTES = random.Random(4).randbytes(1_000_000)
PART = 50_000
PARTS = [Stretch("f", at, at + PART, PART) for at in range(0, len(BYTES), PART)]


class Far:
    """A file that is far away; requests take a moment, each another one."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.chance = random.Random(1)
        self.stopped = threading.Event()
        self.broken = -1  # the byte that arrives wrong
        self.silent = False

    def fetch(self, file: str, start: int, into: memoryview) -> None:
        self.asked.append(start)
        if self.silent:
            self.stopped.wait(20)
            raise MergeError("The Hub is away.")
        time.sleep(self.chance.random() / 500)
        into[:] = BYTES[start : start + len(into)]
        if start <= self.broken < start + len(into):
            into[self.broken - start] ^= 1


@pytest.fixture
def far() -> Far:
    return Far()


class Slow:
    """A checksum that takes its time."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def update(self, data: memoryview) -> None:
        time.sleep(0.01)
        self.sha256.update(data)

    def hexdigest(self) -> str:
        return self.sha256.hexdigest()


def ahead(
    far: Far, parts: list[Stretch] = PARTS, memory: int = 4 * PART, *, checked: bool = True, slow: bool = False
) -> Prefetch:
    right = hashlib.sha256(BYTES).hexdigest()
    checksums = {"f": Checksum(Slow() if slow else hashlib.sha256(), right, 0, len(BYTES))} if checked else {}
    found = Prefetch(far.fetch, parts, memory, "acme/model", far.stopped.is_set, checksums)
    found.start()
    return found


def until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)


def read(found: Prefetch, start: int, count: int) -> bytes:
    buffer = bytearray(count)
    assert found.read_into("f", start, memoryview(buffer)) == count
    return bytes(buffer)


@pytest.mark.parametrize("slow", [False, True])
def test_it_is_there_before_it_is_read_but_no_more_than_fits(far: Far, slow: bool):
    """Also where the checksum takes longer than the reading."""
    found = ahead(far, slow=slow)
    until(lambda: len(far.asked) >= LANES)
    time.sleep(0.1)
    assert sorted(far.asked) == [0, PART, 2 * PART, 3 * PART]
    for at in range(0, len(BYTES), 10_000):
        assert read(found, at, 10_000) == BYTES[at : at + 10_000]
        assert found.held_bytes <= 4 * PART
    found.finish()
    assert sorted(far.asked) == [s.start for s in PARTS] and found.held_bytes == 0


def test_many_threads_read_what_they_like(far: Far):
    """Also far from where it is fetched, which must not wait for what nobody reads."""
    found, places = ahead(far), [s.start for s in reversed(PARTS)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda at: read(found, at, PART), places)) == [BYTES[at : at + PART] for at in places]
    found.finish()
    assert len(far.asked) == len(PARTS)


def test_what_was_not_expected_is_left_to_others(far: Far):
    found = ahead(far, PARTS[:2], checked=False)
    buffer = bytearray(PART)
    assert found.read_into("f", PART + 40_000, memoryview(buffer)) == 10_000
    assert found.read_into("f", 2 * PART, memoryview(buffer)) == 0
    assert found.read_into("g", 0, memoryview(buffer)) == 0


@pytest.mark.parametrize("broken", [0, 333_333, 999_999])
def test_a_broken_byte_is_found(far: Far, broken: int):
    far.broken = broken
    found = ahead(far)
    with pytest.raises(MergeError, match="acme/model/f did not arrive as the Hub keeps it"):
        for part in PARTS:
            read(found, part.start, PART)
        found.finish()


def test_what_is_read_again_is_compared_with_the_first_time(far: Far):
    twice = [Stretch(s.file, s.start, s.end, s.wanted, again=True) for s in PARTS[:3]]
    found = ahead(far, twice * 2, memory=10**6, checked=False)
    for part in twice * 2:
        assert read(found, part.start, PART) == BYTES[part.start : part.end]
    assert len(far.asked) == 6 and not found.failure
    found = ahead(far, twice * 2, memory=PART, checked=False)
    for part in twice:
        read(found, part.start, PART)
    time.sleep(0.2)  # the first of the second time is there
    far.broken = PART + 7
    with pytest.raises(MergeError, match="did not arrive as the Hub keeps it"):
        for part in [*twice, twice[-1]]:
            read(found, part.start, PART)


def test_who_waits_is_let_go_at_once(far: Far):
    far.silent = True
    found = ahead(far)
    threading.Timer(0.1, far.stopped.set).start()
    began = time.monotonic()
    with ThreadPoolExecutor(LANES) as pool:
        waiting = [pool.submit(read, found, part.start, PART) for part in PARTS[2:6]]
        assert all(isinstance(one.exception(), (Stopped, MergeError)) for one in waiting)
    assert time.monotonic() - began < 1
    with pytest.raises(Stopped):
        found.finish()
