"""How long to wait for a server, and how often to ask again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Patience:
    """All in seconds, but `attempts`: how many in a row may bring nothing before it is given up."""

    connect: float = 10
    silence: float = 15  # nothing arrived for so long while reading: the connection is dead
    slowest: float = 500  # bytes a second; a connection that is slower for as long as a silence is dead too
    answer: float = 90  # for calls that change something, such as a commit, which keep the server busy
    question: float = 20  # a call that somebody waits for is not begun again after so long
    attempts: int = 6
    first_pause: float = 1
    longest_pause: float = 16
    longest_limit: float = 330  # a rate limit that ends within this is waited for; the Hub's windows last 5 minutes

    def hurried(self) -> "Patience":
        """For somebody who waits for the answer: they are told after seconds that there is none, and may ask again."""
        return replace(
            self, silence=min(self.silence, 8), question=min(self.question, 5), attempts=min(self.attempts, 2),
            longest_limit=min(self.longest_limit, 10),
        )  # fmt: skip

    def pauses(self) -> Iterator[float]:
        """The pauses between attempts: one fewer than there are attempts, each twice the one before."""
        pause = self.first_pause
        for _ in range(self.attempts - 1):
            yield pause
            pause = min(2 * pause, self.longest_pause)
