"""Real architectures as transformers saves them: merged file by file, and loaded by transformers again."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
)

from merging import heads
from merging.checkpoint import Folder, open_checkpoint
from merging.engine import Options, merge
from merging.errors import MergeError
from tests.merging.models import opened, recipe_of

SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SMALL, tie_word_embeddings=False),
    "llama tied": lambda: LlamaConfig(**SMALL, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**SMALL, tie_word_embeddings=True),
    "gpt2": lambda: GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=4),
    "mixtral": lambda: MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
    "qwen2 moe": lambda: Qwen2MoeConfig(**SMALL, **EXPERTS),
}
WEIGHTS = [0.25, 0.75]
TEXT = torch.tensor([[1, 5, 9, 33, 60, 2]])


def model(config, seed, dtype):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def saved(config, folder, seed, shard_size, dtype):
    model(config, seed, dtype).save_pretrained(folder, max_shard_size=shard_size)
    return folder


def logits(folder):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(TEXT).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_the_average_of_two_models_as_transformers_sees_it(name, tmp_path):
    config = CONFIGS[name]()
    folders = [
        saved(config, tmp_path / "a", 1, "20KB", torch.float32),
        saved(config, tmp_path / "b", 2, "1GB", torch.float32),
    ]
    a, b = (AutoModelForCausalLM.from_pretrained(f) for f in folders)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):  # tied parameters come once
        p.data = WEIGHTS[0] * p.data + WEIGHTS[1] * q.data
    recipe = recipe_of("linear", folders, weight=WEIGHTS)
    list(merge(recipe, opened(recipe), tmp_path / "out", Options(shard_bytes=30_000)))
    with torch.no_grad():
        torch.testing.assert_close(logits(tmp_path / "out"), a.eval()(TEXT).logits, rtol=1e-4, atol=1e-5)


def test_names_are_kept_as_they_are_stored(tmp_path):
    """transformers fuses the experts of a model in memory; the files keep one tensor for each."""
    folders = [saved(CONFIGS["mixtral"](), tmp_path / str(i), i, "1GB", torch.bfloat16) for i in range(2)]
    recipe = recipe_of("linear", folders, weight=0.5)
    list(merge(recipe, opened(recipe), tmp_path / "out"))
    merged, parent = (open_checkpoint(Folder(f)).tensors for f in (tmp_path / "out", folders[0]))
    assert merged.keys() == parent.keys()
    assert {n: i.shape for n, i in merged.items()} == {n: i.shape for n, i in parent.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_the_type_in_the_config(tmp_path, dtype):
    folders = [saved(CONFIGS["llama"](), tmp_path / str(i), i, "50KB", dtype) for i in range(3)]
    recipe = recipe_of("task_arithmetic", folders[1:], folders[0], weight=0.5)
    list(merge(recipe, opened(recipe), tmp_path / "out"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == dtype
    mixed = recipe_of("linear", folders[:1], weight=1.0, out_dtype="float32")
    list(merge(mixed, opened(mixed), tmp_path / "wide"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "wide").dtype == torch.float32
    torch.testing.assert_close(logits(tmp_path / "wide"), logits(folders[0]))


def test_mixed_types_are_written_as_the_one_that_holds_both(tmp_path):
    types = (torch.bfloat16, torch.float32)
    folders = [saved(CONFIGS["llama"](), tmp_path / str(i), i, "1GB", t) for i, t in enumerate(types)]
    recipe = recipe_of("linear", folders, weight=0.5)
    list(merge(recipe, opened(recipe), tmp_path / "out"))
    assert {t.dtype for t in load_file(tmp_path / "out/model.safetensors").values()} == {torch.float32}


def test_a_tied_head_that_is_stored_all_the_same_is_dropped(tmp_path):
    config = CONFIGS["llama tied"]()
    folders = [saved(config, tmp_path / str(i), i, "1GB", torch.float32) for i in range(2)]
    file = folders[0] / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file, {"format": "pt"})
    recipe = recipe_of("linear", folders, weight=0.5)
    list(merge(recipe, opened(recipe), tmp_path / "out"))
    assert "lm_head.weight" not in open_checkpoint(Folder(tmp_path / "out")).tensors
    assert logits(tmp_path / "out").isfinite().all()


def with_head(tmp_path, heads):
    """Tied models, with what they store as their head all the same: what is to be added to their embeddings."""
    config = CONFIGS["llama tied"]()
    folders = [saved(config, tmp_path / str(i), i, "1GB", torch.float32) for i in range(len(heads))]
    for folder, added in zip(folders, heads, strict=True):
        tensors = load_file(file := folder / "model.safetensors")
        if added is not None:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + added
        save_file(tensors, file, {"format": "pt"})
    return folders


@pytest.mark.parametrize("others", [[], [0.0], [0.2]])
def test_a_tied_head_that_is_not_the_embeddings_is_merged(tmp_path, others):
    """transformers uses such a head, whatever the config says."""
    folders = with_head(tmp_path, [0.1, *others])
    weights = [1.0, *(0.0 for _ in others)]
    recipe = recipe_of("linear", folders, weight=weights)
    list(merge(recipe, opened(recipe), tmp_path / "out"))
    assert not torch.equal(logits(folders[0]), logits(with_head(tmp_path / "tied", [None])[0]))
    torch.testing.assert_close(logits(tmp_path / "out"), logits(folders[0]))


def test_a_head_of_its_own_beside_a_model_without_one(tmp_path):
    recipe = recipe_of("linear", with_head(tmp_path, [0.1, None]), weight=0.5)
    with pytest.raises(MergeError, match=r"lacks 'lm_head.weight'.*output head that is not its embeddings"):
        list(merge(recipe, opened(recipe), tmp_path / "out"))


def test_a_head_that_differs_where_nobody_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "LOOK", 8)
    changed = torch.zeros(SMALL["vocab_size"], SMALL["hidden_size"])
    changed[1, 3] = 1
    recipe = recipe_of("linear", with_head(tmp_path, [changed]), weight=1.0)
    with pytest.raises(MergeError, match="differs from them in a few places"):
        list(merge(recipe, opened(recipe), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
