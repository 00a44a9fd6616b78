"""How long a merge in memory takes to follow a slider, beside one pass over that memory: `python -m benchmarks.live`.

The pass reads the base and the fine-tunes and writes as many bytes as the merge has, in as many threads: nothing that
follows a lambda is faster. Both are measured in turn, in one process, and the best of each is taken. On a GPU, models
and merge are in its memory; the pass is then worked out from how fast it copies there.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np

from benchmarks.__main__ import CACHE
from benchmarks.checkpoints import BASE, FINE_TUNES, ensure_checkpoints
from benchmarks.llama import Shape, shape_at
from benchmarks.machine import describe_machine
from benchmarks.table import table
from merging.checkpoint import Folder, open_checkpoint
from merging.device import Device, choose_device
from merging.held import load_at_once, steps_of
from merging.live import LiveMerge, plan_live
from merging.methods.arrays import Bytes
from merging.recipe import Input, ModelRef, Recipe, all_models

TUNES = FINE_TUNES[:2]
SCALE = 0.4  # of Llama 3.2 1B: half a billion parameters
COPIES = 20  # on a GPU, one of which takes no time
PIECE = 2**20  # numbers that a thread reads of each model at a time
MOVES: Mapping[str, tuple[str, str, dict[str, float]]] = {  # what is moved: the method, the setting, the other settings
    "task_arithmetic, a lambda": ("task_arithmetic", "weight", {}),
    "linear, a weight": ("linear", "weight", {}),
    "ties, a lambda": ("ties", "weight", {"density": 0.3}),
    "ties, the density": ("ties", "density", {"weight": 0.5}),
    "dare_linear, a lambda": ("dare_linear", "weight", {"density": 0.5}),
}


@dataclass(frozen=True, slots=True)
class Times:
    """The best of several, in seconds; `cpu` is of all threads."""

    wall: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=SCALE, help=f"size, where 1 is 1.24 billion parameters (default: {SCALE})")
    add("--repeat", type=int, default=5, help="moves of each slider (default: 5)")
    add("--threads", type=int, default=2, help="of the merge and of the pass (default: 2)")
    add("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    add("--cache", type=Path, default=CACHE, help=f"where models are made (default: {CACHE})")
    given = parser.parse_args(arguments)
    shape = shape_at(given.scale)
    print(describe_machine())
    print(f"{shape.parameters / 1e9:.2f}B, base and {len(TUNES)} fine-tunes in bfloat16, {given.threads} threads.\n")
    device = choose_device(given.device)
    print(f"On {device.name}.\n")
    print(compare(shape, given.cache.expanduser(), given.repeat, given.threads, device))
    return 0


def compare(shape: Shape, cache: Path, repeat: int, threads: int, device: Device) -> str:
    """A table: every move, and how many passes it takes."""
    family = ensure_checkpoints(cache, shape, 0, TUNES)
    with closing(in_memory(recipe_of(family, "task_arithmetic", {"weight": 0.5}), threads, device)) as live:
        plan = live.plan(recipe_of(family, "task_arithmetic", {"weight": 0.5}))
        into = {step.name: device.own(step.end - step.start) for step in steps_of(plan)}
        for one in into.values():
            one[:] = 0
        rows = []
        for name, (method, moved, others) in MOVES.items():
            merge, floor = measure(live, family, (method, moved, others), into, repeat)
            rows.append(
                [name, f"{merge.wall:.3f} s", f"{floor.wall:.3f} s", f"{merge.wall / floor.wall:.2f}",
                 f"{merge.cpu:.2f} s", f"{floor.cpu:.2f} s"]
            )  # fmt: skip
    return table(["moved", "merge", "one pass", "ratio", "merge, CPU", "one pass, CPU"], rows)


def in_memory(recipe: Recipe, threads: int, device: Device) -> LiveMerge:
    """The models of a recipe, read as the app reads them for a live merge."""
    checkpoints = {ref: open_checkpoint(Folder(Path(ref.path))) for ref in all_models(recipe)}
    return LiveMerge(load_at_once(plan_live(recipe, checkpoints), checkpoints, device), threads)


def recipe_of(family: Path, method: str, settings: Mapping[str, float]) -> Recipe:
    base = ModelRef(str(family / BASE))
    tunes = tuple(Input(ModelRef(str(family / tune)), dict(settings)) for tune in TUNES)
    return Recipe(method, tunes, None if method == "linear" else base)


def measure(
    live: LiveMerge, family: Path, move: tuple[str, str, dict[str, float]], into: Mapping[str, Bytes], repeat: int
) -> tuple[Times, Times]:
    """The merge after each move of a slider, its plan included, and a pass after each of these."""
    method, moved, others = move
    merges, floors = [], []
    for number in range(repeat + 1):  # the first compiles, and measures what is remembered
        recipe = recipe_of(family, method, {**others, moved: 0.31 + 0.02 * number})
        models = len(recipe.models) + (recipe.base is not None)
        merges.append(timed(partial(follow, live, recipe, into)))
        floors.append(
            timed(partial(one_pass, live, models, into))
            if isinstance(live.held.memory, np.ndarray)
            else pass_of_gpu(live, models, into)
        )
    return best(merges[1:]), best(floors[1:])


def follow(live: LiveMerge, recipe: Recipe, into: Mapping[str, Bytes]) -> None:
    live.merge(recipe, live.plan(recipe), into)


def timed(do: Callable[[], Any]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def best(times: Sequence[Times]) -> Times:
    return replace(min(times, key=lambda t: t.wall), cpu=min(t.cpu for t in times))


def one_pass(live: LiveMerge, models: int, into: Mapping[str, Bytes]) -> None:
    """Read so many models' worth of memory, and write all that is merged into."""
    memory, at, pieces = live.held.memory.view(np.uint16), 0, []
    for out in (one.view(np.uint16) for one in into.values()):
        for start in range(0, len(out), PIECE):
            part = out[start : start + PIECE]
            pieces.append((memory[at : at + models * len(part)].reshape(models, len(part)), part))
            at = at + models * len(part) if at + 2 * models * PIECE <= len(memory) else 0
    with ThreadPoolExecutor(live.threads) as pool:
        list(pool.map(lambda piece: read_and_write(*piece), pieces))


def pass_of_gpu(live: LiveMerge, models: int, into: Mapping[str, Any]) -> Times:
    """As long as so many bytes take at the speed of copies within the GPU, which read and write each byte."""
    largest = max(into.values(), key=len)
    source = live.held.memory[: len(largest)]

    def copy() -> None:
        for _ in range(COPIES):
            largest[:] = source
        live.held.device.settle()

    copy()
    took, total = timed(copy), sum(map(len, into.values()))
    share = (models + 1) * total / (2 * COPIES * len(source))
    return Times(took.wall * share, took.cpu * share)


@numba.njit(cache=True, nogil=True)
def read_and_write(rows: Any, out: Any) -> None:
    if len(rows) == 3:
        base, first, second = rows[0], rows[1], rows[2]
        for i in range(out.size):
            out[i] = base[i] ^ first[i] ^ second[i]
    else:
        first, second = rows[0], rows[1]
        for i in range(out.size):
            out[i] = first[i] ^ second[i]


if __name__ == "__main__":
    sys.exit(main())
