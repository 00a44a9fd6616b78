"""mergekit in an environment of its own, where it is run as its users run it. Nothing of it is imported or copied."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VERSION = "0.1.5"
PINS = Path(__file__).with_name("mergekit.txt")
VENV = Path(__file__).parents[1] / ".venv-mergekit"


class MergekitMissing(Exception):
    """Why mergekit cannot be measured here."""


def ensure_mergekit(venv: Path = VENV) -> Path:
    """The command mergekit-yaml, installed when it is not there. Raises MergekitMissing."""
    stamp, pins = venv / ".pins", hashlib.sha256(PINS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != pins:
        install(venv)
        stamp.write_text(pins)
    return venv / "bin" / "mergekit-yaml"


def install(venv: Path) -> None:
    """Torch first and alone: what is installed satisfies everything that asks for it later."""
    shutil.rmtree(venv, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(venv)])
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = next(line for line in PINS.read_text().splitlines() if line.startswith("torch=="))
    run([*pip, torch])
    run([*pip, "-r", str(PINS)])


def run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        raise MergekitMissing(str(e)) from None
    if done.returncode:
        raise MergekitMissing(f"{command[0]} {command[2]}: {done.stderr.strip()[-500:]}")
