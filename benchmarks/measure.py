"""What a whole process takes: wall time, CPU time and peak memory."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

GAUGE = Path(__file__).with_name("gauge.py")
FLOOR = Path(__file__).with_name("floor.py")
PLAIN = (sys.executable, "-I", "-S")  # Python with nothing but its own library
CHUNK = 8_000_000
LAST_WORDS = 2000  # characters of a failed command's output that are kept


class CommandFailed(Exception):
    """A measured command did not end well; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds and bytes, as the kernel counts them. Mapped files in memory count as RSS, the page cache does not."""

    wall: float
    cpu: float  # user and system, of all threads
    peak_bytes: int


def measure(
    command: Sequence[str], *, seconds: float = 3600, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Usage:
    """Run a command to its end. Raises CommandFailed when it fails or takes longer than `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder, "result"), Path(folder, "log")
        with log.open("wb") as output:
            in_time = run([*PLAIN, str(GAUGE), str(result), *command], seconds, output, cwd, env or {})
        said = log.read_text(errors="replace")[-LAST_WORDS:]
        if not in_time:
            raise CommandFailed(f"{command[0]} was stopped after {seconds:g} seconds.\n{said}")
        if not result.exists():
            raise CommandFailed(f"{command[0]} could not be run:\n{said}")
        used = json.loads(result.read_text())
    if used["code"] != 0:
        raise CommandFailed(f"{command[0]} ended with code {used['code']}:\n{said}")
    return Usage(used["wall"], used["cpu"], used["peak_bytes"])


def run(command: Sequence[str], seconds: float, output: IO[bytes], cwd: Path | None, env: Mapping[str, str]) -> bool:
    """Run a command to its end; False when it took longer than `seconds`. However this ends, nothing runs on."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env={**os.environ, **env},
        start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return True


def measure_floor(inputs: Iterable[Path], out: Path, nbytes: int) -> Usage:
    """What it takes to read the inputs and write `nbytes` with plain system calls on one thread: no merge is faster."""
    try:
        return measure([*PLAIN, str(FLOOR), str(out), str(nbytes), *map(str, inputs)])
    finally:
        out.unlink(missing_ok=True)


def warm(files: Iterable[Path]) -> None:
    """Read files, so that they are in the page cache."""
    buffer = bytearray(CHUNK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
