"""What a merge will take: bytes, memory, disk and time; and whether this machine has it."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]

from merging.checks.facts import Facts
from merging.findings import Finding, block, ok, warn
from merging.methods.spec import Method
from merging.plan import Plan, estimate_seconds

# Bytes read and written together, per second, on 2 busy cores: task arithmetic came to 1.8 GB/s, TIES, which looks at
# each tensor before it merges it, to 0.7 GB/s. For the Hub a connection of 400 Mbit/s.
SPEED = 1e9
SPEED_WITH_MEASURE = 600e6
HUB_SPEED = 50e6

Leaves = Literal["never", "always", "if chosen"]  # whether shards leave the disk while the others are made


def check_cost(
    plan: Plan, models: Sequence[Facts], seconds: float, out: Path, leaves: Leaves = "never"
) -> Iterator[Finding]:
    memory = plan.peak_memory_bytes
    free_disk, free_memory = shutil.disk_usage(existing(out)).free, available_memory()
    needed = plan.passing_bytes if leaves == "always" else plan.disk_bytes
    if needed > free_disk:
        yield no_disk(plan, needed, free_disk, leaves)
    if memory > free_memory:
        yield too_little(
            "memory", "memory", memory, free_memory, "Give the merge less memory, or close other programs."
        )
    again = f", {size(plan.again_bytes)} of it once more for want of memory," if plan.again_bytes else ""
    yield ok(
        "cost",
        f"The merge reads {size(plan.read_bytes)}{again} and writes {size(plan.write_bytes)} in {count(plan)}; it "
        f"needs up to {size(memory)} of memory and {size(needed)} of disk, and takes {duration(seconds)}.",
    )


def no_disk(plan: Plan, needed: int, free: int, leaves: Leaves) -> Finding:
    if leaves != "if chosen" or plan.passing_bytes > free:
        return too_little("disk", "disk", needed, free, "Free some space, or choose another output folder.")
    return warn(
        "disk",
        "There is not enough disk to keep the merge here.",
        {"this machine": f"{size(free)} free, {size(needed)} needed"},
        why="Kept here, it would stop on the way.",
        remedy=f"Publish it while it is made: each shard leaves when it has been sent, which needs "
        f"{size(plan.passing_bytes)}.",
    )


def too_little(id: str, what: str, needed: int, free: int, remedy: str) -> Finding:
    return block(
        id,
        f"There is not enough {what}.",
        {"this machine": f"{size(free)} free, {size(needed)} needed"},
        why="The merge would stop on the way, or be stopped by the system.",
        remedy=remedy,
        computable=False,
    )


def estimate(plan: Plan, models: Sequence[Facts], method: Method) -> float:
    """The seconds that the merge will take here: reading from the Hub goes on while the machine computes."""
    computing = estimate_seconds(plan, bytes_per_second=SPEED_WITH_MEASURE if method.measure else SPEED)
    return max(computing, plan.read_bytes * remote_share(plan, models) / HUB_SPEED)


def remote_share(plan: Plan, models: Sequence[Facts]) -> float:
    """How much of what is read comes from the Hub."""
    inputs = [(models[i], info.nbytes) for shard in plan.shards for step in shard.steps
              for i, info in zip(step.sources, step.inputs, strict=True)]  # fmt: skip
    return sum(size for model, size in inputs if model.repo_id) / max(1, sum(size for _, size in inputs))


def existing(path: Path) -> Path:
    """The nearest folder above that exists already: its disk is the one that will be written to."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())


def available_memory() -> int:
    """What the system has left, or the container that we run in."""
    free = int(psutil.virtual_memory().available)
    limit, used = cgroup("memory.max"), cgroup("memory.current")
    return min(free, max(0, limit - used)) if limit is not None and used is not None else free


def cgroup(file: str) -> int | None:
    """A figure of the container's control group; None outside of one, or without a limit."""
    try:
        return int((Path("/sys/fs/cgroup") / file).read_text())
    except (OSError, ValueError):
        return None


def count(plan: Plan) -> str:
    return "1 file" if len(plan.shards) == 1 else f"{len(plan.shards):,} shards"


def size(nbytes: float) -> str:
    """Bytes for people: three digits, powers of 1000 as disks are sold."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while nbytes >= 1000 and len(units) > 1:
        nbytes, units = nbytes / 1000, units[1:]
    return f"{nbytes:.0f} {units[0]}" if nbytes >= 100 or units[0] == "bytes" else f"{nbytes:.3g} {units[0]}"


def duration(seconds: float) -> str:
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds"
    minutes = seconds / 60
    return f"about {minutes:.0f} minutes" if minutes < 90 else f"about {minutes / 60:.1f} hours"
