"""One at a time, in the order in which they came. The accelerator has one owner, and everybody sees their place."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

# A turn to wait for and to hold, for somebody who hears how many are ahead.
Turn = Callable[[Callable[[int], None]], AbstractContextManager[None]]


def no_turn(waiting: Callable[[int], None]) -> AbstractContextManager[None]:
    """Where there is nothing to wait for."""
    return nullcontext()


class Turns:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.line: deque[object] = deque()

    @contextmanager
    def turn(self, waiting: Callable[[int], None], *, every: float = 0.25) -> Iterator[None]:
        """Wait for one's turn and hold it. `waiting` hears again and again how many are ahead, and may raise."""
        ticket = object()
        with self.changed:
            self.line.append(ticket)
        try:
            while ahead := self.ahead(ticket, every):
                waiting(ahead)
            yield
        finally:
            with self.changed:
                self.line.remove(ticket)
                self.changed.notify_all()

    def ahead(self, ticket: object, timeout: float) -> int:
        """How many are ahead after a while, or as soon as there is nobody."""
        with self.changed:
            self.changed.wait_for(lambda: self.line[0] is ticket, timeout)
            return self.line.index(ticket)
