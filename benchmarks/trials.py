"""Merges, measured as whole processes and judged by what they wrote."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.agreement import Agreement, judge
from benchmarks.cases import Case
from benchmarks.llama import Shape
from benchmarks.measure import Usage, measure, measure_floor, warm

ROOT = Path(__file__).parents[1]
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
FLOORS = 2  # times, at least: the first often waits for memory
OURS = (sys.executable, "-m", "merging", "merge")


@dataclass(frozen=True, slots=True)
class Bench:
    """What all merges of a run have in common."""

    shape: Shape
    family: Path  # the models
    work: Path  # for recipes and outputs
    repeat: int
    seconds: float  # after which a merge is stopped

    def inputs(self, case: Case) -> list[Path]:
        return sorted(file for folder in case.folders for file in (self.family / folder).glob("*.safetensors"))

    def moved_bytes(self, case: Case) -> int:
        """Read and written, each input once."""
        return 2 * self.shape.parameters * (len(case.folders) + 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One merge by one tool, done once or more often."""

    usages: tuple[Usage, ...]
    agreement: Agreement

    @property
    def best(self) -> Usage:
        return min(self.usages, key=lambda usage: usage.wall)

    @property
    def peak_bytes(self) -> int:
        return max(usage.peak_bytes for usage in self.usages)


def try_merge(bench: Bench, case: Case, command: Sequence[str]) -> Trial:
    """Measure `command RECIPE OUT` with the inputs in the page cache; nothing of it is left on the disk."""
    recipe, out = bench.work / f"{case.name}.yaml", bench.work / "out"
    recipe.write_text(case.recipe(bench.family))
    usages: list[Usage] = []
    try:
        for _ in range(bench.repeat):
            shutil.rmtree(out, ignore_errors=True)
            warm(bench.inputs(case))
            os.sync()  # what a merge before wrote is not written while this one is measured
            usages.append(
                measure([*command, str(recipe), str(out)], seconds=bench.seconds, cwd=ROOT, env=OFFLINE),
            )
        return Trial(tuple(usages), judge(case, bench.shape, bench.family, out))
    finally:
        shutil.rmtree(out, ignore_errors=True)


def try_floor(bench: Bench, case: Case) -> Usage:
    inputs = bench.inputs(case)
    warm(inputs)
    os.sync()
    size, times = 2 * bench.shape.parameters, max(bench.repeat, FLOORS)
    return min((measure_floor(inputs, bench.work / "floor", size) for _ in range(times)), key=lambda usage: usage.wall)
