"""Turn the many small reads of an engine into few large ones, for files that are far away."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from merging.errors import MergeError

FIRST = 128 * 1024  # the least that is asked for: the headers of most small files fit
WINDOW = 8 * 1024 * 1024  # the most that is asked for at once
KEPT = 8 * WINDOW  # what one model may hold in memory

Fetch = Callable[[str, int, memoryview], None]  # fill from this byte of that file on; never short without an error


@dataclass(slots=True, eq=False)
class Span:
    """A stretch of a file that has been asked for; its bytes arrive in `data`."""

    file: str
    start: int
    end: int
    data: "Future[bytearray]" = field(default_factory=Future)
    used: bool = False  # read to its end, so the first to be let go

    def holds(self, file: str, at: int) -> bool:
        return self.file == file and self.start <= at < self.end


class ReadAhead:
    """Reads by range, from several threads, with read-ahead where the reading goes on in order.

    A read at a new place asks for little more than it needs, so that a few sampled bytes stay a few. Each read that
    goes on where a stretch ended asks for twice as much as that one had, up to a window, as file systems do.
    Threads that need the same stretch wait for one request.
    """

    def __init__(self, fetch: Fetch, sizes: Mapping[str, int], *, window: int = WINDOW, kept: int = KEPT) -> None:
        self.fetch, self.sizes, self.window, self.kept = fetch, sizes, window, kept
        self.spans: OrderedDict[int, Span] = OrderedDict()  # by identity, the one used last at the end
        self.lock = threading.Lock()

    def read_into(self, file: str, start: int, into: memoryview) -> None:
        end = start + len(into)
        if file not in self.sizes or end > self.sizes[file]:
            raise MergeError(f"{file} has {self.sizes.get(file, 0):,} bytes, but bytes up to {end:,} are needed.")
        at = start
        while at < end:
            span, is_new = self.claim(file, at, end)
            if is_new:
                self.fill(span)
            data, until = span.data.result(), min(end, span.end)
            into[at - start : until - start] = memoryview(data)[at - span.start : until - span.start]
            span.used, at = span.used or until == span.end, until

    def claim(self, file: str, at: int, end: int) -> tuple[Span, bool]:
        """The stretch that holds byte `at`, and whether the caller is the one who must fetch it."""
        with self.lock:
            if found := next((s for s in self.spans.values() if s.holds(file, at)), None):
                self.spans.move_to_end(id(found))
                return found, False
            span = Span(file, at, self.reach(file, at, end))
            self.spans[id(span)] = span
            self.let_go()
            return span, True

    def reach(self, file: str, at: int, end: int) -> int:
        """How far to read: what is needed and some more, but nothing that is there already."""
        mine = [s for s in self.spans.values() if s.file == file]
        before = max((s.end - s.start for s in mine if s.end == at), default=0)
        after = min((s.start for s in mine if s.start > at), default=self.sizes[file])
        return min(at + min(max(end - at, FIRST, 2 * before), self.window), after, self.sizes[file])

    def let_go(self) -> None:
        """Keep within the memory, first letting go what has been read to its end, then what was used longest ago."""
        held = sum(s.end - s.start for s in self.spans.values())
        for span in sorted(self.spans.values(), key=lambda s: not s.used):
            if held <= self.kept:
                return
            if span.data.done():
                held -= span.end - span.start
                del self.spans[id(span)]

    def fill(self, span: Span) -> None:
        data = bytearray(span.end - span.start)
        try:
            self.fetch(span.file, span.start, memoryview(data))
        except BaseException as error:
            with self.lock:
                self.spans.pop(id(span), None)
            span.data.set_exception(error)
            raise
        span.data.set_result(data)

    def clear(self) -> None:
        with self.lock:
            self.spans.clear()
