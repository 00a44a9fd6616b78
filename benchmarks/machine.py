"""Where the figures were measured."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe_machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory() / 1e9:.0f} GB of memory; "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, torch {version('torch')}. "
        f"Load when it began: {load:.1f}."
    )


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
