"""Many merges out of byte ranges with faults on the way, for `make soak`; a sample of them is in `make test`."""

import random
from pathlib import Path

import pytest

from merging.engine import Options
from merging.errors import MergeError
from space.localhub import LocalHub
from tests.merging.faults import STUBBORN, AtRandom, OneBit
from tests.merging.test_streams import (  # noqa: F401
    SMALL,
    folders,
    hub,
    merged,
    opened,
    published_in_spite_of_faults,
    received,
    right,
    small_requests,
)

METHODS = ["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties"]


@pytest.mark.parametrize("seed", range(1000, 1120))
def test_faults_on_every_fifth_request(hub: LocalHub, right, small_requests, tmp_path: Path, seed: int):  # noqa: F811
    chance, method = random.Random(seed), METHODS[seed % len(METHODS)]
    options = Options(memory_bytes=chance.randrange(32_000_000, 80_000_000), threads=chance.randrange(1, 5))
    models = opened(STUBBORN)
    hub.fault = AtRandom(seed)
    assert merged(models, tmp_path / "out", options, method) == right(method)
    taken, stored = received(models)
    assert taken <= (1.25 if method in ("linear", "task_arithmetic") else 4) * stored


@pytest.mark.parametrize("seed", range(1000, 1020))
def test_from_hub_to_hub(hub: LocalHub, folders, small_requests, tmp_path, repo_id, seed, monkeypatch):  # noqa: F811
    published_in_spite_of_faults(hub, folders, tmp_path, repo_id, seed, monkeypatch)


@pytest.mark.parametrize("seed", range(1000, 1120))
def test_a_flipped_bit_stops_the_merge(hub: LocalHub, small_requests, tmp_path: Path, seed: int):  # noqa: F811
    models = opened()
    hub.fault = fault = OneBit(seed, among=100)
    with pytest.raises(MergeError, match=r"did not arrive as the Hub keeps it|reaches inf|NaN or infinite"):
        merged(models, tmp_path / "out", SMALL, METHODS[seed % len(METHODS)])
    assert fault.made and not list(tmp_path.iterdir())
