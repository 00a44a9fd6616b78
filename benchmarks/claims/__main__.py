"""Try the papers' claims on a zoo of our own: `python -m benchmarks.claims [--seeds N] [--write]`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.claims.claim import CLAIMS
from benchmarks.claims.llama import parameters
from benchmarks.claims.report import report
from benchmarks.claims.trial import Trial, try_claims
from benchmarks.claims.zoo import CACHE
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parents[1] / "CLAIMS.md"


def main(arguments: Sequence[str] | None = None) -> int:
    given = make_parser().parse_args(arguments)
    machine = describe_machine()
    run = partial(try_claims, cache=given.cache, names=given.only or list(CLAIMS))
    trials = []
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as workers:
        for seed, one in enumerate(workers.map(run, range(given.seeds))):
            print(
                f"Seed {seed}: trained in {one.training:.0f} core-seconds, measured in {one.measuring:.0f}.", flush=True
            )
            trials.append(one)
    found = {name: [one.figures[name] for one in trials] for name in trials[0].figures}
    text = report(found, CLAIMS, facts_of(trials, machine), parameters=parameters(), models=trials[0].models - 2)
    print(text)
    if given.write:
        RESULTS.write_text(text)
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="how many zoos (default: 5)")
    add("--only", nargs="+", choices=CLAIMS, metavar="CLAIM", help=f"some of: {', '.join(CLAIMS)}")
    add("--processes", type=int, default=2, help="seeds at a time, of one thread each (default: 2)")
    add("--cache", type=Path, default=CACHE, help=f"where the models are kept (default: {CACHE})")
    add("--write", action="store_true", help=f"replace benchmarks/{RESULTS.name} with the result")
    return parser


def facts_of(trials: Sequence[Trial], machine: str) -> Mapping[str, str]:
    training, measuring = sum(one.training for one in trials), sum(one.measuring for one in trials)
    return {
        "Machine": machine,
        "Seeds": f"{len(trials)}, each with {trials[0].models} models.",
        "Cost": f"{training:.0f} core-seconds of training, {measuring:.0f} of merging and measuring.",
    }


if __name__ == "__main__":
    sys.exit(main())
