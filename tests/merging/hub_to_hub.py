"""A merge from Hub to Hub with faults on every kind of request, until it is published: what the sweeps share."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

from huggingface_hub import constants

from merging.checkpoint import Checkpoint
from merging.engine import Options, merge
from merging.hub import Delivery, Hub, HubRepo, open_models
from merging.perseverance import persevere
from merging.progress import Progress
from merging.recipe import Input, ModelRef, Recipe
from space.localhub import LocalHub
from tests.hub_fixture import ADA_TOKEN
from tests.merging.faults import STUBBORN, Everywhere

PATIENT = Hub(ADA_TOKEN, STUBBORN.patience)
SHARDED = Options(memory_bytes=32_000_000, threads=2, shard_bytes=400_000)


def merged_into(hub: LocalHub, names: list[str], place: Path, repo_id: str, seed: int) -> tuple[list[str], float]:
    """Publish the sum of some models' changes under faults; which faults there were, and how often bytes came in."""
    base, *tuned = (ModelRef(name) for name in names)
    recipe = Recipe("task_arithmetic", tuple(Input(one, {"weight": 0.6}) for one in tuned), base)
    opened: list[dict[ModelRef, Checkpoint]] = []
    deliveries: list[Delivery] = []

    def attempt() -> Generator[Progress, None, None]:
        models = open_models([base, *tuned], PATIENT)
        opened.append(models)
        deliveries.append(PATIENT.deliver(repo_id, private=True, message="Merge", keeps_files=False))
        try:
            yield from merge(recipe, models, place, SHARDED, delivery=deliveries[-1])
        finally:
            for one in models.values():
                one.source.close()

    def attempts() -> Iterator[Generator[Progress, None, None]]:
        while True:
            yield attempt()

    hub.fault = faults = Everywhere(seed)
    try:
        for _ in persevere(attempts(), pauses=(0.01,), outage=120):
            pass
    finally:
        hub.fault = None
    assert deliveries[-1].url == f"{constants.ENDPOINT}/{repo_id}" and not list(place.parent.glob(f".{place.name}*"))
    stored = sum(c.source.sizes()[s] for c in opened[-1].values() for s in c.shards)
    taken = sum(cast(HubRepo, c.source).received_bytes for models in opened for c in models.values())
    return faults.made, taken / stored
