"""A diagnosis of a sample, and of models on the Hub."""

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from merging.diagnostics.sampling import choose_entries
from merging.engine import Options
from merging.hub import HubRepo, open_model
from merging.recipe import ModelRef, all_models
from tests.merging.diagnostics.diagnosed import made, noise, run
from tests.merging.hubs import ANYONE
from tests.merging.models import fine_tunes, opened, recipe_of


class Counting:
    """A source that counts the bytes that are read of it."""

    def __init__(self, source):
        self.source, self.read_bytes = source, 0

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read_into(self, file, start, into):
        self.read_bytes += len(into)
        self.source.read_into(file, start, into)


def test_a_sample_reads_no_more_than_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr("merging.diagnostics.diagnosis.SAMPLE_BYTES", 400_000)
    base = noise({f"model.layers.{i}.mlp.up_proj.weight": (400, 300) for i in range(2)} | {"model.norm.weight": (300,)},
                 dtype=torch.bfloat16)  # fmt: skip
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001))
    recipe = recipe_of("ties", paths, path, weight=1.0, density=0.3)
    whole = run(recipe)
    counted: dict[Any, Any] = {ref: replace(c, source=Counting(c.source)) for ref, c in opened(recipe).items()}
    found = run(recipe, models=counted, sample=True)
    read = [c.source.read_bytes for c in counted.values()]
    assert max(read) <= 400_000 and sum(read) == found.read_bytes > 800_000
    assert found.is_sample and 0.5 < found.looked_share < 0.9
    assert found == run(recipe, sample=True) == run(recipe, Options(threads=1), sample=True)
    assert found.tensor("model.norm.weight").looked == 300  # small ones are read whole
    assert found.whole.entries == whole.whole.entries
    for mine, right in zip(found.whole.models, whole.whole.models, strict=True):
        assert mine.size == pytest.approx(right.size, rel=0.02)
        assert mine.energy == pytest.approx(right.energy, rel=0.05)
    assert found.whole.merged == pytest.approx(whole.whole.merged, rel=0.02)


def test_a_sample_of_small_models_is_all_of_them(family):
    path, paths, _ = family
    recipe = recipe_of("ties", paths, path, weight=1.0)
    whole, sample = run(recipe), run(recipe, sample=True)
    assert replace(sample, is_sample=False) == whole and sample.looked_share == 1


def test_samples_lie_inside_and_apart():
    for shape, wanted in [((1000, 64), 9000), ((1_000_000,), 70_000), ((17,), 16), ((5, 7), 6), ((70_001, 3), 140_000)]:
        sample = choose_entries(shape, wanted)
        ends = [0, *(place for stretch in sample.stretches for place in stretch), math.prod(shape)]
        assert ends == sorted(ends) and sample.count == math.prod(sample.shape) <= wanted
    assert choose_entries((4, 5), 20).shape == (4, 5) and choose_entries((), 1).shape == ()


def test_models_on_the_hub_give_the_same_numbers(tmp_path, server, monkeypatch):
    shapes = {f"model.layers.{i}.mlp.up_proj.weight": (700, 1000) for i in range(2)} | {"model.norm.weight": (9,)}
    base = noise(shapes, dtype=torch.bfloat16)
    path, paths = made(tmp_path, base, fine_tunes(base, 2, by=0.001), shards=2)
    ids = {folder: f"ada/{folder.name}-diagnosed" for folder in (path, *paths)}
    for folder, repo in ids.items():
        server.store.create_repo(repo)
        server.store.commit(repo, {file.name: file.read_bytes() for file in folder.iterdir()})
    local = recipe_of("ties", paths, path, weight=1.0, density=0.3)
    remote = replace(
        local, base=ModelRef(ids[path]),
        models=tuple(replace(one, model=ModelRef(ids[p])) for one, p in zip(local.models, paths, strict=True)),
    )  # fmt: skip
    monkeypatch.setattr("merging.diagnostics.diagnosis.SAMPLE_BYTES", 300_000)
    for options, sample in ((Options(), False), (Options(memory_bytes=45_000_000), False), (Options(), True)):
        opened_there = {ref: open_model(ref, ANYONE) for ref in all_models(remote)}
        headers = {ref: received(model) for ref, model in opened_there.items()}
        there, here = run(remote, options, opened_there, sample=sample), run(local, options, sample=sample)
        assert replace(there, reference=here.reference, models=here.models) == here
        assert there.models == tuple(ids[p] for p in paths)
        for ref, model in opened_there.items():
            assert 0 < received(model) - headers[ref] <= (300_000 if sample else 12_000_000)
            model.source.close()


def received(model):
    return cast(HubRepo, model.source).received_bytes
