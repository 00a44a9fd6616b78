"""What a merge will read of each model, in which order, and how that is cut into requests. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

STRETCH = 16 * 2**20  # bytes of one request; half of it where a run is cut evenly, so 8 to 16 MB
SMALLEST = 2**18  # of a request where memory is short
AHEAD = 4 * STRETCH  # of one model in memory: what is read, and what comes meanwhile


@dataclass(frozen=True, slots=True)
class Range:
    """Some bytes of a file that will be read."""

    file: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A request: some bytes of a file, most of which will be read."""

    file: str
    start: int
    end: int
    wanted: int  # bytes that will be read; the others lie in small gaps
    again: bool = False  # read more than once, each time by a request of its own

    @property
    def nbytes(self) -> int:
        return self.end - self.start


def share(memory_bytes: int, remote: int) -> int:
    """What all remote models together may hold of what is yet to be read, out of the memory of a merge."""
    return min(remote * AHEAD, memory_bytes // 4)


def cut(ranges: Sequence[Range], memory_bytes: int) -> list[Stretch]:
    """Join what lies together and is read together, and cut it into requests, in the order of reading.

    What is read within the size of a request is put in the order of its file first. Of ranges that are read more
    than once each is a run of its own: so every reading of it has the same requests, which can be compared.
    """
    size = max(SMALLEST, min(STRETCH, max(memory_bytes // 4, min(STRETCH // 2, memory_bytes // 2))))
    times = Counter(ranges)
    stretches: list[Stretch] = []
    for group in windows((r for r in ranges if r.start < r.end), size, times):
        if times[group[0]] > 1:
            stretches += pieces(group, size, again=True)
        else:
            for run in runs(sorted(group, key=lambda r: (r.file, r.start)), gap=size // 16):
                stretches += pieces(run, size)
    return joined(stretches, size)


def windows(ranges: Iterable[Range], size: int, times: Mapping[Range, int]) -> Iterator[list[Range]]:
    """Ranges that are read one after the other, of so many bytes at most. One that is read again stands alone."""
    group: list[Range] = []
    filled = 0
    for r in ranges:
        alone = times[r] > 1
        if group and (alone or filled + r.end - r.start > size):
            yield group
            group, filled = [], 0
        group.append(r)
        filled += r.end - r.start
        if alone:
            yield group
            group, filled = [], 0
    if group:
        yield group


def runs(ranges: Iterable[Range], gap: int) -> Iterator[list[Range]]:
    """Ranges of a file that lie one after the other, or nearly."""
    run: list[Range] = []
    for r in ranges:
        if run and not (r.file == run[-1].file and 0 <= r.start - run[-1].end <= gap):
            yield run
            run = []
        run.append(r)
    if run:
        yield run


def pieces(run: Sequence[Range], size: int, *, again: bool = False) -> Iterator[Stretch]:
    """A run in equal parts of at most `size` bytes."""
    file, start, end = run[0].file, run[0].start, run[-1].end
    gaps = [(a.end, b.start) for a, b in pairwise(run) if a.end < b.start]
    step = -(-(end - start) // -(-(end - start) // size))
    for at in range(start, end, step):
        until = min(at + step, end)
        unread = sum(max(0, min(until, b) - max(at, a)) for a, b in gaps)
        yield Stretch(file, at, until, until - at - unread, again)


def joined(stretches: Iterable[Stretch], size: int) -> list[Stretch]:
    """Join small requests that follow each other in order and in the file, where windows have parted them."""
    found: list[Stretch] = []
    for s in stretches:
        last = found[-1] if found else None
        if (
            last and (last.file, last.end) == (s.file, s.start) and not (last.again or s.again)
            and last.nbytes + s.nbytes <= size
        ):  # fmt: skip
            found[-1] = Stretch(last.file, last.start, s.end, last.wanted + s.wanted)
        else:
            found.append(s)
    return found


def read_whole(stretches: Iterable[Stretch], sizes: Mapping[str, int]) -> tuple[dict[str, int], frozenset[str]]:
    """The files that are read to their end, and from which byte on; and which files are read in order."""
    parts: dict[str, dict[tuple[int, int], None]] = {}  # as they are read for the first time
    for s in stretches:
        parts.setdefault(s.file, {})[s.start, s.end] = None
    whole = {}
    for file, found in parts.items():
        first, last = min(found)[0], max(end for _, end in found)
        if last == sizes[file] and follow(sorted(found)):
            whole[file] = first
    return whole, frozenset(file for file, found in parts.items() if follow(list(found)))


def follow(parts: Sequence[tuple[int, int]]) -> bool:
    """Whether each begins where the one before it ends."""
    return all(a[1] == b[0] for a, b in pairwise(parts))
