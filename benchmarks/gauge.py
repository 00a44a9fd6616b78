"""Run one command and write down what it used.

This is a program of its own, and a small one, because Linux counts the memory of whoever starts a process into the
peak of that process.  Usage: gauge.py RESULT SECONDS COMMAND...
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress


def gauge(command: list[str], seconds: float) -> dict[str, float]:
    """Wall time, CPU time, peak RSS and exit code of a process and those it waited for; killed after `seconds`."""
    started = time.perf_counter()
    process = subprocess.Popen(command, start_new_session=True)
    timer = threading.Timer(seconds, stop, [process.pid])
    timer.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    except BaseException:
        stop(process.pid)
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    return {"wall": wall, "cpu": cpu, "peak_bytes": used.ru_maxrss * 1024, "code": process.returncode}


def stop(pid: int) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    result, limit, *rest = sys.argv[1:]
    used = gauge(rest, float(limit))
    with open(result, "w") as file:  # noqa: PTH123 - pathlib would make this process larger
        json.dump(used, file)
