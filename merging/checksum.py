"""The checksum of a file whose parts come in any order."""

import threading
from collections.abc import Callable
from typing import Protocol


class Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Checksum:
    """Parts that come before their turn wait for it. Safe to use from several threads."""

    def __init__(self, digest: Hash, expected: str, at: int, size: int) -> None:
        """`digest` has taken the first `at` bytes of `size`."""
        self.digest, self.expected, self.at, self.size = digest, expected, at, size
        self.waiting: dict[int, tuple[memoryview, Callable[[], None]]] = {}
        self.busy = False
        self.lock = threading.Lock()

    @property
    def complete(self) -> bool:
        return self.at == self.size and not self.busy

    @property
    def right(self) -> bool:
        return self.digest.hexdigest() == self.expected

    def add(self, start: int, data: memoryview, done: Callable[[], None]) -> None:
        """Take a part, and call `done` when it is no longer needed: at once, or from the thread that brings what is
        missing before it."""
        with self.lock:
            self.waiting[start] = data, done
            if self.busy:
                return
            self.busy = True
        while (part := self.following()) is not None:
            self.digest.update(part[0])
            self.at += len(part[0])
            part[1]()

    def following(self) -> tuple[memoryview, Callable[[], None]] | None:
        with self.lock:
            part = self.waiting.pop(self.at, None)
            self.busy = part is not None
            return part
