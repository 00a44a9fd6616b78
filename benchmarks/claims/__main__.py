"""Try the papers' claims on a zoo of our own: `python -m benchmarks.claims [--seeds N] [--write]`."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.claims import arithmetic, basins, interference, soups
from benchmarks.claims.claim import CLAIMS, Figures
from benchmarks.claims.lab import open_lab
from benchmarks.claims.llama import parameters
from benchmarks.claims.report import report
from benchmarks.claims.zoo import CACHE, Settings, core_seconds, ensure_zoo
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parents[1] / "CLAIMS.md"
FILES = (soups, arithmetic, interference, basins)  # importing them registers their claims


@dataclass(frozen=True, slots=True)
class Seed:
    """What came out of one seed."""

    figures: Mapping[str, Figures]
    models: int
    training: float  # core seconds
    measuring: float


def main(arguments: Sequence[str] | None = None) -> int:
    given = make_parser().parse_args(arguments)
    machine = describe_machine()
    run = partial(try_claims, cache=given.cache, names=given.only or list(CLAIMS))
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as workers:
        seeds = []
        for seed, done in enumerate(workers.map(run, range(given.seeds))):
            print(
                f"Seed {seed}: trained in {done.training:.0f} core-seconds, measured in {done.measuring:.0f}.",
                flush=True,
            )
            seeds.append(done)
    found = {name: [seed.figures[name] for seed in seeds] for name in seeds[0].figures}
    text = report(found, CLAIMS, facts_of(seeds, machine), parameters=parameters(), models=seeds[0].models - 2)
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


def try_claims(seed: int, *, cache: Path, names: Sequence[str]) -> Seed:
    """Train the zoo of a seed, or find it, and measure each claim there."""
    torch.set_num_threads(1)
    settings = Settings()
    folder = ensure_zoo(cache, settings, seed)
    started = time.process_time()
    lab = open_lab(folder, settings)
    with closing(lab.live):
        figures = {name: CLAIMS[name].measure(lab) for name in names}
    return Seed(figures, lab.count, core_seconds(folder), time.process_time() - started)


def facts_of(seeds: Sequence[Seed], machine: str) -> Mapping[str, str]:
    training, measuring = sum(s.training for s in seeds), sum(s.measuring for s in seeds)
    return {
        "Machine": machine,
        "Seeds": f"{len(seeds)}, each with {seeds[0].models} models.",
        "Cost": f"{training:.0f} core-seconds of training, {measuring:.0f} of merging and measuring.",
    }


if __name__ == "__main__":
    sys.exit(main())
