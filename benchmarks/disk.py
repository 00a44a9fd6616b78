"""How much of a disk a folder takes at most, while something runs."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 0.05


class Peak:
    """The most bytes that were seen."""

    nbytes = 0


@contextmanager
def peak_of(folder: Path) -> Iterator[Peak]:
    """Look again and again, as long as the block runs."""
    peak, stop = Peak(), threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_SECONDS):
            peak.nbytes = max(peak.nbytes, taken(folder))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def taken(folder: Path) -> int:
    """What the files of a folder take on the disk, also of those whose bytes are still to come."""
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            try:
                total += 512 * os.stat(os.path.join(at, name), follow_symlinks=False).st_blocks  # noqa: PTH116, PTH118
            except FileNotFoundError:  # gone since it was listed
                continue
    return total
