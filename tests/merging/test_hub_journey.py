"""From the Hub to the Hub: what is merged out of byte ranges is what is merged out of folders, and can be published."""

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from merging.card import read_front_matter, with_repo_id
from merging.checkpoint import Checkpoint, open_checkpoint
from merging.compatibility import check
from merging.engine import merge
from merging.hub import Hub, HubRepo, Patience, open_models, publish
from merging.recipe import Input, ModelRef, Recipe, all_models
from space.localhub import Fault, LocalHub
from tests.hub_fixture import ADA_TOKEN
from tests.merging.hubs import ADA, QUICK, always

MODELS = Path(__file__).parents[2] / "space" / "demo" / "models"
NAMES = ["alloy/pocket-base", "alloy/pocket-reverse", "alloy/pocket-add"]


def run(hub: Hub | None, paths: list[str], out: Path) -> Path:
    base, *tuned = (ModelRef(p) for p in paths)
    recipe = Recipe("task_arithmetic", tuple(Input(m, {"weight": 0.8}) for m in tuned), base)
    opened = open_models(all_models(recipe), hub)
    found = check(recipe, opened, out=out)
    assert not found.blocked
    list(merge(recipe, opened, out, findings=found.findings))
    for checkpoint in opened.values():
        checkpoint.source.close()
    return out


def tensors(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.glob("*.safetensors")))


@pytest.fixture
def zoo(server: LocalHub) -> LocalHub:
    server.store.import_folder(MODELS)
    server.requests.clear()
    return server


def test_a_merge_from_the_hub_has_the_bits_of_one_from_folders(zoo: LocalHub, tmp_path: Path):
    """Also when every tenth answer with bytes is broken."""
    chance = random.Random(5)
    kinds = [Fault(status=503), Fault(drop=True, reset=True), Fault(cut_after=30_000), Fault(ignore_range=True)]
    zoo.fault = lambda request: (
        chance.choice(kinds) if "/api/" not in request.url.path and chance.random() < 0.1 else None
    )
    here = run(None, [str(MODELS / name) for name in NAMES], tmp_path / "here")
    patient = Hub(False, QUICK.__class__(attempts=12, first_pause=0.01, longest_pause=0.05))
    there = run(patient, NAMES, tmp_path / "there")
    assert tensors(here) == tensors(there)


def test_a_published_merge_is_a_model_like_any_other(zoo: LocalHub, tmp_path: Path, repo_id: str):
    out = run(ADA, NAMES, tmp_path / "out")
    card = out / "README.md"
    card.write_text(with_repo_id(card.read_text(), repo_id, license="apache-2.0"))
    delivery = ADA.deliver(repo_id, private=True, message="Merge")
    list(publish(delivery, out, tmp_path / "journal"))
    assert delivery.url.endswith(repo_id)
    again = ADA.open(ModelRef(repo_id))
    assert open_checkpoint(again).tensors.keys() == open_checkpoint(ADA.open(ModelRef(NAMES[0]))).tensors.keys()
    metadata = read_front_matter(again.read("README.md", 0, again.sizes()["README.md"]).decode())
    assert metadata["base_model"] == NAMES and metadata["license"] == "apache-2.0"
    for name in NAMES:
        assert zoo.store.revision(name).sha in (out / "merge_recipe.yaml").read_text()
    assert not any(ADA_TOKEN.encode() in p.read_bytes() for p in out.iterdir())


def unreachable(zoo: LocalHub, path: str) -> dict[ModelRef, Checkpoint]:
    """The models, opened by a patient caller just before every read of this begins to fail."""
    opened = open_models([ModelRef(name) for name in NAMES], Hub(False, Patience(attempts=20, first_pause=5)))
    for checkpoint in opened.values():
        repo = cast(HubRepo, checkpoint.source)
        repo.ahead.clear()
        repo.addresses.clear()
    zoo.fault = always(Fault(status=503), path=path)
    return opened


def of_all(opened: Iterable[ModelRef]) -> Recipe:
    base, *tuned = opened
    return Recipe("task_arithmetic", tuple(Input(m, {"weight": 1.0}) for m in tuned), base)


@pytest.mark.parametrize("path", ["tokenizer.json", "README.md"])
def test_leaving_does_not_wait_for_a_hub_that_is_away(zoo: LocalHub, tmp_path: Path, path: str):
    opened = unreachable(zoo, path)
    steps = merge(of_all(opened), opened, tmp_path / "out")
    next(steps)
    began = time.monotonic()
    steps.close()
    assert time.monotonic() - began < 2
    assert not list(tmp_path.iterdir())
