"""The page before all else: what computes for long leaves the processor to those who answer clicks and polls."""

import os
import sys
import threading

NICE = 10  # a tenth of the share of who is not nice, and all that they leave
SWITCH_SECONDS = 0.0005  # Python's threads otherwise wait 5 ms for each other, several times in every answer


def give_way() -> None:
    """From here on this thread, and every one that it starts, computes with what the page leaves."""
    if sys.platform == "linux":  # where each thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def switch_often() -> None:
    """Let whoever answers a click wait less long for a thread that computes in Python."""
    sys.setswitchinterval(SWITCH_SECONDS)
