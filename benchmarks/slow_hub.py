"""A local Hub behind a slow line, in a process of its own: `python -m benchmarks.slow_hub`."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from space.demo.hub import MODELS
from space.localhub import LocalHub
from space.localhub.link import Link

ROOT = Path(__file__).parents[1]
OWNER = "bench"  # of the models that are merged, and the one who merges


@dataclass(frozen=True, slots=True)
class Line:
    """How fast: bytes a second each way, and seconds before each answer."""

    bytes_per_second: float
    latency: float


@dataclass(frozen=True, slots=True)
class SlowHub:
    """Where it is, and the tokens of its users by their names."""

    url: str
    tokens: Mapping[str, str]

    def environ(self, user: str = OWNER) -> dict[str, str]:
        """For a client of this user."""
        return {
            "HF_ENDPOINT": self.url, "HF_TOKEN": self.tokens[user], "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip


@contextmanager
def slow_hub(root: Path, models: Sequence[Path], line: Line, users: int = 0) -> Iterator[SlowHub]:
    """Serve folders as models of OWNER, with so many users beside; ends with the block."""
    command = [
        sys.executable, "-m", "benchmarks.slow_hub", str(root), *map(str, models), "--users", str(users),
        "--bandwidth", str(line.bytes_per_second), "--latency", str(line.latency),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            said = process.stdout.readline()
            if not said:
                raise RuntimeError("the local Hub did not start")
            yield SlowHub(**json.loads(said))
        finally:
            process.stdin.close()  # it ends when nobody is at the other end
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_hub", description=__doc__)
    add = parser.add_argument
    add("root", type=Path, help="where it keeps what it holds")
    add("models", type=Path, nargs="*", help="folders to serve as models")
    add("--users", type=int, default=0, help="how many people beside the owner of the models")
    add("--bandwidth", type=float, default=1e8, help="bytes a second, each way")
    add("--latency", type=float, default=0.05, help="seconds before each answer")
    given = parser.parse_args()
    with LocalHub(given.root) as hub:
        tokens = {name: f"hf_{name}_of_the_benchmark" for name in (OWNER, *(f"user{n}" for n in range(given.users)))}
        for name, token in tokens.items():
            hub.store.add_user(name, token=token)
        hub.store.import_folder(MODELS)
        for folder in given.models:
            if not hub.store.find(f"{OWNER}/{folder.name}"):
                hub.store.create_repo(f"{OWNER}/{folder.name}")
                hub.store.commit(f"{OWNER}/{folder.name}", {p.name: p for p in folder.iterdir()})
        hub.link = Link(given.bandwidth, given.latency)
        print(json.dumps({"url": hub.url, "tokens": tokens}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
