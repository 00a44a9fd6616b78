"""Whole merges out of byte ranges: the bits of a merge of folders, in few requests, whatever goes wrong on the way."""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from starlette.requests import Request

from merging.checkpoint import Checkpoint
from merging.compatibility import check
from merging.engine import Options, merge
from merging.errors import Kept, MergeError
from merging.hub import Hub, HubRepo, open_model, open_models
from merging.patience import Patience
from merging.reading import Range
from merging.recipe import Input, ModelRef, Recipe
from merging.waiting import Stopped
from space.localhub import Fault, LocalHub
from tests.merging.faults import STUBBORN, AtRandom, OneBit
from tests.merging.hub_to_hub import SHARDED, merged_into
from tests.merging.hubs import ANYONE, always, times
from tests.merging.models import fine_tunes, write_model

SMALL = Options(memory_bytes=32_000_000, threads=2)
NAMES = ["streams/base", "streams/one", "streams/two"]
EXPERTS = 40


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two fine-tunes of 10 MB each, of many small tensors and a large one, cut into shards differently."""
    root, g = tmp_path_factory.mktemp("models"), torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{n // 8}.experts.{n}.{m}": (96, 128) for n in range(EXPERTS) for m in ("down", "up")
    }
    shapes |= {"model.embed_tokens.weight": (5000, 600), "model.norm.weight": (128,)}
    base = {name: torch.randn(shape, generator=g).to(torch.bfloat16) for name, shape in sorted(shapes.items())}
    models = [base, *fine_tunes(base, 2)]
    return [write_model(root / str(n), m, shards=s) for n, (m, s) in enumerate(zip(models, (1, 3, 2), strict=True))]


@pytest.fixture
def hub(server: LocalHub, folders: list[Path]) -> LocalHub:
    for name, folder in zip(NAMES, folders, strict=True):
        if not server.store.find(name):
            server.store.create_repo(name)
            server.store.commit(name, {p.name: p.read_bytes() for p in folder.iterdir()})
    server.requests.clear()
    return server


def recipe(paths: list[str], method: str) -> Recipe:
    base, *tuned = (ModelRef(p) for p in paths)
    return Recipe(method, tuple(Input(m, {"weight": 0.6}) for m in tuned), base)


def opened(hub: Hub = ANYONE) -> dict[ModelRef, Checkpoint]:
    return open_models([ModelRef(name) for name in NAMES], hub)


def merged(models: dict[ModelRef, Checkpoint], out: Path, options: Options, method: str) -> bytes:
    try:
        list(merge(recipe([m.path for m in models], method), models, out, options))
    finally:
        for checkpoint in models.values():
            checkpoint.source.close()
    return b"".join(p.read_bytes() for p in sorted(out.glob("*.safetensors")))


@pytest.fixture(scope="module")
def right(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The bits of the merge of the folders."""
    found: dict[str, bytes] = {}

    def of(method: str) -> bytes:
        if method not in found:
            models = {ModelRef(str(f)): open_model(ModelRef(str(f)), None) for f in folders}
            found[method] = merged(models, tmp_path_factory.mktemp("right") / "out", Options(threads=2), method)
        return found[method]

    return of


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
@pytest.mark.parametrize("memory", [32_000_000, 61_000_000, 1_000_000_000])
def test_the_bits_are_those_of_folders(hub, right, tmp_path, method: str, memory: int):
    options = Options(memory_bytes=memory, threads=3)
    assert merged(opened(), tmp_path / "out", options, method) == right(method)
    told = [shard for model in report_of(tmp_path / "out")["models"] for shard in model["shards"]]
    assert len(told) == 6 and {shard["verified"] for shard in told} == {"sha256"}


def report_of(out: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((out / "merge_report.json").read_text()))


def test_requests_are_few(hub: LocalHub, tmp_path: Path):
    """Each shard is resolved once, and each is small enough to come in one piece."""
    models = opened()
    list(merge(recipe(NAMES, "task_arithmetic"), models, tmp_path / "out"))
    shards = [r for r in hub.requests if r.path.endswith(".safetensors")]
    contents = [r for r in hub.requests if "/cdn/" in r.path]
    assert len(shards) == 6
    assert len(contents) == 12  # the header of each, then the rest of it
    assert max(cast(HubRepo, c.source).received_bytes for c in models.values()) < 1.1 * 11_000_000
    for c in models.values():
        c.source.close()


def test_what_is_not_read_whole_is_not_called_verified(hub: LocalHub):
    source = opened()[ModelRef(NAMES[0])].source
    size = source.sizes()["model.safetensors"]
    source.expect([Range("model.safetensors", size - 1000, size)], 10**6)
    assert len(source.read("model.safetensors", size - 1000, size)) == 1000
    assert source.verified() == {"model.safetensors": "not read whole"}


def test_what_was_verified_before_an_interruption_is_told_after_it(hub: LocalHub, small_requests, tmp_path: Path):
    """And what was read in part by either run, so that neither has its checksum, is told too."""
    g = torch.Generator().manual_seed(1)
    base = {f"w{n}": torch.randn(500, 500, generator=g) for n in range(12)}
    names = ["streams/whole", "streams/thirds"]
    for name, tensors, shards in zip(names, (base, *fine_tunes(base, 1)), (1, 3), strict=True):
        folder = write_model(tmp_path / name, tensors, shards=shards, in_order=True)
        hub.store.create_repo(name)
        hub.store.commit(name, {p.name: p for p in folder.iterdir()})
    out, options = tmp_path / "out", replace(SMALL, shard_bytes=1_000_100)

    def verified() -> list[str]:
        lines = (line for path in tmp_path.glob(".out.*.journal") for line in path.read_text().splitlines())
        return [entry["file"] for entry in map(json.loads, lines) if entry["kind"] == "verified"]

    def models() -> dict[ModelRef, Checkpoint]:
        return open_models([ModelRef(name) for name in names], ANYONE)

    hub.fault = lambda request: Fault(status=503) if "/cdn/" in request.url.path and verified() else None
    with pytest.raises(Kept, match="kept: the same merge goes on from there"):
        merged(models(), out, options, "task_arithmetic")
    before = verified()
    assert before
    hub.fault = None
    merged(models(), out, options, "task_arithmetic")
    one, thirds = [{s["file"]: s["verified"] for s in model["shards"]} for model in report_of(out)["models"]]
    assert list(one.values()) == ["read by several runs, none of which had the checksum of it all"]
    assert len(thirds) == 3 and {thirds[file] for file in before} == {"sha256"}


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 40 for each model, so that there is something to break."""
    monkeypatch.setattr("merging.reading.STRETCH", 2**18)


@pytest.mark.parametrize("seed", range(6))
def test_faults_on_every_fifth_request(hub: LocalHub, right, small_requests, tmp_path: Path, seed: int):
    models = opened(STUBBORN)
    hub.fault = faults = AtRandom(seed)
    assert merged(models, tmp_path / "out", SMALL, "task_arithmetic") == right("task_arithmetic")
    taken, stored = received(models)
    assert len(faults.made) >= 10
    assert taken <= 1.25 * stored


def received(models: dict[ModelRef, Checkpoint]) -> tuple[int, int]:
    """The bytes that came from the Hub, and those that the shards have there."""
    taken = sum(cast(HubRepo, c.source).received_bytes for c in models.values())
    return taken, sum(c.source.sizes()[s] for c in models.values() for s in c.shards)


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_stops_the_merge(hub: LocalHub, small_requests, tmp_path: Path, seed: int):
    """A weight that it makes huge may be noticed before the shard has come to its end."""
    models = opened()
    hub.fault = fault = OneBit(seed, among=60)
    with pytest.raises(MergeError, match=r"did not arrive as the Hub keeps it|reaches inf|NaN or infinite"):
        merged(models, tmp_path / "out", SMALL, "task_arithmetic")
    assert fault.made and not list(tmp_path.iterdir())


def test_what_arrived_broken_is_not_gone_on_with(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where the merge stops for something else, which would pass: what is kept then was made of broken bytes."""
    models, contents = opened(Hub(patience=Patience(attempts=2, first_pause=0.01))), itertools.count()
    known, right = threading.Event(), HubRepo.checked

    def checked(repo: HubRepo) -> Collection[str]:
        if known.is_set() and repo.repo_id == NAMES[1]:
            raise MergeError("It did not arrive as the Hub keeps it.")
        return right(repo)

    def away(request: Request) -> Fault | None:
        if "/cdn/" in request.url.path and next(contents) > 12:
            known.set()
            return Fault(status=503)
        return None

    monkeypatch.setattr(HubRepo, "checked", checked)
    hub.fault = away
    small = replace(SMALL, shard_bytes=1_000_000)
    with pytest.raises(MergeError, match="did not arrive as the Hub keeps it") as found:
        merged(models, tmp_path / "out", small, "task_arithmetic")
    assert not isinstance(found.value, Kept) and known.is_set() and not list(tmp_path.iterdir())


def test_a_small_file_that_arrives_broken_is_read_again(hub: LocalHub, folders: list[Path]):
    hub.fault = times(1, Fault(flip_bit=77), path="config.json")
    found = open_model(ModelRef(NAMES[0]), ANYONE)
    assert found.config == json.loads((folders[0] / "config.json").read_text())
    hub.fault = always(Fault(flip_bit=77), path="config.json")
    with pytest.raises(MergeError, match="its checksum is another one"):
        open_model(ModelRef(NAMES[0]), ANYONE)


@pytest.mark.parametrize("seed", range(3))
def test_from_hub_to_hub_with_faults_on_every_fifth_request(
    hub: LocalHub, folders: list[Path], small_requests, tmp_path: Path, repo_id: str, seed: int, monkeypatch
):  # fmt: skip
    """More seeds are in `make soak`."""
    published_in_spite_of_faults(hub, folders, tmp_path, repo_id, seed, monkeypatch)


def published_in_spite_of_faults(
    hub: LocalHub, folders: list[Path], place: Path, repo_id: str, seed: int, patch: pytest.MonkeyPatch
) -> None:
    sleep = time.sleep
    patch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))  # the client's own pauses
    made, share = merged_into(hub, NAMES, place / "merge", repo_id, seed)
    models = {ModelRef(str(f)): open_model(ModelRef(str(f)), None) for f in folders}
    merged(models, place / "right", SHARDED, "task_arithmetic")
    right = {p.name: p.read_bytes() for p in (place / "right").glob("*.safetensors")}
    there = [name for name in hub.store.files(repo_id) if name.endswith(".safetensors")]
    assert {name: hub.store.read(repo_id, name).read_bytes() for name in there} == right and len(right) > 4
    assert len(list(hub.store.history(repo_id))) == 2, "the one that it starts with, and one more"
    assert len(made) > 10 and share <= 1.25
    sent = [r for r in hub.requests if r.method == "PUT" and r.path.startswith("/lfs/") and r.status == 200]
    assert len(sent) <= len(right), "nothing is sent twice"


AWAY = [Fault(status=503), Fault(delay=60), Fault(delay=60, delay_after=70_000), Fault(drop=True)]


@pytest.mark.parametrize("fault", AWAY, ids=lambda f: repr(f)[:40])
def test_a_merge_that_waits_for_contents_is_stopped_at_once(hub: LocalHub, tmp_path: Path, fault: Fault):
    models = opened(Hub())
    hub.fault = always(fault, path="/cdn/")
    steps = merge(recipe(NAMES, "task_arithmetic"), models, tmp_path / "out")
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        next(steps)
    began = time.monotonic()
    steps.close()
    assert time.monotonic() - began < 2
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cache(hub: LocalHub) -> Iterator[None]:
    """The first model, fetched by the Hub's own client, but for one of the small files."""
    snapshot_download(NAMES[0], token=False, ignore_patterns=["README.md"])
    hub.requests.clear()
    yield
    shutil.rmtree(constants.HF_HUB_CACHE)


def test_what_the_cache_holds_is_read_in_place(hub: LocalHub, cache: None, right, tmp_path: Path):
    found = merged(opened(replace(ANYONE, cached=True)), tmp_path / "out", SMALL, "task_arithmetic")
    assert found == right("task_arithmetic")
    assert not [r for r in hub.requests if f"{NAMES[0]}/resolve" in r.path or f"/cdn/{NAMES[0]}" in r.path]
    base, *others = report_of(tmp_path / "out")["models"]
    assert {s["verified"] for s in base["shards"]} == {"read from the cache of this machine"}
    assert {s["verified"] for m in others for s in m["shards"]} == {"sha256"}


def test_the_cache_is_read_only_when_one_asks_for_it(hub: LocalHub, cache: None):
    opened()
    assert [r for r in hub.requests if f"/cdn/{NAMES[0]}" in r.path]


def test_what_is_cut_short_in_the_cache_is_streamed(hub: LocalHub, cache: None, folders: list[Path]):
    here = next(Path(constants.HF_HUB_CACHE).glob("*base/snapshots/*/model.safetensors")).resolve()
    here.write_bytes(here.read_bytes()[:1_000_000])
    source = opened(replace(ANYONE, cached=True))[ModelRef(NAMES[0])].source
    assert source.read("model.safetensors", 2_000_000, 2_000_100) == (
        folders[0] / "model.safetensors"
    ).read_bytes()[2_000_000:2_000_100]  # fmt: skip


class Enough(Exception):
    """What a caller raises who does not want to wait any longer."""


@pytest.mark.parametrize("path", ["/cdn/", "/api/models/"])
@pytest.mark.parametrize("fault", AWAY[:2], ids=lambda f: repr(f)[:40])
def test_opening_is_stopped_at_once(hub: LocalHub, fault: Fault, path: str):
    hub.fault = always(fault, path=path)
    began = time.monotonic()

    def tick() -> None:
        if time.monotonic() - began > 0.3:
            raise Enough

    with pytest.raises(Enough):
        open_models([ModelRef(name) for name in NAMES], Hub(), tick=tick)
    assert time.monotonic() - began < 2


def test_a_check_is_stopped_at_once(hub: LocalHub):
    """By whoever stops one of its models; what it reads in threads ends as well."""
    models = opened(Hub())
    for checkpoint in models.values():
        cast(HubRepo, checkpoint.source).ahead.clear()
    hub.fault = always(Fault(delay=60), path="/cdn/")
    first = next(iter(models.values())).source
    threading.Timer(0.3, first.stop).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        check(recipe(NAMES, "task_arithmetic"), models)
    assert time.monotonic() - began < 2


def test_a_caller_who_stops_is_not_kept_by_the_hub(hub: LocalHub):
    mine = Hub()
    hub.fault = always(Fault(delay=60), path="/api/")
    threading.Timer(0.3, mine.stop).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        mine.open(ModelRef(NAMES[0]))
    assert time.monotonic() - began < 2


@pytest.fixture(autouse=True)
def nothing_left_running(hub: LocalHub) -> Iterator[None]:
    yield
    hub.fault = None
