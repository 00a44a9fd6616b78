"""The process that renders chat templates (see `template`): started when first needed, replaced when it dies."""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merging.errors import MergeError

PROGRAM = Path(__file__).with_name("template.py")
PATIENCE_SECONDS = 15.0  # more than the program lets any template have
MAX_TEMPLATE_CHARS = 1_000_000


class TemplateError(MergeError):
    """Why a template gave nothing, as the end of a sentence."""


class Renderer:
    """One process, one question at a time. It has no environment but its own path, and knows nothing of the app."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def render(self, question: Mapping[str, Any]) -> str:
        if len(question["template"]) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"it is longer than {MAX_TEMPLATE_CHARS:,} characters")
        line = json.dumps(question).encode() + b"\n"
        with self.lock:
            answer = json.loads(self.ask(line))
        if "error" in answer:
            raise TemplateError(answer["error"])
        return str(answer["text"])

    def ask(self, line: bytes) -> bytes:
        process = self.running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            return read_line(process.stdout.fileno(), PATIENCE_SECONDS)
        except (OSError, EOFError, TimeoutError):
            self.stop()
            raise TemplateError("it breaks down") from None

    def running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd="/", env={"PATH": "/usr/bin:/bin", "TZ": os.environ.get("TZ", "UTC")},
            )  # fmt: skip
            weakref.finalize(self, end, self.process)  # also when Python ends
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None


def end(process: "subprocess.Popen[bytes]") -> None:
    """Have a process end, and let go of its pipes."""
    process.kill()
    process.communicate()


def read_line(pipe: int, seconds: float) -> bytes:
    """What comes up to the end of a line, within a time."""
    end, said = time.monotonic() + seconds, bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not said.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError
            if not (chunk := os.read(pipe, 1 << 16)):
                raise EOFError
            said += chunk
    return bytes(said)


RENDERER = Renderer()
