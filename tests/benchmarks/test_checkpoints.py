"""The generated models are real ones: they load, they are related, and they are the same every time."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.agreement import read_tensor
from benchmarks.checkpoints import BASE, FINE_TUNES, SHARD_BYTES, ensure_checkpoints, pack
from benchmarks.llama import ONE, shape_at
from tests.benchmarks.conftest import TINY


def test_one_is_llama_3_2_1b():
    shape = shape_at(1)
    assert (shape.hidden, shape.layers, shape.parameters) == (2048, 16, 1_235_814_400)


@pytest.mark.parametrize("scale", [0.1, 0.3, 2, 4])
def test_sizes_are_near_what_was_asked_for(scale):
    assert shape_at(scale).parameters == pytest.approx(scale * ONE, rel=0.05)


@pytest.mark.parametrize("scale", [0, 0.01, -1, 100, float("nan")])
def test_sizes_out_of_range_are_refused(scale):
    with pytest.raises(ValueError, match="must be between"):
        shape_at(scale)


def test_large_models_have_several_shards():
    tensors = shape_at(1).tensors()
    shards = pack(tensors)
    assert len(shards) == 3
    assert {name: shape for shard in shards for name, shape in shard.items()} == tensors
    assert pack({"large": (SHARD_BYTES,), "small": (1,)}) == [{"large": (SHARD_BYTES,)}, {"small": (1,)}]


def test_transformers_loads_them(family: Path):
    model = LlamaForCausalLM.from_pretrained(family / BASE)
    assert isinstance(model.config, LlamaConfig)
    assert model.num_parameters() == TINY.parameters
    tokenizer = AutoTokenizer.from_pretrained(family / BASE)
    assert len(tokenizer) == TINY.vocab
    assert tokenizer.decode(tokenizer.encode("One model, two skills.")) == "One model, two skills."


def test_fine_tunes_lie_near_the_base(family: Path):
    name = "model.layers.0.mlp.up_proj.weight"
    base, *others = (read_tensor(family / model, name).float() for model in (BASE, *FINE_TUNES))
    changes = torch.stack([(other - base).flatten() for other in others])
    assert (changes.norm(dim=1) / base.norm()).tolist() == pytest.approx([0.02] * 4, rel=0.1)
    assert torch.corrcoef(changes).triu(1).abs().max() < 0.01


def test_the_same_again_by_seed(family: Path, tmp_path: Path):
    again, other = (ensure_checkpoints(tmp_path, TINY, seed) for seed in (1, 2))
    file = "model-00001-of-00001.safetensors"
    for model in (BASE, FINE_TUNES[0]):
        assert (again / model / file).read_bytes() == (family / model / file).read_bytes()
        assert (other / model / file).read_bytes() != (family / model / file).read_bytes()


def test_made_once_and_never_half(family: Path):
    before = (family / BASE / "config.json").stat().st_mtime_ns
    assert ensure_checkpoints(family.parent, TINY, seed=1) == family
    assert (family / BASE / "config.json").stat().st_mtime_ns == before
    assert [p.name for p in family.parent.iterdir()] == [family.name]
    assert json.loads((family / BASE / "config.json").read_text())["vocab_size"] == TINY.vocab
