"""Goldens: what mergekit makes of tiny models, for tests/merging/test_goldens.py: `python -m benchmarks.goldens`.

Each recipe of tests/merging/goldens is run by mergekit-yaml on the models made here, and some tensors of its output are
stored beside it. To add one, write a recipe and name it: `python -m benchmarks.goldens ties-plain`.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import torch as torch_files
from safetensors.numpy import load_file, save_file

from benchmarks.mergekit import VERSION, ensure_mergekit

FOLDER = Path(__file__).parents[1] / "tests" / "merging" / "goldens"
SEED = 7
LAYERS, HIDDEN, INNER, VOCAB = 3, 24, 32, 32
# How far each model is from the base: `near` is on a line with it for slerp, `close` is nearer than many thresholds.
CHANGES = {"chat": 0.05, "code": 0.05, "maths": 0.03, "near": 1e-3, "close": 1e-4, "closer": 1e-4}
ROUNDED = ("base", "chat", "code")  # which are there once more as bfloat16
KEPT = ("embed", "lm_head", "k_proj", "layers.1.input_layernorm", "layers.1.mlp.down_proj", "model.norm")

Array = np.ndarray[Any, np.dtype[np.float32]]


def main(names: Iterable[str]) -> None:
    recipes = [FOLDER / f"{name}.yaml" for name in names] or sorted(FOLDER.glob("*.yaml"))
    command = ensure_mergekit()
    with tempfile.TemporaryDirectory() as work:
        write_models(Path(work))
        for recipe in recipes:
            print(recipe.stem, flush=True)
            save_golden(recipe, merge(command, recipe, Path(work)))


def merge(command: Path, recipe: Path, work: Path) -> dict[str, Array]:
    """Every tensor that mergekit writes."""
    shutil.rmtree(work / "out", ignore_errors=True)
    subprocess.run(
        [command, recipe, "out", "--no-copy-tokenizer", "--no-write-model-card", "--quiet"],
        cwd=work, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    return {n: t for file in (work / "out").glob("*.safetensors") for n, t in load_file(file).items()}


def save_golden(recipe: Path, merged: Mapping[str, Array]) -> None:
    kept = {name: tensor for name, tensor in merged.items() if is_kept(name)}
    about = {"mergekit": VERSION, "seed": str(SEED), "recipe": digest(recipe)}
    save_file(kept, recipe.with_suffix(".safetensors"), metadata=about)


def digest(recipe: Path) -> str:
    return hashlib.sha256(recipe.read_bytes()).hexdigest()


def is_kept(name: str) -> bool:
    return any(part in name for part in KEPT)


def write_models(folder: Path) -> None:
    """The models as folders such as the Hub holds them, without a tokenizer."""
    for model, tensors in make_models().items():
        dtype = "bfloat16" if model.endswith("-bf16") else "float32"
        (folder / model).mkdir()
        (folder / model / "config.json").write_text(json.dumps(config(dtype), indent=2))
        stored = {name: torch.from_numpy(tensor).to(getattr(torch, dtype)) for name, tensor in tensors.items()}
        torch_files.save_file(stored, folder / model / "model.safetensors", metadata={"format": "pt"})


def make_models() -> dict[str, dict[str, Array]]:
    """A base and fine-tunes of it, whose changes have a part in common. RandomState's stream never changes."""
    chance = np.random.RandomState(SEED)
    models: dict[str, dict[str, Array]] = {model: {} for model in ("base", *CHANGES)}
    for name, shape in shapes().items():
        base = 1 + 0.1 * chance.standard_normal(shape) if "norm" in name else 0.1 * chance.standard_normal(shape)
        shared = 0.6 * chance.standard_normal(shape)
        models["base"][name] = base.astype(np.float32)
        for model, change in CHANGES.items():
            changed = base + change * (shared + 0.8 * chance.standard_normal(shape))
            models[model][name] = changed.astype(np.float32)
    return models | {f"{model}-bf16": {n: rounded(t) for n, t in models[model].items()} for model in ROUNDED}


def rounded(tensor: Array) -> Array:
    found: Array = torch.from_numpy(tensor).bfloat16().float().numpy()
    return found


def shapes() -> dict[str, tuple[int, ...]]:
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        "self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
        "self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
        "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        "mlp.gate_proj.weight": (INNER, HIDDEN),
        "mlp.up_proj.weight": (INNER, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INNER),
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
    }
    layers = {f"model.layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    table = (VOCAB, HIDDEN)
    return {"model.embed_tokens.weight": table} | layers | {"model.norm.weight": (HIDDEN,), "lm_head.weight": table}


def config(dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": dtype,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": HIDDEN // 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
