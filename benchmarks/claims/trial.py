"""One seed from beginning to end: its zoo, and what each claim comes to there."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.claims import arithmetic, basins, interference, soups
from benchmarks.claims.claim import CLAIMS, Figures
from benchmarks.claims.lab import open_lab
from benchmarks.claims.zoo import Settings, core_seconds, ensure_zoo

FILES = (soups, arithmetic, interference, basins)  # importing them registers their claims


@dataclass(frozen=True, slots=True)
class Trial:
    """What came out of one seed."""

    figures: Mapping[str, Figures]  # by the claim's name
    models: int
    training: float  # core-seconds, when the models were made
    measuring: float


def try_claims(seed: int, *, cache: Path, names: Sequence[str]) -> Trial:
    """Train the zoo of a seed, or find it, and measure each claim there."""
    torch.set_num_threads(1)
    settings = Settings()
    folder = ensure_zoo(cache, settings, seed)
    started = time.process_time()
    lab = open_lab(folder, settings)
    with closing(lab.live):
        figures = {name: CLAIMS[name].measure(lab) for name in names}
    return Trial(figures, lab.count, core_seconds(folder), time.process_time() - started)
