"""The check on the demo's models: trained ones, whose relations are known."""

import time
from pathlib import Path

import pytest

from merging.compatibility import Check, check
from merging.hub import open_models
from merging.recipe import Input, ModelRef, Recipe, all_models
from space.localhub import LocalHub
from tests.merging.hubs import ANYONE

MODELS = Path(__file__).parents[2] / "space" / "demo" / "models"
TUNED = ["pocket-add", "pocket-double", "pocket-pirate", "pocket-reverse", "pocket-vowels", "pocket-reverse-add"]


def path(name: str) -> str:
    return str(MODELS / "alloy" / name)


def ids(found: Check, level: str) -> list[str]:
    return [f.id for f in found.findings if f.level == level]


def recipe(*models: str, base: str | None = None) -> Recipe:
    inputs = tuple(Input(ModelRef(m), {"weight": 0.5}) for m in models)
    return Recipe("task_arithmetic" if base else "linear", inputs, ModelRef(base) if base else None)


def check_folders(*models: str, base: str | None = None) -> Check:
    asked = recipe(*(path(m) for m in models), base=path(base) if base else None)
    return check(asked, open_models(all_models(asked), None))


@pytest.mark.parametrize("name", TUNED)
def test_every_fine_tune_passes(name: str):
    found = check_folders(name, base="pocket-base")
    assert not found.blocked and "base" in ids(found, "ok") and "lineage" in ids(found, "ok")


def test_all_fine_tunes_together_pass_without_a_base():
    assert not check_folders(*TUNED).blocked


@pytest.mark.parametrize("base", ["pocket-base", None])
def test_the_stranger_is_found_by_its_weights_alone(base: str | None):
    found = check_folders("pocket-reverse", "pocket-stranger", base=base)
    assert ids(found, "block") == ["different-base"]
    assert {"config", "tokenizer", "tensors"} <= set(ids(found, "ok"))


def test_another_numbering_of_the_tokens_is_found():
    found = check_folders("pocket-renumbered", base="pocket-base")
    assert ids(found, "block") == ["different-tokenizer"]
    finding = found.findings[0]
    assert not finding.computable and "'<pad>' is 0 and" in finding.values[1]


def test_the_check_on_the_hub_is_quick_and_reads_little(server: LocalHub):
    server.store.import_folder(MODELS)
    asked = recipe("alloy/pocket-reverse", "alloy/pocket-add", base="alloy/pocket-base")
    began = time.monotonic()
    opened = open_models(all_models(asked), ANYONE)
    found = check(asked, opened)
    assert time.monotonic() - began < 5
    assert not found.blocked
    assert found.revisions == {
        m: server.store.revision(m).sha for m in ("alloy/pocket-base", "alloy/pocket-reverse", "alloy/pocket-add")
    }
    assert len(server.requests) <= 20 * len(opened)
