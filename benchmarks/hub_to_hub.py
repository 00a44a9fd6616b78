"""Merges from Hub to Hub, beside download, mergekit and upload: `python -m benchmarks hub`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from benchmarks.cases import CASES, Case
from benchmarks.checkpoints import BASE, FINE_TUNES, ensure_checkpoints
from benchmarks.disk import peak_of
from benchmarks.hub_table import START_SECONDS, Plain, Row, how, report
from benchmarks.llama import Shape, shape_at
from benchmarks.machine import describe_machine
from benchmarks.measure import Usage, measure, warm
from benchmarks.mergekit import MergekitMissing, ensure_mergekit
from benchmarks.slow_hub import OWNER, Line, SlowHub, slow_hub
from benchmarks.trials import OFFLINE, OURS, ROOT
from benchmarks.users import people_at_work

RESULTS = Path(__file__).with_name("HUB.md")
MODELS = 3
SHARDS = 5  # that the output is cut into
CHOICE = ("linear", "task_arithmetic", "ties")
USERS = 8

DOWNLOAD = (
    "import sys; from huggingface_hub import snapshot_download as get; "
    "[get(repo, local_dir=f'{sys.argv[1]}/{repo.split(chr(47))[1]}') for repo in sys.argv[2:]]"
)
FETCH = "import sys; from huggingface_hub import hf_hub_download as get; get(*sys.argv[1:3], local_dir=sys.argv[3])"
UPLOAD = (
    "import sys; from huggingface_hub import HfApi; api = HfApi(); api.create_repo(sys.argv[2], private=True); "
    "api.upload_folder(repo_id=sys.argv[2], folder_path=sys.argv[1])"
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all recipes of a run have in common."""

    shape: Shape
    family: Path
    work: Path
    line: Line
    hub: SlowHub
    mergekit: Path | None
    limit: float  # seconds for one step

    @property
    def model_bytes(self) -> int:
        return 2 * self.shape.parameters

    @property
    def shard_bytes(self) -> int:
        """A fifth of the output, or what its largest tensor takes where that is more."""
        largest = 2 * max(prod(shape) for shape in self.shape.tensors().values())
        return max(-(-self.model_bytes // SHARDS), largest + 10_000_000)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        shape = shape_at(given.scale)
    except ValueError as e:
        parser.error(str(e))
    cache, line = given.cache.expanduser(), Line(given.bandwidth * 1e6, given.latency / 1000)
    family = ensure_checkpoints(cache, shape, 0)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(dir=cache, prefix="hub-") as work:
        folders = [family / name for name in (BASE, *FINE_TUNES[:MODELS])]
        with slow_hub(Path(work, "hub"), folders, line, USERS) as hub:
            bench = Bench(
                shape, family, Path(work), line, hub, None if given.no_mergekit else mergekit(), given.seconds
            )
            rows = [measured(bench, three(CASES[name])) for name in given.only]
            waits = None if given.no_users else people_at_work(hub, three(CASES["linear"]), Path(work, "app"), USERS)
    facts = {
        "Machine": machine,
        "Models": f"{MODELS} of {shape.parameters / 1e9:.2f}B parameters in bfloat16 for each merge.",
        "Measured": how(line),
    }
    result = report(rows, waits, facts)
    print(result)
    if given.write:
        told = "Written by `python -m benchmarks hub --write` (`make bench ARGS='hub --write'`)."
        RESULTS.write_text(f"# From Hub to Hub\n\n{told}\n\n{result}")
    return 0 if all(row.is_same for row in rows) else 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks hub", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="size of the models, in units of 1.24 billion parameters (default: 1)")
    add("--bandwidth", type=float, default=100.0, help="of the line, in MB/s each way (default: 100)")
    add("--latency", type=float, default=50.0, help="before each answer, in ms (default: 50)")
    add(
        "--only", type=lambda text: text.split(","), default=list(CHOICE), help=f"recipes (default: {','.join(CHOICE)})"
    )
    add("--no-mergekit", action="store_true", help="measure Alloy alone")
    add("--no-users", action="store_true", help="leave out the people who poll and chat while a merge runs")
    add("--seconds", type=float, default=1800, help="stop a step after so long (default: 1800)")
    add("--cache", type=Path, default=Path("~/.cache/alloy/bench"), help="where the models are kept")
    add("--write", action="store_true", help=f"replace benchmarks/{RESULTS.name} with the result")
    return parser


def mergekit() -> Path | None:
    try:
        return ensure_mergekit()
    except MergekitMissing as e:
        say(f"mergekit could not be installed, and is left out. {e}")
        return None


def three(case: Case) -> Case:
    """The recipe with three models in all."""
    count = MODELS - (case.base is not None)
    return replace(case, models=case.models[:count], weight=case.weight[:count])


def measured(bench: Bench, case: Case) -> Row:
    """One recipe our way, then today's way; nothing of either is left."""
    once = len(case.folders) * bench.model_bytes
    longest = once / bench.line.bytes_per_second
    ours, disk = ours_to_hub(bench, case)
    say(f"{case.name}, Alloy: {ours.wall:.1f} s, at the rate of the line {longest:.1f} s, "
        f"{ours.peak_bytes / 1e6:,.0f} MB of memory, {disk / 1e6:,.0f} MB of disk")  # fmt: skip
    theirs = by_hand(bench, case) if bench.mergekit else None
    if theirs:
        say(f"{case.name}, by hand: {theirs.download:.1f} + {theirs.merge:.1f} + {theirs.upload:.1f} s")
    read = planned_bytes(bench, case)
    return Row(case, longest + START_SECONDS, ours, disk, bench.shard_bytes, read, once, is_same(bench, case), theirs)


def planned_bytes(bench: Bench, case: Case) -> int:
    """What the check says that the merge reads."""
    recipe = bench.work / f"{case.name}.yaml"
    command = [sys.executable, "-m", "merging", "check", str(recipe), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | bench.hub.environ(), capture_output=True, check=True)
    return int(json.loads(done.stdout)["cost"]["read_bytes"])


def repo_of(case: Case) -> str:
    return f"{OWNER}/merged-{case.name.replace('_', '-')}"


def ours_to_hub(bench: Bench, case: Case) -> tuple[Usage, int]:
    recipe, home = bench.work / f"{case.name}.yaml", bench.work / "home"
    recipe.write_text(case.recipe(Path(OWNER)))
    home.mkdir()
    command = [*OURS, str(recipe), "--publish", repo_of(case), "--shard-size", str(bench.shard_bytes)]
    environ = bench.hub.environ() | {"ALLOY_HOME": str(home), "HF_HOME": str(home / "hf")}
    try:
        with peak_of(home) as peak:
            used = measure(command, seconds=bench.limit, cwd=ROOT, env=environ)
        return used, peak.nbytes
    finally:
        shutil.rmtree(home)


def by_hand(bench: Bench, case: Case) -> Plain:
    """Download every model, merge the folders with mergekit, upload the folder."""
    place = bench.work / "by-hand"
    place.mkdir()
    recipe, models, out = place / "recipe.yaml", place / "models", place / "out"
    recipe.write_text(case.recipe(models))
    environ = bench.hub.environ() | {"HF_HOME": str(place / "hf")}
    repos = [f"{OWNER}/{name}" for name in case.folders]
    steps = [
        ([sys.executable, "-c", DOWNLOAD, str(models), *repos], environ),
        ([str(bench.mergekit), str(recipe), str(out)], OFFLINE),
        ([sys.executable, "-c", UPLOAD, str(out), f"{repo_of(case)}-by-hand"], environ),
    ]
    try:
        with peak_of(place) as peak:
            download, merge, upload = (measure(c, seconds=bench.limit, cwd=ROOT, env=env).wall for c, env in steps)
        return Plain(download, merge, upload, peak.nbytes)
    finally:
        shutil.rmtree(place)


def is_same(bench: Bench, case: Case) -> bool:
    """Whether what was published has the bits of a merge of the folders."""
    recipe, out = bench.work / "folders.yaml", bench.work / "folders"
    recipe.write_text(case.recipe(bench.family))
    warm(file for name in case.folders for file in (bench.family / name).glob("*.safetensors"))
    try:
        measure([*OURS, str(recipe), str(out), "--shard-size", str(bench.shard_bytes)], cwd=ROOT, env=OFFLINE)
        here = json.loads((out / "merge_report.json").read_text())["shards"]
    finally:
        shutil.rmtree(out, ignore_errors=True)
    told = bench.work / "told"
    measure([sys.executable, "-c", FETCH, repo_of(case), "merge_report.json", str(told)], env=bench.hub.environ())
    there = json.loads((told / "merge_report.json").read_text())["shards"]
    shutil.rmtree(told)
    return bool(here == there)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
