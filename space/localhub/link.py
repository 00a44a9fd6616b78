"""A slow line between the Hub and its callers, for measurements."""

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Link:
    """All answers share the bandwidth; each begins after the latency."""

    bytes_per_second: float
    latency: float = 0.0  # seconds
    free_at: float = 0.0  # when all that was sent so far has gone through

    async def wait(self) -> None:
        await asyncio.sleep(self.latency)

    async def carry(self, nbytes: int) -> None:
        """Wait for so many bytes to go through, after those of others."""
        now = asyncio.get_running_loop().time()
        self.free_at = max(now, self.free_at) + nbytes / self.bytes_per_second
        await asyncio.sleep(self.free_at - now)
