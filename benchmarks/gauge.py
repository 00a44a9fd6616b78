"""Run one command and write down what it used.

This is a program of its own, and a small one, because Linux counts the memory of whoever starts a process into the
peak of that process.  Usage: gauge.py RESULT COMMAND...
"""

import json
import os
import subprocess
import sys
import time


def gauge(command: list[str]) -> dict[str, float]:
    """Wall time, CPU time, peak RSS and exit code of a process and those it waited for."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    wall, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"wall": wall, "cpu": cpu, "peak_bytes": used.ru_maxrss * 1024, "code": process.returncode}


if __name__ == "__main__":
    result, *rest = sys.argv[1:]
    used = gauge(rest)
    with open(result, "w") as file:  # noqa: PTH123 - pathlib would make this process larger
        json.dump(used, file)
