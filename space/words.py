"""How numbers, times and states read: with units, at most three significant digits, as people say them."""

import time

STATES = {
    "queued": "Waiting",
    "running": "Running",
    "waiting": "Waits for your sign-in",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
}


def size(nbytes: float) -> str:
    """1_363_000 -> '1.36 MB'. Decimal units, as disks and the Hub count."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if nbytes < 999.5 or unit == "GB":
            return f"{nbytes:.0f} {unit}" if unit == "bytes" else f"{significant(nbytes)} {unit}"
        nbytes /= 1000
    raise AssertionError("the last unit takes every size")


def significant(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def duration(seconds: float) -> str:
    """3.2 -> '3 s', 100 -> '2 min', 5400 -> '1 h 30 min'."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes >= 48 * 60:
        return f"{minutes / 1440:.0f} days"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def ago(then: float, now: float | None = None) -> str:
    passed = (time.time() if now is None else now) - then
    if passed < 5:
        return "just now"
    if passed < 36 * 3600:
        return f"{duration(passed)} ago"
    return f"{passed / 86400:.0f} days ago"


def ahead(then: float, now: float | None = None) -> str:
    left = then - (time.time() if now is None else now)
    if left < 60:
        return "soon"
    if left < 36 * 3600:
        return f"in {duration(left)}"
    return f"in {left / 86400:.0f} days"


def count(number: int, one: str, many: str = "") -> str:
    """1, 'shard' -> '1 shard'; 3 -> '3 shards'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
