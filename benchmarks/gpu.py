"""How long a GPU computes for each method, with what it merges in its memory: `python -m benchmarks.gpu`.

For a model of 8 billion parameters held as bfloat16, a block of which is widened, measured, merged and rounded, as in a
merge; beside it what the same bytes take when they are only copied within the memory.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.table import table
from merging.budget import GPU_GRAINS, GRAIN
from merging.cuda import Gpu
from merging.methods import METHODS, Method
from merging.methods.chance import Chance
from merging.methods.spec import Block, Settings, compute
from merging.settings import keyword
from merging.totals import measure_alone

PARAMETERS = 8e9
ROW = 4096
GIVEN = {"weight": 0.5, "t": 0.3, "density": 0.5}  # what has no default, and a density that drops something
HEAD = ("method", "models", "s for 8B", "GB/s", "of a copy")


@dataclass(frozen=True, slots=True)
class Taken:
    """One method, for all of the 8 billion parameters."""

    method: str
    models: int  # with the base
    seconds: float
    copy_seconds: float  # as many bytes, read and written within the memory

    @property
    def bytes_per_second(self) -> float:
        return 2 * PARAMETERS * (self.models + 1) / self.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    add = parser.add_argument
    add("--device", default="cuda:0", help="as torch calls it (default: cuda:0)")
    add("--elements", type=int, default=GPU_GRAINS * GRAIN, help="of a block (default: as in a merge)")
    add("--seconds", type=float, default=1.0, help="how long each method is repeated (default: 1)")
    add("--only", type=lambda text: text.split(","), default=list(METHODS), help="methods (default: all)")
    given = parser.parse_args(arguments)
    rows = [taken(METHODS[name], given.device, given.elements, given.seconds) for name in given.only]
    name = torch.cuda.get_device_name(given.device) if given.device.startswith("cuda") else given.device
    sys.stdout.write(f"{name}, torch {torch.__version__}\n\n{table(HEAD, map(cells, rows))}\n")
    return 0


def taken(method: Method, device: str, elements: int, seconds: float) -> Taken:
    """Base and three fine-tunes, or as many as the method takes."""
    models = min(3, method.max_models or 3) + method.takes_base
    source = torch.Generator(device).manual_seed(0)
    shape = (elements // ROW, ROW)
    stored = torch.randn((models, elements), generator=source, device=device).mul_(0.02).bfloat16()
    settings = settings_of(method, models - method.takes_base)

    def merge() -> None:
        with Gpu(device).working():
            block = Block(stored.float(), method.takes_base, Chance(0, "w", 0), ROW, 0.5, is_matrix=True)  # type: ignore[arg-type]
            measured = measure_alone(method, block, shape, settings)
            torch.as_tensor(compute(method, block, measured, settings)).bfloat16()

    written = torch.empty_like(stored)
    once = best(lambda: written.copy_(stored), device, seconds / 4) * (models + 1) / (2 * models)
    blocks = PARAMETERS / elements
    return Taken(method.name, models, best(merge, device, seconds) * blocks, once * blocks)


def settings_of(method: Method, models: int) -> Settings:
    found = {}
    for p in method.params:
        value = GIVEN.get(p.name, p.default)
        found[keyword(p.name)] = (value,) * models if p.per_model else value
    return found


def best(work: Callable[[], object], device: str, seconds: float) -> float:
    """The seconds of the fastest of as many runs as there is time for, three at least."""
    times: list[float] = []
    until = time.monotonic() + seconds
    while len(times) < 3 or time.monotonic() < until:
        Gpu(device).settle()
        began = time.perf_counter()
        work()
        Gpu(device).settle()
        times.append(time.perf_counter() - began)
    return min(times)


def cells(row: Taken) -> list[str]:
    share = row.copy_seconds / row.seconds
    return [row.method, str(row.models), f"{row.seconds:.3g}", f"{row.bytes_per_second / 1e9:.3g}", f"{share:.0%}"]


if __name__ == "__main__":
    sys.exit(main())
