"""Files written out of order, hashed in order; folders that appear whole or not at all."""

import errno
import fcntl
import hashlib
import os
import random

import pytest
import torch

from merging.cuda import Gpu
from merging.device import choose_device
from merging.direct import ALIGNED, BUFFER, DirectFile
from merging.engine import merge
from merging.errors import MergeError
from merging.report import now
from merging.staging import staged
from merging.writer import ShardFile, check_space, write_files
from tests.merging.models import fine_tunes, opened, recipe_of, write_model


def test_blocks_in_any_order_are_hashed_in_the_order_of_the_file(tmp_path):
    content = random.Random(0).randbytes(100_000)
    file = ShardFile(tmp_path / "x", content[:40], len(content))
    file.open()
    pieces = [(at, min(at + 999, len(content))) for at in range(40, len(content), 999)]
    random.Random(1).shuffle(pieces)
    for start, end in pieces:
        file.put(start, memoryview(b""))  # of an empty tensor at the same place
        file.put(start, memoryview(content[start:end]))
    assert file.finish() == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "x").read_bytes() == content


def test_a_file_with_a_gap_is_not_finished(tmp_path):
    file = ShardFile(tmp_path / "x", b"head", 10)
    file.open()
    file.put(6, memoryview(b"tail"))
    with pytest.raises(AssertionError, match="has a gap at byte 4"):
        file.finish()
    file.close()


def test_a_folder_appears_whole(tmp_path):
    with staged(tmp_path / "out", "digest", now()) as stage:
        write_files(stage.folder, [("a", b"1"), ("sub/b", b"2")])
        assert not (tmp_path / "out").exists() and stage.folder.name.startswith(".out.")
    assert (tmp_path / "out/sub/b").read_bytes() == b"2" and [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_or_not_at_all(tmp_path, error):
    with pytest.raises(error), staged(tmp_path / "out", "digest", now()) as stage:
        write_files(stage.folder, [("a", b"1")])
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_is_not_overwritten(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MergeError, match="is already there"), staged(tmp_path / "out", "digest", now()):
        pass


def test_space(tmp_path):
    check_space(tmp_path / "out", 1)
    with pytest.raises(MergeError, match="The merge needs 1,000,000,000,000,000,000 bytes on the disk of"):
        check_space(tmp_path / "out", 10**18)


def test_the_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("cpu").name == choose_device("auto").name == "cpu"
    with pytest.raises(MergeError, match="There is no CUDA GPU here"):
        choose_device("cuda")
    with pytest.raises(MergeError, match="'tpu', it must be auto, cpu or cuda"):
        choose_device("tpu")


def test_the_gpu_with_the_most_memory(monkeypatch):
    monkeypatch.setattr("merging.device.has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("accelerate.utils.modeling.get_max_memory", lambda: {0: 5, 1: 7, "cpu": 99})
    assert choose_device("auto").name == choose_device("cuda").name == "cuda:1"


def test_a_gpu_whose_memory_is_full_says_what_to_do():
    with pytest.raises(MergeError, match=r"cpu has too little free memory .* use the device cpu"), Gpu("cpu").working():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_blocks_fit_the_memory_of_the_gpu(tmp_path, monkeypatch):
    tunes = fine_tunes({"w": torch.zeros(1 << 16, dtype=torch.bfloat16)}, 2, by=0.01)
    recipe = recipe_of("linear", [write_model(tmp_path / f"m{i}", t, {}) for i, t in enumerate(tunes)], weight=0.5)
    monkeypatch.setattr("merging.engine.choose_device", lambda asked: Gpu("cpu"))
    monkeypatch.setattr("merging.cuda.Gpu.room", 1000)
    with pytest.raises(MergeError, match="1,000 bytes of memory are too few for 2 models"):
        list(merge(recipe, opened(recipe), tmp_path / "out"))


def write_direct(path, content):
    file = DirectFile(path, len(content))
    file.open()
    for at in range(0, len(content), 777_777):
        file.write(memoryview(content)[at : at + 777_777])
    file.finish()


@pytest.mark.parametrize("length", [0, 1, ALIGNED, ALIGNED + 1, BUFFER, 2 * BUFFER + 12_345])
def test_a_direct_file_has_every_byte(tmp_path, length):
    content = random.Random(length).randbytes(length)
    write_direct(tmp_path / "x", content)
    assert (tmp_path / "x").read_bytes() == content


def test_a_file_system_that_cannot_do_without_the_cache(tmp_path, monkeypatch):
    plain = os.open

    def refuse(path, flags, mode=0o777):
        if flags & os.O_DIRECT:
            plain(path, flags & ~os.O_DIRECT, mode)
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    write_direct(tmp_path / "x", b"x" * 10_000)
    assert (tmp_path / "x").read_bytes() == b"x" * 10_000


def test_a_disk_with_larger_sectors(tmp_path, monkeypatch):
    plain = os.pwrite

    def refuse(handle, data, at):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(handle, data, at)

    monkeypatch.setattr(os, "pwrite", refuse)
    write_direct(tmp_path / "x", b"x" * 10_000)
    assert (tmp_path / "x").read_bytes() == b"x" * 10_000
