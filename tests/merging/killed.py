"""A merge in a process of its own that is killed, or whose disk fails, at a chosen call to the system."""

import errno
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from merging.engine import Options, merge
from merging.errors import MergeError
from merging.hub import open_models
from merging.journal import Journal
from merging.recipe import all_models, parse_recipe
from tests.merging.hubs import ADA
from tests.merging.models import opened

CALLS = ("pwrite", "write", "fsync", "ftruncate", "rename", "posix_fallocate", "unlink")
SMALL = Options(shard_bytes=50_000, threads=1, device="cpu")
REFUSED, FINE = 3, 0


def context() -> ForkServerContext:
    """Processes that start at once, from one that has imported the engine."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.merging.killed"])
    return made


def run(target: Callable[..., None], *arguments: Any) -> int:
    """The exit status; negative when it was killed."""
    process = context().Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def disturb(at: int, how: str) -> None:
    """At the n-th of the calls: be killed before it or, where it writes, in the midst of it; or let it fail."""
    left = [at]

    def disturbed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **more: Any) -> Any:
            if name == "write" and arguments[0] <= 2:
                return call(*arguments, **more)
            left[0] -= 1
            if left[0] == 0 and how == "fail":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if left[0] == 0:
                if how == "torn" and name in ("write", "pwrite"):
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return called

    for name in CALLS:
        setattr(os, name, disturbed(name, getattr(os, name)))


def kill_at_entry(at: int) -> None:
    """Be killed when that many entries of the journal are written down."""
    add, left = Journal.add, itertools.count(at - 1, -1)

    def add_and_die(journal: Journal, kind: str, **facts: Any) -> None:
        add(journal, kind, **facts)
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(Journal, "add", add_and_die)  # noqa: B010


def merge_disturbed(recipe: str, out: Path, at: int, how: str) -> None:
    made = parse_recipe(recipe)
    checkpoints = opened(made)
    kill_at_entry(at) if how == "entry" else disturb(at, how)
    try:
        for _ in merge(made, checkpoints, out, SMALL):
            pass
    except MergeError:
        os._exit(REFUSED)
    os._exit(FINE)


def deliver_disturbed(recipe: str, place: Path, at: int, how: str, repo_id: str) -> None:
    """The same, published while it is made."""
    made = parse_recipe(recipe)
    delivery = ADA.deliver(repo_id, private=True, message="Merge", keeps_files=False)
    steps = merge(made, open_models(all_models(made), ADA), place, SMALL, delivery=delivery)
    kill_at_entry(at) if how == "entry" else disturb(at, how)
    try:
        for _ in steps:
            pass
    except MergeError:
        os._exit(REFUSED)
    os._exit(FINE)


def written(folder: Path) -> dict[str, Any]:
    """All that a merge wrote, but when it did and what says so."""
    found: dict[str, Any] = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found["merge_report.json"] = json.loads(found["merge_report.json"])
    for clock in ("started", "finished", "seconds"):
        del found["merge_report.json"][clock]
    return found
