"""How long a diagnosis takes beside a linear merge of the same models: `python -m benchmarks.diagnosis`.

Whole processes, one after the other and in turn, with the inputs in the page cache. The best of each is taken; CPU time
says more where other work shares the machine.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.__main__ import CACHE
from benchmarks.cases import LAMBDAS, SHARES, Case
from benchmarks.checkpoints import BASE, FINE_TUNES, ensure_checkpoints
from benchmarks.llama import shape_at
from benchmarks.machine import describe_machine
from benchmarks.measure import Usage, measure, warm
from benchmarks.table import table
from benchmarks.trials import OFFLINE, ROOT

TUNES = FINE_TUNES[:3]
LINEAR = Case("linear", "linear", (BASE, *TUNES), weight=SHARES)
PLANS = {
    "task_arithmetic": Case("task_arithmetic", "task_arithmetic", TUNES, base=BASE, weight=LAMBDAS),
    "ties": Case("ties", "ties", TUNES, base=BASE, weight=LAMBDAS, settings={"density": 0.2}),
}
MERGING = (sys.executable, "-m", "merging")
Run = Callable[[], Usage]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="size of the models, in units of 1.24 billion parameters (default: 1)")
    add("--repeat", type=int, default=3, help="measure so often, and show the best (default: 3)")
    add("--threads", type=int, default=2, help="of the merge and of the diagnosis (default: 2)")
    add("--cache", type=Path, default=CACHE, help=f"where models are made (default: {CACHE})")
    given = parser.parse_args(arguments)
    shape, cache = shape_at(given.scale), given.cache.expanduser()
    family = ensure_checkpoints(cache, shape, 0)
    print(describe_machine())
    print(f"{shape.parameters / 1e9:.2f}B parameters, base and {len(TUNES)} fine-tunes in bfloat16.\n")
    with tempfile.TemporaryDirectory(dir=cache, prefix="work-") as work:
        print(compare(family, Path(work), given.repeat, str(given.threads)))
    return 0


def compare(family: Path, work: Path, repeat: int, threads: str) -> str:
    """A table: the merge first, and how many of it each diagnosis takes."""
    runs = {"linear merge": linear(family, work, threads)}
    for name, case in PLANS.items():
        runs[f"diagnose, {name}"] = diagnosis(family, work, case, "--threads", threads)
    runs["diagnose, a sample"] = diagnosis(family, work, PLANS["ties"], "--threads", threads, "--sample")
    usages: dict[str, list[Usage]] = {name: [] for name in runs}
    for number in range(repeat + 1):  # the first time, loops are compiled
        for name, run in runs.items():
            warm(file for folder in LINEAR.folders for file in (family / folder).glob("*.safetensors"))
            used = run()
            if number:
                usages[name].append(used)
    merge = best(usages["linear merge"])
    return table(
        ["", "wall", "CPU", "peak memory", "wall, ratio", "CPU, ratio"],
        [row(name, best(found), merge) for name, found in usages.items()],
    )


def linear(family: Path, work: Path, threads: str) -> Run:
    recipe, out = written(LINEAR, family, work), work / "out"

    def run() -> Usage:
        shutil.rmtree(out, ignore_errors=True)
        return measure([*MERGING, "merge", str(recipe), str(out), "--threads", threads], cwd=ROOT, env=OFFLINE)

    return run


def diagnosis(family: Path, work: Path, case: Case, *options: str) -> Run:
    recipe = written(case, family, work)
    return lambda: measure([*MERGING, "diagnose", str(recipe), "--json", *options], cwd=ROOT, env=OFFLINE)


def written(case: Case, family: Path, work: Path) -> Path:
    path = work / f"{case.name}.yaml"
    path.write_text(case.recipe(family))
    return path


def best(usages: Sequence[Usage]) -> Usage:
    """The best of each, and the largest memory."""
    return Usage(min(u.wall for u in usages), min(u.cpu for u in usages), max(u.peak_bytes for u in usages))


def row(name: str, found: Usage, merge: Usage) -> list[str]:
    peak = f"{found.peak_bytes / 1e9:.2f} GB"
    return [name, f"{found.wall:.1f} s", f"{found.cpu:.1f} s", peak, f"{found.wall / merge.wall:.2f}",
            f"{found.cpu / merge.cpu:.2f}"]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
