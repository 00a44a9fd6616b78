"""The engine: what it writes, what it refuses, nothing left behind when it fails."""

import errno
import hashlib
import json
import os
import shutil
import struct
import threading
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from merging import __version__
from merging.checkpoint import INDEX, MAX_JSON_BYTES, Checkpoint, Folder, open_checkpoint
from merging.engine import Options, merge
from merging.errors import MergeError
from merging.findings import block, ok, warn
from merging.methods import METHODS
from merging.recipe import all_models, parse_recipe
from tests.merging.kernels import REQUIRED, noise
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

SIZES = {
    "large": (3000, 401),
    "middle": (700, 600),
    "odd": (524_289,),
    "model.layers.0.small": (33,),
    "one": (1,),
    "none": (0, 3),
}


def run(recipe, out, options=None, **more):
    steps = list(merge(recipe, opened(recipe), out, options, **more))
    return steps, load_all(out)


def load_all(folder):
    return {n: t for f in sorted(folder.glob("*.safetensors")) for n, t in load_file(f).items()}


def digest(tensors):
    """Of names, types, shapes and bits."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name]
        found.update(f"{name} {t.dtype} {tuple(t.shape)}".encode() + t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A base and two fine-tunes, each stored whole and in two ways of sharding."""
    folder = tmp_path_factory.mktemp("family")
    base = {n: (noise(*s, seed=i) * 0.02).bfloat16() for i, (n, s) in enumerate(SIZES.items())}
    models = {"base": base} | {f"tune{i}": t for i, t in enumerate(fine_tunes(base, 2, by=0.001))}
    for name, tensors in models.items():
        for shards in (1, 2):
            write_model(folder / f"{name}-{shards}", tensors, {"num_hidden_layers": 1}, shards=shards)
    return folder


def recipe_for(family, method, **parameters):
    declared = METHODS[method]
    tunes = [family / f"tune{i}-1" for i in range(min(2, declared.max_models or 2))]
    given = {p.name: REQUIRED[p.name] for p in declared.params if p.default is None}
    density = {"density": 0.3} if declared.param("density") else {}
    base = family / "base-1" if declared.needs_base else None
    return recipe_of(method, tunes, base, **given | density | parameters)


def test_the_seed_matters_where_there_is_chance(family, tmp_path):
    found = [
        digest(run(recipe_for(family, "dare_ties", seed=s), tmp_path / str(i))[1]) for i, s in enumerate((0, 0, 1))
    ]
    assert found[0] == found[1] != found[2]


def test_progress_goes_from_nothing_to_all(family, tmp_path):
    steps, _ = run(recipe_for(family, "ties"), tmp_path / "out", Options(shard_bytes=10**6))
    assert [s.done_bytes for s in steps] == sorted(s.done_bytes for s in steps)
    assert steps[-1].done_bytes == steps[-1].total_bytes and steps[-1].tensors_done == steps[-1].tensors == len(SIZES)
    assert steps[-1].shard == steps[-1].shards == 4


def test_what_is_in_the_folder(family, tmp_path):
    donor = family / "donor"
    shutil.copytree(family / "base-1", donor)
    (donor / "tokenizer.json").write_text("{}")
    (donor / "modeling.py").write_text("")
    (donor / "additional_chat_templates").mkdir()
    (donor / "additional_chat_templates/tool.jinja").write_text("x")
    config = {"model_type": "llama", "torch_dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "x": 1}}
    (donor / "config.json").write_text(json.dumps(config))
    recipe = recipe_of("task_arithmetic", [family / "tune0-1"], donor, weight=0.5, out_dtype="float16", seed=3)
    findings = (ok("config", "Fine."), block("different-base", "No.", {"a": "x"}, why="", remedy=""))
    run(recipe, tmp_path / "out", Options(shard_bytes=2 * 10**6), findings=findings)
    out = tmp_path / "out"
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "README.md", "merge_recipe.yaml", "merge_report.json", "config.json", "tokenizer.json", INDEX,
        "additional_chat_templates/tool.jinja", *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2)),
    }  # fmt: skip
    assert not any(p.name.endswith(".partial") for p in tmp_path.iterdir())
    written = json.loads((out / "config.json").read_text())
    assert written == {"model_type": "llama", "torch_dtype": "float16", "text_config": {"dtype": "float16", "x": 1}}
    assert open_checkpoint(Folder(out)).tensors.keys() == SIZES.keys()
    assert parse_recipe((out / "merge_recipe.yaml").read_text()) == recipe

    report = json.loads((out / "merge_report.json").read_text())
    for shard in report["shards"]:
        content = (out / shard["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert report["alloy"] == __version__ and report["shard_bytes"] == 2 * 10**6
    assert report["method"]["name"] == "task_arithmetic" and report["seed"] == 3 and report["dtype"] == "float16"
    assert [(m["label"], m["role"], m["parameters"]) for m in report["models"]] == [
        ("donor", "base", {}), ("tune0-1", "merged", {"weight": 0.5}),
    ]  # fmt: skip
    assert report["allowed"] == ["different-base"] and [f["id"] for f in report["findings"]] == [
        "config",
        "different-base",
    ]
    large = next(t for t in report["tensors"] if t["name"] == "large")
    assert large["shape"] == [3000, 401] and large["dtype"] == "F16" and large["parameters"]["weight"] == [0.5]
    assert large["sources"] == ["donor", "tune0-1"]


def test_a_recipe_that_was_written_down_makes_the_same_again(family, tmp_path):
    recipe = recipe_for(family, "dare_ties", seed=9)
    first = digest(run(recipe, tmp_path / "first")[1])
    again = parse_recipe((tmp_path / "first/merge_recipe.yaml").read_text())
    assert digest(run(again, tmp_path / "second")[1]) == first


def test_where_folders_lie_is_not_told(family, tmp_path, monkeypatch):
    """But in the recipe, which runs again from anywhere."""
    write_model(tmp_path / "models/tune0-1", load_file(family / "tune0-1/model.safetensors"))
    monkeypatch.chdir(tmp_path)
    near, far = "models/tune0-1", str(family / "tune0-1")
    recipe = recipe_of("linear", [Path(near), Path(far), family / "tune1-1"], weight=0.5)
    said = warn("mixed-dtypes", f"{near} is not {far}.", {near: f"as {tmp_path / near}", far: ""}, why="", remedy="")
    run(recipe, tmp_path / "out", findings=(said,))
    card, text = (tmp_path / "out/README.md").read_text(), (tmp_path / "out/merge_report.json").read_text()
    assert not any(path in card + text for path in (str(tmp_path), str(family), near))
    report = json.loads(text)
    assert [m["label"] for m in report["models"]] == ["tune0-1", "tune0-1-2", "tune1-1"]
    found = report["findings"][0]
    assert found["title"] == "tune0-1 is not tune0-1-2." and found["models"] == ["tune0-1", "tune0-1-2"]
    assert found["values"] == ["as tune0-1", ""]
    told = [str(m) for m in all_models(parse_recipe(report["recipe"]))]
    assert told == ["./tune0-1", "./tune0-1-2", "./tune1-1"] and report["recipe"] in card
    monkeypatch.chdir(family)
    again = parse_recipe((tmp_path / "out/merge_recipe.yaml").read_text())
    assert digest(run(again, tmp_path / "again")[1]) == digest(load_all(tmp_path / "out"))


def test_a_card_that_is_too_large_is_none(family, tmp_path):
    tune = tmp_path / "tune"
    shutil.copytree(family / "tune0-1", tune)
    (tune / "README.md").touch()
    os.truncate(tune / "README.md", MAX_JSON_BYTES + 1)
    run(recipe_of("linear", [tune], weight=1.0), tmp_path / "out")
    assert "none stated" in (tmp_path / "out/README.md").read_text()


def test_small_files_are_read_before_the_weights(family, tmp_path):
    """A merge of an hour does not fail at its end for a file that cannot be read."""
    tune = tmp_path / "tune"
    shutil.copytree(family / "tune0-1", tune)
    (tune / "tokenizer.json").write_text("{}")
    recipe = recipe_of("linear", [tune], weight=1.0)
    steps = merge(recipe, opened(recipe), tmp_path / "out", Options(shard_bytes=10**6))
    next(steps)
    for file in ("tokenizer.json", "config.json"):
        (tune / file).unlink()
    list(steps)
    assert (tmp_path / "out/tokenizer.json").read_text() == "{}"


class Remote(Folder):
    """A folder that says it is a Hub repo."""

    repo_id, revision, label = "org/tune", "a" * 40, "org/tune"


def test_hub_models_are_written_down_with_their_commit(family, tmp_path):
    recipe = parse_recipe("{merge_method: linear, models: [{model: org/tune@main, parameters: {weight: 1}}]}")
    checkpoints = {ref: open_checkpoint(Remote(family / "tune0-2")) for ref in all_models(recipe)}
    list(merge(recipe, checkpoints, tmp_path / "out"))
    again = parse_recipe((tmp_path / "out/merge_recipe.yaml").read_text())
    assert [str(m) for m in all_models(again)] == [f"org/tune@{'a' * 40}"]
    assert digest(load_all(tmp_path / "out")) == digest(load_all(family / "tune0-1"))


# Buffers of whole numbers


WHOLE = {dtype: torch.tensor([1, 0, 1], dtype=dtype) for dtype in (torch.int64, torch.uint8, torch.int16, torch.bool)}


def with_buffers(folder, method, different=None):
    """A recipe for models that have whole numbers of several types; of one type they may be different."""
    declared = METHODS[method]
    floats = {"layers.0.w": noise(4, 5), "layers.0.v": noise(3)}
    buffers = {f"layers.0.{str(dtype).removeprefix('torch.')}": t for dtype, t in WHOLE.items()}
    buffers |= {"some": torch.tensor(7), "none": torch.zeros(0, 2, dtype=torch.int64)}
    models = []
    for i in range(min(2, declared.max_models or 2) + declared.needs_base):
        changed = {n: 1 - t for n, t in buffers.items() if n == different and i}
        models.append(write_model(folder / f"m{i}", floats | buffers | changed, {"num_hidden_layers": 1}))
    base = models.pop(0) if declared.needs_base else None
    given = {p.name: REQUIRED[p.name] for p in declared.params if p.default is None}
    return recipe_of(method, models, base, out_dtype="bfloat16", **given), buffers


@pytest.mark.parametrize("method", METHODS)
def test_whole_numbers_are_copied(tmp_path, method):
    recipe, buffers = with_buffers(tmp_path, method)
    _, found = run(recipe, tmp_path / "out")
    for name, tensor in buffers.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert found["layers.0.w"].dtype == torch.bfloat16


@pytest.mark.parametrize("method", [m for m in METHODS if m != "passthrough"])  # which has a single model
def test_whole_numbers_must_be_the_same(tmp_path, method):
    recipe, _ = with_buffers(tmp_path, method, different="layers.0.int16")
    with pytest.raises(MergeError, match=r"'layers.0.int16' holds whole numbers.*not the same in .*m0 and .*m1"):
        run(recipe, tmp_path / "out")
    nothing_left(tmp_path)


# Numbers that are not finite


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite(tmp_path, method, value):
    declared = METHODS[method]
    good = {"a": torch.ones(10), "layers.0.b": torch.ones(1), "w": noise(300_000).half()}
    bad = good | {"w": good["w"].clone()}
    bad["w"][[270_001, 290_000]] = value
    config, count = {"num_hidden_layers": 1}, min(2, declared.max_models or 2)
    models = [write_model(tmp_path / f"m{i}", bad if i == 0 else good, config) for i in range(count)]
    base = write_model(tmp_path / "base", good, config) if declared.needs_base else None
    given = {p.name: REQUIRED[p.name] for p in declared.params if p.default is None}
    recipe = recipe_of(method, models, base, **given, **({"density": 0.5} if declared.param("density") else {}))
    with pytest.raises(
        MergeError, match=r"'w' of .*m0 has 2 numbers that are NaN or infinite, the first at index 270,001"
    ):
        run(recipe, tmp_path / "out")
    nothing_left(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_a_bfloat16_number_that_is_not_finite_in_any_of_the_models(tmp_path, method):
    """What a step makes of it tells that it is there, or it is looked for."""
    declared = METHODS[method]
    count = min(3, declared.max_models or 3)
    config = {"num_hidden_layers": 1}
    rest = {"layers.0.b": torch.ones(3)}
    tensors = [rest | {"w": noise(2, 3000, seed=seed).bfloat16()} for seed in range(count + declared.takes_base)]
    given = {p.name: REQUIRED[p.name] for p in declared.params if p.default is None}
    for case, (bad, value) in enumerate(product(range(len(tensors)), (float("nan"), -float("inf")))):
        folder = tmp_path / str(case)
        folder.mkdir()
        broken = rest | {"w": tensors[bad]["w"].index_fill(1, torch.tensor([2999]), value)}
        models = [write_model(folder / f"m{i}", broken if i == bad else t, config) for i, t in enumerate(tensors)]
        base = models.pop(0) if declared.takes_base else None
        density = {"density": (0.5, 1.0)[case % 2]} if declared.param("density") else {}
        with pytest.raises(MergeError, match=rf"'w' of .*m{bad} has 2 numbers that are .* index 2,999"):
            run(recipe_of(method, models, base, **given, **density), folder / "out")


def test_numbers_that_are_large_but_finite_are_fine(tmp_path):
    large = {"w": torch.full((1000,), 3e38)}
    _, found = run(recipe_of("linear", [write_model(tmp_path / "a", large)], weight=1.0), tmp_path / "out")
    assert torch.equal(found["w"], large["w"])


@pytest.mark.parametrize("as_stored", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("dtype", "value"), [("float16", 40_960.0), ("bfloat16", 2e38), ("float32", 2e38)])
def test_overflow_on_the_way_out(tmp_path, dtype, value, as_stored):
    w = torch.zeros(300_000)
    w[[270_001, 290_000, 299_999]] = torch.tensor([-value, value, value])
    models = [
        write_model(tmp_path / name, {"v": torch.ones(3), "w": w.bfloat16() if as_stored else w}) for name in "ab"
    ]
    recipe = recipe_of("linear", models, weight=1.0, normalize=False, out_dtype=dtype)
    kind, reached = {"float16": ("F16", "81920"), "bfloat16": ("BF16", "inf"), "float32": ("F32", "inf")}[dtype]
    told = rf"{reached} when merged, more than {kind} holds: it would have 3 numbers that are infinite"
    way_out = r"Write bfloat16 or float32 \(out_dtype\), or use" if dtype == "float16" else "Use"
    with pytest.raises(
        MergeError, match=rf"'w' reaches {told}, the first at index 270,001\. {way_out} smaller weights"
    ):
        run(recipe, tmp_path / "out")
    nothing_left(tmp_path)


# Settings with which a method makes of a base of 4,000 and models of 40,000 and 20,000 more than float16 holds.
TOO_LARGE: dict[str, dict[str, Any]] = {
    "passthrough": {"scale": 2.0},
    "slerp": {"t": 2.5},
    "nuslerp": {"weight": [3.0, -2.0]},
    "multislerp": {"weight": 2.0, "normalize_weights": False},
    "task_arithmetic": {"weight": 1.5},
    "ties": {"weight": 1.0, "lambda": 3.0},
    "dare_ties": {"weight": 1.0, "density": 0.9, "lambda": 3.0},
    "della": {"weight": 1.0, "density": 0.8, "lambda": 3.0},
    "breadcrumbs": {"weight": 2.0, "gamma": 0.0},
    "lines": {"alpha": 1.0},
    "pcb": {"density": 1.0, "lambda": 5.0},
    "consensus": {"lambda": 1.5},
    "iso_c": {"lambda": 2.0},
}


@pytest.mark.parametrize("method", TOO_LARGE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_overflow_of_every_kind_of_method(tmp_path, method, dtype):
    """Told are all numbers of the tensor, whichever block is found out first: beside a merge that can hold them."""
    declared = METHODS[method]
    large = noise(300, 700).clamp(-1, 1) * 40_000
    base, *models = (
        write_model(tmp_path / name, {"layers.0.w": (large * by).to(dtype)}, {"num_hidden_layers": 1})
        for name, by in (("base", 0.1), ("one", 1.0), ("two", 0.5))
    )
    given = (method, models[: declared.max_models], base if declared.needs_base else None)
    _, fits = run(recipe_of(*given, out_dtype="float32", **TOO_LARGE[method]), tmp_path / "fits")
    beyond = (fits["layers.0.w"].abs() >= 65520).flatten().nonzero().flatten().tolist()
    assert len(beyond) > 1
    with pytest.raises(MergeError) as refused:
        run(recipe_of(*given, out_dtype="float16", **TOO_LARGE[method]), tmp_path / "out", Options(threads=2))
    assert f"{fits['layers.0.w'].abs().max():g} when merged, more than F16 holds" in str(refused.value)
    assert f"{len(beyond):,} numbers that are infinite, the first at index {beyond[0]:,}." in str(refused.value)
    nothing_left(tmp_path)


def test_overflow_that_is_gone_when_it_is_read_again(tmp_path):
    """What came broken over a network, once: it is not told as a fault of the weights."""
    model = write_model(tmp_path / "a", {"w": torch.ones(5)})

    was_broken = threading.Event()

    class Once(Folder):
        def read_into(self, file, start, into):
            super().read_into(file, start, into)
            if len(into) == 4 * 5 and not was_broken.is_set():
                was_broken.set()
                into[:4] = struct.pack("<f", 1e6)

    recipe = recipe_of("linear", [model], weight=1.0, out_dtype="float16")
    checkpoints = {ref: open_checkpoint(Once(Path(ref.path))) for ref in all_models(recipe)}
    with pytest.raises(
        MergeError, match=r"'w' reaches 1e\+06 when merged, more than F16 holds, but not when it is read"
    ):
        list(merge(recipe, checkpoints, tmp_path / "out"))
    nothing_left(tmp_path)


def test_the_largest_number_that_fits(tmp_path):
    model = write_model(tmp_path / "a", {"w": torch.tensor([65519.0, -65504.0])})
    _, found = run(recipe_of("linear", [model], weight=1.0, out_dtype="float16"), tmp_path / "out")
    assert found["w"].tolist() == [65504, -65504]


# Faults from outside


def nothing_left(folder):
    assert not (folder / "out").exists() and not list(folder.glob(".out*")), "something was left behind"


def test_the_folder_is_there_already(family, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(MergeError, match="out is already there"):
        run(recipe_for(family, "linear"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_folder_above_is_not_there(family, tmp_path):
    with pytest.raises(MergeError, match=r"There is no folder .*no to put out into. Make it first"):
        run(recipe_for(family, "linear"), tmp_path / "no/out")


def test_leaving_the_loop_leaves_nothing(family, tmp_path):
    steps = merge(recipe_for(family, "linear"), opened(recipe_for(family, "linear")), tmp_path / "out")
    next(steps)
    steps.close()
    nothing_left(tmp_path)


def test_a_file_that_shrinks_while_it_is_merged(family, tmp_path):
    tune = tmp_path / "tune"
    shutil.copytree(family / "tune0-1", tune)
    recipe = recipe_of("linear", [tune], weight=1.0)
    checkpoints = opened(recipe)
    os.truncate(tune / "model.safetensors", 2_000_000)
    with pytest.raises(MergeError, match="ends before byte"):
        list(merge(recipe, checkpoints, tmp_path / "out"))
    nothing_left(tmp_path)


def in_small_blocks(monkeypatch):
    """Many to a tensor, few of which are read at a time."""
    monkeypatch.setattr("merging.budget.GRAINS", 1)
    return Options(threads=1)


@pytest.mark.parametrize("method", ["linear", "ties", "model_stock", "della", "tsv"])
def test_a_file_that_shrinks_when_some_of_it_is_merged(family, tmp_path, monkeypatch, method):
    options = in_small_blocks(monkeypatch)
    shutil.copytree(family / "tune1-1", tmp_path / "tune")
    declared, tunes = METHODS[method], [family / "tune0-1", tmp_path / "tune"]
    weight = {"weight": 0.5} if declared.param("weight") else {}
    recipe = recipe_of(method, tunes, family / "base-1" if declared.needs_base else None, **weight)
    steps = merge(recipe, opened(recipe), tmp_path / "out", options)
    while not next(steps).done_bytes:
        pass
    os.truncate(tmp_path / "tune/model.safetensors", 2000)
    with pytest.raises(MergeError, match=r"tune/model.safetensors ends before byte .* cut short, or changed while"):
        list(steps)
    nothing_left(tmp_path)


@pytest.mark.parametrize("method", ["linear", "ties", "della"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_on(family, tmp_path, monkeypatch, method, code):
    """A network drive that goes away, a bad sector: far into the file."""
    options, preadv, beyond = in_small_blocks(monkeypatch), os.preadv, []

    def fail(handle, buffers, at):
        if at > 1_000_000:
            beyond.append(at)
            raise OSError(code, os.strerror(code))
        return preadv(handle, buffers, at)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(MergeError, match=rf"model.safetensors cannot be read: {os.strerror(code)}\.") as refused:
        run(recipe_for(family, method), tmp_path / "out", options)
    assert beyond and isinstance(refused.value.__cause__, OSError)
    nothing_left(tmp_path)


def test_a_disk_that_is_too_small(family, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(MergeError, match="and 1 are free"):
        run(recipe_for(family, "linear"), tmp_path / "out")
    nothing_left(tmp_path)


@pytest.mark.parametrize("failing", ["posix_fallocate", "pwrite", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_on_the_way(family, tmp_path, monkeypatch, failing, code):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, failing, fail)
    message = "There is no space left" if code == errno.ENOSPC else "cannot be written: Input/output error"
    with pytest.raises(MergeError, match=message):
        run(recipe_for(family, "ties"), tmp_path / "out")
    monkeypatch.undo()
    nothing_left(tmp_path)


def test_a_file_system_that_cannot_reserve(family, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert run(recipe_for(family, "linear"), tmp_path / "out")[1].keys() == SIZES.keys()


def test_models_are_only_read(family, tmp_path):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in family.rglob("*")}
    run(recipe_for(family, "dare_ties"), tmp_path / "out")
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in family.rglob("*")}


def test_nothing_but_the_source_is_asked(family, tmp_path):
    """The engine takes any source: here one that has no files at all."""
    inner = Folder(family / "tune0-2")

    class Elsewhere:
        label, repo_id, revision = "elsewhere", None, None
        sizes, read, read_into = inner.sizes, inner.read, inner.read_into
        expect, verified, stop, close = inner.expect, inner.verified, inner.stop, inner.close
        checked, recall = inner.checked, inner.recall

    recipe = recipe_of("linear", [family / "tune0-2"], weight=1.0)
    checkpoint = open_checkpoint(Elsewhere())
    assert isinstance(checkpoint, Checkpoint)
    list(merge(recipe, dict.fromkeys(all_models(recipe), checkpoint), tmp_path / "out"))
    assert digest(load_all(tmp_path / "out")) == digest(load_all(family / "tune0-1"))
