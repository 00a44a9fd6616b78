"""Whether time grows with size as a straight line: `python -m benchmarks.scaling`."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.__main__ import CACHE
from benchmarks.cases import Case
from benchmarks.checkpoints import BASE, FINE_TUNES, ensure_checkpoints
from benchmarks.llama import ONE, shape_at
from benchmarks.machine import describe_machine
from benchmarks.measure import measure, warm
from benchmarks.table import table
from benchmarks.trials import OFFLINE, OURS, ROOT

SIZES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # billions of parameters
TUNES = FINE_TUNES[:1]
CASE = Case("linear", "linear", (BASE, *TUNES), weight=(0.6, 0.4))


@dataclass(frozen=True, slots=True)
class Point:
    """One size: the parameters that it came to, and the best seconds of the whole process."""

    parameters: int
    wall: float
    cpu: float
    peak_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    add = parser.add_argument
    add("--sizes", type=lambda text: [float(t) for t in text.split(",")], default=SIZES, help="billions of parameters")
    add("--repeat", type=int, default=2, help="measure so often and take the best (default: 2)")
    add("--cache", type=Path, default=CACHE, help=f"where models are made, and removed again (default: {CACHE})")
    given = parser.parse_args(arguments)
    points = [point(size, given.repeat, given.cache.expanduser()) for size in given.sizes]
    print(describe_machine())
    print(result(points))
    return 0


def point(size: float, repeat: int, cache: Path) -> Point:
    """Merge two models of about `size` billion parameters, made for this and removed afterwards."""
    shape = shape_at(size * 1e9 / ONE)
    family = ensure_checkpoints(cache, shape, 0, TUNES)
    try:
        with tempfile.TemporaryDirectory(dir=cache, prefix="work-") as work:
            recipe, out = Path(work, "recipe.yaml"), Path(work, "out")
            recipe.write_text(CASE.recipe(family))
            usages = []
            for _ in range(repeat):
                warm(sorted(family.glob("*/*.safetensors")))
                usages.append(measure([*OURS, str(recipe), str(out)], cwd=ROOT, env=OFFLINE))
                shutil.rmtree(out)
    finally:
        shutil.rmtree(family)
    best = min(usages, key=lambda usage: usage.wall)
    print(f"{shape.parameters / 1e9:.2f}B: {best.wall:.1f} s", file=sys.stderr, flush=True)
    return Point(shape.parameters, best.wall, best.cpu, max(u.peak_bytes for u in usages))


def result(points: Sequence[Point]) -> str:
    """The table, and the straight line that fits it best by least squares."""
    x, y = (np.array([getattr(p, name) for p in points], float) for name in ("parameters", "wall"))
    slope, start = np.polyfit(x, y, 1)
    rows = [
        [f"{p.parameters / 1e9:.2f}B", f"{p.wall:.1f} s", f"{start + slope * p.parameters:.1f} s", f"{p.cpu:.1f} s",
         f"{p.peak_bytes / 1e9:.2f} GB"] for p in points
    ]  # fmt: skip
    fit = f"The line: {start:.1f} s and {slope * 1e9:.2f} s for each billion parameters; R^2 = {fitness(x, y):.4f}."
    return f"{table(['parameters', 'wall', 'on the line', 'CPU', 'peak RSS'], rows)}\n\n{fit}"


def fitness(
    x: "np.ndarray[tuple[int], np.dtype[np.float64]]", y: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)


if __name__ == "__main__":
    sys.exit(main())
