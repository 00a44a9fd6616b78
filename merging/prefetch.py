"""Byte ranges fetched before they are read, in the order in which they will be, within so many bytes of memory."""

import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from merging.checksum import Checksum
from merging.errors import MergeError
from merging.ranges import Fetch
from merging.reading import Stretch
from merging.waiting import TICK, in_thread, outcome, stopped

LANES = 4  # requests under way at the same time: a single connection seldom fills the line


@dataclass(slots=True, eq=False)
class Held:
    """A stretch on its way or in memory."""

    stretch: Stretch
    left: int  # bytes of it that are still to be read
    data: "Future[memoryview]" = field(default_factory=Future)
    begun: bool = False
    hashed: bool = True  # or needs not to be


class Prefetch:
    """Reads what is expected, from several threads. One that asks for a stretch before its turn is not kept waiting.

    `checksums` are of the files that are read whole.
    """

    def __init__(
        self,
        fetch: Fetch,
        stretches: Iterable[Stretch],
        memory_bytes: int,
        label: str,
        is_stopped: Callable[[], bool],
        checksums: Mapping[str, Checksum],
    ) -> None:
        self.fetch, self.memory_bytes, self.label, self.is_stopped = fetch, memory_bytes, label, is_stopped
        self.checksums, self.unchecked = checksums, set(checksums)
        self.coming = [Held(s, s.wanted) for s in stretches]
        first = {held.stretch: held for held in reversed(self.coming)}
        for held in first.values():  # what is read again is compared with the first reading
            held.hashed = held.stretch.file not in checksums
        self.by_file: dict[str, list[Held]] = {}
        for held in self.coming:
            self.by_file.setdefault(held.stretch.file, []).append(held)
        self.coming.reverse()  # the next one at the end
        self.sums: dict[Stretch, int] = {}  # of what is read more than once
        self.held_bytes = 0
        self.arriving = 0  # stretches that are there and still to be taken into a checksum
        self.failure: MergeError | None = None
        self.changed = threading.Condition()

    def start(self) -> None:
        for _ in range(min(LANES, len(self.coming))):
            threading.Thread(target=self.work, name="prefetch", daemon=True).start()

    def work(self) -> None:
        while (held := self.next()) is not None:
            self.fill(held)

    def next(self) -> Held | None:
        """The next stretch as soon as there is room for it; None when there is no more."""
        with self.changed:
            while not self.is_stopped():
                while self.coming and self.coming[-1].begun:
                    self.coming.pop()
                if not self.coming:
                    return None
                if self.has_room(self.coming[-1]):
                    return self.begin(self.coming.pop())
                self.changed.wait(TICK)
        return None

    def has_room(self, held: Held) -> bool:
        return not self.held_bytes or self.held_bytes + held.stretch.nbytes <= self.memory_bytes

    def begin(self, held: Held) -> Held:
        held.begun = True
        self.held_bytes += held.stretch.nbytes
        return held

    def fill(self, held: Held) -> None:
        stretch = held.stretch
        try:
            data = memoryview(bytearray(stretch.nbytes))
            self.fetch(stretch.file, stretch.start, data)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that reads it
            held.data.set_exception(error)
            return
        with self.changed:
            self.arriving += 1
        held.data.set_result(data)
        if stretch.again and not self.same_again(stretch, zlib.crc32(data)):
            self.failure = self.broken(stretch.file)
        if not held.hashed:
            self.add(held, data)
        with self.changed:
            self.arriving -= 1
            self.changed.notify_all()

    def same_again(self, stretch: Stretch, found: int) -> bool:
        with self.changed:
            return self.sums.setdefault(stretch, found) == found

    def add(self, held: Held, data: memoryview) -> None:
        """Take the bytes into the checksum of their file."""
        file = held.stretch.file
        checksum = self.checksums[file]

        def done() -> None:
            held.hashed = True
            self.let_go(held)

        checksum.add(held.stretch.start, data, done)
        if checksum.complete:
            self.failure = self.failure or (None if checksum.right else self.broken(file))
            with self.changed:
                self.unchecked.discard(file)
                self.changed.notify_all()

    def broken(self, file: str) -> MergeError:
        return MergeError(
            f"{self.label}/{file} did not arrive as the Hub keeps it: the checksum of its bytes is another one. "
            "They were changed on the way, or on a disk. Nothing was kept of them; start again."
        )

    def let_go(self, held: Held) -> None:
        with self.changed:
            if held.hashed and not held.left and held in (mine := self.by_file[held.stretch.file]):
                mine.remove(held)
                self.held_bytes -= held.stretch.nbytes
            self.changed.notify_all()

    def read_into(self, file: str, start: int, into: memoryview) -> int:
        """Fill `into` as far as that was expected; how many bytes these are."""
        done = 0
        while done < len(into) and (held := self.find(file, start + done)) is not None:
            data = outcome(held.data, self.is_stopped, self.label)
            if self.failure:
                raise self.failure
            at = start + done - held.stretch.start
            count = min(len(into) - done, held.stretch.nbytes - at)
            into[done : done + count] = data[at : at + count]
            done += count
            with self.changed:
                held.left -= count
            self.let_go(held)
        return done

    def find(self, file: str, at: int) -> Held | None:
        """The stretch with that byte; where none of the lanes has begun it, a thread of its own does now.

        It may find no room, as what is held may be what others read later. But room that checksums are about to
        give is waited for: one that reads faster than they are computed must not fill the memory.
        """
        with self.changed:
            mine = (h for h in self.by_file.get(file, ()) if h.left > 0 and h.stretch.start <= at < h.stretch.end)
            held = next(mine, None)
            while held and not held.begun and self.arriving and not self.has_room(held):
                if self.is_stopped():
                    raise stopped(self.label)
                self.changed.wait(TICK)
            if held is None or held.begun:
                return held
            self.begin(held)
        in_thread(lambda: self.fill(held))
        return held

    def checked(self) -> list[str]:
        """The files whose checksum is complete and right. Raises where one is wrong."""
        with self.changed:
            if self.failure:
                raise self.failure
            return [file for file in self.checksums if file not in self.unchecked]

    def finish(self) -> None:
        """Wait for the checksums of all that was read. Raises where one is wrong."""
        with self.changed:
            while not self.failure and self.unchecked:
                if self.is_stopped():
                    raise stopped(self.label)
                self.changed.wait(TICK)
        if self.failure:
            raise self.failure
