"""A slow line between the Hub and its callers, for measurements."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Direction:
    """All that goes this way shares the bandwidth."""

    bytes_per_second: float
    free_at: float = 0.0  # when all that was sent so far has gone through

    async def carry(self, nbytes: int) -> None:
        """Wait for so many bytes to go through, after those of others."""
        now = asyncio.get_running_loop().time()
        self.free_at = max(now, self.free_at) + nbytes / self.bytes_per_second
        await asyncio.sleep(self.free_at - now)


@dataclass(slots=True)
class Link:
    """Answers go down, what is sent goes up, each with the whole bandwidth; an answer begins after the latency."""

    bytes_per_second: float
    latency: float = 0.0  # seconds
    down: Direction = field(init=False)
    up: Direction = field(init=False)

    def __post_init__(self) -> None:
        self.down, self.up = Direction(self.bytes_per_second), Direction(self.bytes_per_second)

    async def wait(self) -> None:
        await asyncio.sleep(self.latency)
