"""The process of its own that a merge runs in, and how the app speaks with it.

It tells its progress through a pipe, and gets the token of the job's owner by the same way, never by command line,
environment or disk. When the app dies it dies too; the app that is started next goes on from the last complete shard.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

from merging.errors import Kept, MergeError, SignedOut
from space.journal import Job
from space.priority import give_way
from space.redact import redact
from space.report import WRITE_SECONDS, Cancelled, Report
from space.turns import Turn, no_turn

log = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two looks at whether the job should stop
GRACE = 1.5  # seconds to clean up in after a cancel
DEATHS = 3  # after so many one gives up
DIED = "The process of this job was killed, perhaps for want of memory."

Result = Mapping[str, Any]


class Reporter(Protocol):
    """What a task needs of a report: that of the app, or that of a process of its own."""

    @property
    def folder(self) -> Path: ...

    @property
    def secret(self) -> str | None: ...

    def progress(self, done_bytes: int, total_bytes: int, detail: str = "") -> None: ...

    def check(self) -> None: ...

    def log(self, line: str) -> None: ...

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the accelerator and have it, where the app shares one."""
        ...


Task = Callable[[Job, Reporter], Result]  # of this module or a picklable object's: it is sent to the process


class Bug(Exception):
    """What went wrong in the process, with its trace."""


def context() -> ForkServerContext:
    """Processes that start at once, from one that has imported the engine and nothing of the app."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["space.tasks"])
    return made


def run_apart(task: Task, job: Job, report: Report, turn: Turn = no_turn) -> Result:
    """Run a task in a process, which is begun again when something kills it. `turn` is for what it does in turn."""
    for left in reversed(range(DEATHS)):
        try:
            return run_once(task, job, report, turn)
        except EOFError:
            if not left:
                sent = f" What it has sent to {repo_id} stays there." if (repo_id := job.payload.get("repo_id")) else ""
                raise Kept(f"{DIED}{sent} Give it less memory (ALLOY_MEMORY_BYTES), then start it again.") from None
            report.log(f"{DIED} Going on from what is complete.")
    raise AssertionError("the last attempt returns or raises")


def run_once(task: Task, job: Job, report: Report, turn: Turn) -> Result:
    near, far = context().Pipe()
    process = context().Process(target=serve, args=(far, task, job, report.folder, report.secret), daemon=True)
    with ExitStack() as held:  # the process's turn, which ends with it at the latest
        process.start()
        far.close()
        try:
            return attend(near, report, turn, held)
        except Cancelled:
            raise Cancelled(let_clean_up(near, job)) from None
        finally:
            process.kill()
            process.join()
            process.close()
            near.close()


def attend(line: Connection, report: Report, turn: Turn, held: ExitStack) -> Result:
    """Pass on what the process says, until it ends. Raises EOFError when it does so without a word."""
    while True:
        if not line.poll(LOOK):
            report.check()
            continue
        match receive(line):
            case ("done", result):
                return dict(result)
            case ("turn", True):
                held.enter_context(turn(report.wait))
                send(line, "go")
            case ("turn", False):
                held.close()
            case said:
                pass_on(said, report)


def pass_on(said: Any, report: Report) -> None:
    """Tell the report what a process tells of its work; raise what went wrong there."""
    match said:
        case ("progress", done_bytes, total_bytes, detail):
            report.progress(done_bytes, total_bytes, detail)
        case ("log", text):
            report.log(text)
        case ("failed", error):
            raise error
        case ("bug", trace):
            raise Bug(redact(trace))


def receive(line: Connection) -> Any:
    try:
        return line.recv()
    except OSError:
        raise EOFError from None


def send(line: Connection, word: str) -> None:
    try:
        line.send(word)
    except OSError:
        raise EOFError from None


def let_clean_up(line: Connection, job: Job) -> str:
    """Ask the process to stop; what it leaves, in words."""
    until = time.monotonic() + GRACE
    try:
        line.send("stop")
        while line.poll(max(0.0, until - time.monotonic())):
            match line.recv():
                case ("cancelled", words):
                    return str(words)
                case ("done", result):
                    return f"It had been published already: {result['url']}." if result.get("url") else ""
                case ("failed", _) | ("bug", _):
                    return ""
    except (EOFError, OSError):
        pass
    repo_id = job.payload.get("repo_id")
    return (
        f"Look at {repo_id} on the Hub: if an empty repo is left there, delete it in its settings." if repo_id else ""
    )


# --- inside of the process


@dataclass
class Distant:
    """A report that goes through the pipe."""

    line: Connection
    folder: Path
    secret: str | None = field(repr=False)
    stopped: threading.Event = field(default_factory=threading.Event)
    mine: threading.Event = field(default_factory=threading.Event)  # the turn that was asked for
    said: float = 0.0

    def progress(self, done_bytes: int, total_bytes: int, detail: str = "") -> None:
        self.check()
        now = time.monotonic()
        if now - self.said >= WRITE_SECONDS or done_bytes >= total_bytes:
            self.said = now
            self.line.send(("progress", done_bytes, total_bytes, detail))

    def check(self) -> None:
        if self.stopped.is_set():
            raise Cancelled

    def log(self, line: str) -> None:
        self.line.send(("log", redact(line)))

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.mine.clear()
        self.line.send(("turn", True))
        while not self.mine.wait(LOOK):
            self.check()
        try:
            yield
        finally:
            self.line.send(("turn", False))

    def listen(self) -> None:
        """Notice a cancel, a turn, and the end of the app, which is the end of this process."""
        try:
            while (word := self.line.recv()) in ("stop", "go"):
                (self.stopped if word == "stop" else self.mine).set()
        except (EOFError, OSError):
            os._exit(1)


def serve(line: Connection, task: Task, job: Job, folder: Path, secret: str | None) -> None:
    """What the process does."""
    give_way()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the app
    report = Distant(line, folder, secret)
    threading.Thread(target=report.listen, name="listen", daemon=True).start()
    try:
        said: tuple[str, Any] = ("done", dict(task(job, report)))
    except Cancelled as stop:
        said = ("cancelled", redact(str(stop)))
    except MergeError as error:
        said = ("failed", plain(error))
    except Exception:  # noqa: BLE001 - the app logs it
        said = ("bug", traceback.format_exc())
    line.send(said)


def plain(error: MergeError) -> MergeError:
    """The same error in a form that can be sent: of the classes that the app tells apart."""
    kind = next(kind for kind in (SignedOut, Kept, MergeError) if isinstance(error, kind))
    return kind(redact(str(error)))
