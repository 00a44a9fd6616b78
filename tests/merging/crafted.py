"""Tiny models written by hand: a base, and what one changes of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LAYERS, WIDTH, VOCABULARY = 3, 64, 96

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "vocab_size": VOCABULARY, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "max_position_embeddings": 128, "transformers_version": "5.0", "use_cache": True,
    "attention_bias": False,
}  # fmt: skip
TOKENIZER = {
    "added_tokens": [{"id": 0, "content": "<end>", "special": True}],
    "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 1, "b": 2, "ab": 3}, "merges": ["a b"]},
}  # fmt: skip
TOKENIZER_CONFIG = {"eos_token": "<end>", "chat_template": "{{ messages }}"}
CARD = "---\nlicense: mit\nbase_model: acme/base\nlanguage: en\n---\n\n# A model\n"

Arrays = dict[str, np.ndarray[Any, Any]]


def weights(seed: int, *, near: Arrays | None = None, distance: float = 0.05) -> Arrays:
    """Weights from a seed of their own, or those of another model moved by a share of their size."""
    random = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "lm_head.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
            shapes[f"model.layers.{layer}.{name}.weight"] = (WIDTH, WIDTH)
    moved = {name: random.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}
    if near is not None:
        moved = {name: near[name] + np.float32(distance) * change for name, change in moved.items()}
    norms = {f"model.layers.{layer}.input_layernorm.weight": np.ones(WIDTH, "f4") for layer in range(LAYERS)}
    return {**moved, **norms}


BASE = weights(0)


def changed(of: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A mapping with some values replaced, and removed where None."""
    return {k: v for k, v in {**of, **changes}.items() if v is not None}


def write_model(
    folder: Path,
    arrays: Arrays | None = None,
    *,
    config: Mapping[str, Any] = CONFIG,
    tokenizer: Mapping[str, Any] | None = TOKENIZER,
    tokenizer_config: Mapping[str, Any] = TOKENIZER_CONFIG,
    card: str = CARD,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(BASE if arrays is None else arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (folder / "README.md").write_text(card)
    return folder
