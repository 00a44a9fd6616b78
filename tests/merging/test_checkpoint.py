"""Checkpoints as files: which tensors they have, and the ways in which they are broken."""

import errno
import json
import os

import pytest
import torch
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from merging.checkpoint import INDEX, Folder, open_checkpoint
from merging.errors import MergeError
from tests.merging.models import write_model

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(0)}


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "m", TENSORS, {"x": 1}, shards=2)


def opened(folder):
    return open_checkpoint(Folder(folder))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_reads_tensors_of_one_file_or_many(tmp_path, shards):
    found = opened(write_model(tmp_path / "m", TENSORS, shards=shards))
    assert {n: (i.dtype, i.shape) for n, i in found.tensors.items()} == {
        "a": ("F32", (2, 3)), "b": ("BF16", (4,)), "c": ("F32", (0,)),
    }  # fmt: skip
    assert len(found.shards) == shards
    into = bytearray(8)
    found.read(found.tensors["a"], 12, memoryview(into))
    assert torch.frombuffer(into, dtype=torch.float32).tolist() == [3, 4]
    found.source.close()


def test_other_files(model):
    (model / "notes").mkdir()
    (model / "notes/a.txt").write_text("ü", encoding="utf-8")
    found = opened(model)
    assert found.config["x"] == 1 and found.json("config.json") == found.config
    assert found.text("notes/a.txt") == "ü" and found.text("other") is None and found.json("other.json") is None
    assert found.source.repo_id is None and found.source.revision is None and found.label == str(model)


def rewrite_index(model, **changes):
    index = json.loads((model / INDEX).read_text())
    (model / INDEX).write_text(json.dumps(index | changes))


@pytest.mark.parametrize(
    "shard",
    ["../m/model-00001-of-00002.safetensors", "/etc/passwd", "a/b.safetensors", "x\0.safetensors", "..", "",
     "a\\b.safetensors", "config.json"],
)  # fmt: skip
def test_a_shard_is_a_plain_name(model, shard):
    rewrite_index(model, weight_map={"a": shard})
    with pytest.raises(MergeError, match="A shard must be a plain"):
        opened(model)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "has no weight_map"),
        ([1], "has no weight_map"),
        ({"a": 1}, "has no weight_map"),
        ({"a": "model-9.safetensors"}, "model-9.safetensors of the index is missing"),
        ({"z": "model-00001-of-00002.safetensors"}, "the index says 'z' is in model-00001"),
        ({"a": "model-00002-of-00002.safetensors"}, "the index says 'a' is in model-00002"),
        ({"a": "model-00001-of-00002.safetensors"}, "is in model-00001-of-00002.safetensors but not in the index"),
        ({f"t{i}": "model.safetensors" for i in range(100_001)}, "at most 100,000"),
    ],
)
def test_the_index_and_the_headers_tell_the_same_story(model, weight_map, message):
    rewrite_index(model, weight_map=weight_map)
    with pytest.raises(MergeError) as refused:
        opened(model)
    assert message in str(refused.value)
    assert "index says" not in message or str(refused.value).endswith("Download it again, or ask its author.")


def test_a_tensor_is_stored_once(model):
    shard = model / "model-00001-of-00002.safetensors"
    (model / "model-3.safetensors").write_bytes(shard.read_bytes())
    rewrite_index(model, weight_map={"a": shard.name, "c": "model-3.safetensors"})
    with pytest.raises(MergeError, match="and again in"):
        opened(model)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there are no weights to merge"),
        ({"pytorch_model.bin": b"x"}, "only as pickles (pytorch_model.bin)"),
        ({"adapter_model.safetensors": b"x"}, "is an adapter (LoRA), not a whole model"),
        ({"model.safetensors": b"1234567"}, "7 bytes long: too short"),
        ({"model.safetensors": b"\xff" * 8 + b"{}"}, "the header says it is"),
        ({"model.safetensors": b"\x40" + bytes(7) + b"{}"}, "the header says it is 64 bytes long"),
        ({"model.safetensors": b"<html>not found</html>"}, "is a web page, not safetensors"),
        ({"model.safetensors": b"\n<!DOCTYPE html><p>Sign in</p>"}, "is a web page, not safetensors"),
        ({"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid"}, "run `git lfs pull`"),
        ({INDEX: b"{"}, "is not valid JSON"),
        ({INDEX: b"[]"}, "must hold a JSON object, not list"),
        ({INDEX: b"[" * 100_000}, "is not valid JSON"),
    ],
)
def test_what_is_no_model(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MergeError) as refused:
        opened(tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize("cut", [1, 20, 80])
def test_a_truncated_file(model, cut):
    shard = model / "model-00001-of-00002.safetensors"
    os.truncate(shard, shard.stat().st_size - cut)
    with pytest.raises(MergeError, match=r"cut short|overlap|hole"):
        opened(model)


def test_a_file_that_shrinks_while_it_is_read(model):
    found = opened(model)
    info = found.tensors["a"]
    os.truncate(model / info.file, info.end - 4)
    with pytest.raises(MergeError, match=f"ends before byte {info.end:,}"):
        found.read(info, 0, memoryview(bytearray(info.nbytes)))


def test_a_file_that_goes_away(model):
    found = open_checkpoint(folder := Folder(model))
    folder.close()
    (model / found.tensors["a"].file).unlink()
    with pytest.raises(MergeError, match="cannot be read: No such file"):
        found.read(found.tensors["a"], 0, memoryview(bytearray(4)))


def test_a_big_json_file_is_not_read(model):
    with (model / "config.json").open("ab") as f:
        f.truncate(32_000_001)
    with pytest.raises(MergeError, match="at most 32,000,000 are read"):
        opened(model)


def test_tensors_are_counted_over_all_shards(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "m", {f"w{n}": torch.ones(2) for n in range(6)}, shards=2)
    monkeypatch.setattr("merging.checkpoint.MAX_TENSORS", 5)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"w0": "model-00001-of-00002.safetensors",
                                                           "w1": "model-00002-of-00002.safetensors"}}))  # fmt: skip
    with pytest.raises(MergeError, match="has over 5 tensors"):
        open_checkpoint(Folder(folder))


def test_the_page_cache_is_spared(model, monkeypatch):
    """What others have in memory is not pushed out by models that are read once; asked once for each file."""
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: asked.append(given))
    found = opened(model)
    for info in [*found.tensors.values()] * 2:
        found.read(info, 0, memoryview(bytearray(info.nbytes)))
    assert sorted(asked) == sorted((h, 0, 0, os.POSIX_FADV_NOREUSE) for h in found.source.handles.values())
    assert len(asked) == 4  # two shards, the index and the config


@pytest.mark.parametrize("is_there", [True, False])
def test_a_system_that_cannot_spare_the_page_cache(model, monkeypatch, is_there):
    def refuse(*given):
        raise OSError(errno.EINVAL, "no")

    if is_there:
        monkeypatch.setattr(os, "posix_fadvise", refuse)
    else:
        monkeypatch.delattr(os, "posix_fadvise")
    found = opened(model)
    into = bytearray(24)
    found.read(found.tensors["a"], 0, memoryview(into))
    assert torch.frombuffer(into, dtype=torch.float32).tolist() == [0, 1, 2, 3, 4, 5]


# Whatever bytes a folder holds: what is opened can be read, and all else is refused in words.

BROKEN = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"0",
    b"9",
    b",",
    b":",
    b"-",
    b" ",
    b"e",
    b"\\u0000",
    b"\xff",
    b"null",
    b"[" * 5000,
]


def spliced(data, content):
    """A few bytes of a file changed, taken out or put in; cut short, or with something behind its end."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)) | st.integers(0, min(8, len(content))))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9) | st.sampled_from(BROKEN))
    end = data.draw(st.none() | st.integers(0, len(content)))
    return bytes(content[:end])


def relabelled(data, content):
    """Another length of the header than it has, in the first eight bytes."""
    length = int.from_bytes(content[:8], "little")
    given = st.integers(0, 2**64 - 1) | st.integers(length - 9, length + 9) | st.sampled_from([0, 2**31, 2**63, 10**8])
    return data.draw(given).to_bytes(8, "little") + content[8:]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from([*TENSORS, "config.json", INDEX]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def retold(data, content):
    """An index in which some values are others."""
    index = json.loads(content)
    inside = data.draw(st.sampled_from([index, index["weight_map"]]))
    for _ in range(data.draw(st.integers(1, 2))):
        inside[data.draw(st.sampled_from([*inside, "z"]))] = data.draw(
            JSON | st.sampled_from([*TENSORS.values()]).map(str)
        )
    return json.dumps(index).encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a model, and a folder to break them in."""
    folder = write_model(tmp_path_factory.mktemp("models") / "m", TENSORS, {"x": 1}, shards=2)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@given(st.data())
@how(max_examples=300, deadline=None)
def test_folders_with_anything_in_their_files(whole, data):
    folder, files = whole
    shards = [file for file in files if file.endswith(".safetensors")]
    ways = [(file, spliced) for file in files] + [(file, relabelled) for file in shards] + [(INDEX, retold)] * 2
    file, change = data.draw(st.sampled_from(ways))
    (folder / file).write_bytes(change(data, files[file]))
    source = Folder(folder)
    try:
        found = open_checkpoint(source)
    except MergeError as refused:
        assert str(folder) in str(refused) and len(str(refused)) < 1500
    else:
        for info in found.tensors.values():
            found.read(info, 0, memoryview(bytearray(info.nbytes)))
    finally:
        source.close()
        for name, content in files.items():
            (folder / name).write_bytes(content)
