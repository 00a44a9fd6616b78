"""Measure merges as whole processes, ours beside mergekit's: `python -m benchmarks`; or `hub`: from Hub to Hub."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import hub_to_hub
from benchmarks.cases import CASES, Case, choose
from benchmarks.checkpoints import ensure_checkpoints
from benchmarks.llama import SMALLEST, Shape, shape_at
from benchmarks.machine import describe_machine
from benchmarks.measure import CommandFailed
from benchmarks.mergekit import VERSION, MergekitMissing, ensure_mergekit
from benchmarks.table import Row, is_right, report
from benchmarks.trials import OURS, Bench, Trial, try_floor, try_merge

RESULTS = Path(__file__).with_name("RESULTS.md")
CACHE = Path("~/.cache/alloy/bench")
HOW = (
    "whole processes, inputs in the page cache, and nothing of what ran before still to be written. GB/s counts the "
    "bytes of every input once and those of the output. The floor reads all inputs and writes the output with plain "
    "system calls on one thread. RSS is the kernel's, with mapped files. What Alloy compiles once on a machine is "
    "compiled before, in a merge of small models."
)


def main(arguments: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be told to stop is like Ctrl-C: nothing runs on
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["hub"]:
        return hub_to_hub.main(arguments[1:])
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        shape, cases = shape_at(given.scale), choose(given.only)
    except ValueError as e:
        parser.error(str(e))
    facts = {"Machine": describe_machine()}
    theirs, facts["mergekit"] = find_mergekit(skip=given.no_mergekit)
    facts["Models"] = f"{shape.parameters / 1e9:.2f}B parameters in bfloat16, Llama shapes, {shape.vocab:,} tokens."
    facts["Measured"] = f"{HOW} {runs(given.repeat)}"
    cache = given.cache.expanduser()
    say(f"The models are in {cache}; they are made first if they are not.")
    family = ensure_checkpoints(cache, shape, given.seed)
    with tempfile.TemporaryDirectory(dir=cache, prefix="work-") as work:
        bench = Bench(shape, family, Path(work), given.repeat, given.seconds)
        small = shape_at(SMALLEST)
        rehearsal = replace(bench, shape=small, family=ensure_checkpoints(cache, small, given.seed), repeat=1)
        rows = list(measured(bench, rehearsal, cases, theirs))
    finish(report(rows, facts), shape, write=given.write)
    return 0 if len(rows) == len(cases) and all(map(is_right, rows)) else 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="size of the models, in units of 1.24 billion parameters (default: 1)")
    add("--only", type=lambda text: text.split(","), default=[], help=f"some of: {', '.join(CASES)}")
    add("--no-mergekit", action="store_true", help="measure Alloy alone")
    add("--repeat", type=int, default=1, help="measure so often, and show the best and the worst (default: 1)")
    add("--seconds", type=float, default=1800, help="stop a merge after so long (default: 1800)")
    add("--cache", type=Path, default=CACHE, help=f"where the models are kept (default: {CACHE})")
    add("--seed", type=int, default=0, help="of the models (default: 0)")
    add("--write", action="store_true", help=f"replace benchmarks/{RESULTS.name} with the result")
    return parser


def runs(repeat: int) -> str:
    return "Each merge ran once." if repeat == 1 else f"Each merge ran {repeat} times; the best is shown."


def find_mergekit(*, skip: bool) -> tuple[Path | None, str]:
    """The command, and a word about it."""
    if skip:
        return None, "not measured (--no-mergekit)."
    say("mergekit's environment is made first if it is not there.")
    try:
        return (
            ensure_mergekit(),
            f"{VERSION} from PyPI in an environment of its own, run as `mergekit-yaml RECIPE OUT`.",
        )
    except MergekitMissing as e:
        return None, f"could not be installed. {e}"


def measured(bench: Bench, rehearsal: Bench, cases: Iterable[Case], mergekit: Path | None) -> Iterable[Row]:
    """Each case with our tool and the other, one after the other; what fails is said and left out."""
    for case in cases:
        try:
            try_merge(rehearsal, case, OURS)
            floor = try_floor(bench, case)
            ours = shown(f"{case.name}, Alloy", try_merge(bench, case, OURS))
            theirs = None
            if mergekit:
                theirs = shown(f"{case.name}, mergekit", try_merge(bench, case, [str(mergekit)]))
            yield Row(case, bench.moved_bytes(case), floor, ours, theirs)
        except CommandFailed as e:
            say(f"{case.name} failed. {e}")


def shown(what: str, trial: Trial) -> Trial:
    best = trial.best
    say(f"{what}: {best.wall:.1f} s, CPU {best.cpu:.1f} s, peak {trial.peak_bytes / 1e9:.2f} GB; {trial.agreement}")
    return trial


def finish(result: str, shape: Shape, *, write: bool) -> None:
    print(result)
    if write:
        told = f"Written by `python -m benchmarks --write` (`make bench`); the models are {shape.name}."
        RESULTS.write_text(f"# Alloy beside mergekit\n\n{told}\n\n{result}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
