"""Small models, and what a diagnosis says of them."""

import torch

from merging.diagnostics import diagnose
from tests.merging.models import opened, write_model

LAYERS = {"num_hidden_layers": 2, "tie_word_embeddings": True}
SHAPES = {
    "model.embed_tokens.weight": (240, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.mlp.up_proj.weight": (96, 64),
    "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.1.self_attn.q_proj.weight": (64, 64),
    "model.layers.1.mlp.up_proj.weight": (96, 64),
    "model.layers.1.input_layernorm.weight": (64,),
    "model.norm.weight": (64,),
}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def noise(shapes=SHAPES, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return {name: (torch.randn(shape, generator=g) * 0.02).to(dtype) for name, shape in shapes.items()}


def made(folder, base, tunes, *, shards=1, config=LAYERS):
    paths = [write_model(folder / f"tune-{i}", t, config, shards) for i, t in enumerate(tunes)]
    return write_model(folder / "base", base, config, shards), paths


def run(recipe, options=None, models=None, **given):
    steps = diagnose(recipe, models or opened(recipe), options, **given)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value
