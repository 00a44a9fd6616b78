"""Llamas of 0.1 million parameters, many at a time: every tensor has one more dimension, which counts the models.

So small a model costs less to compute than to call; stacked, all of a zoo are trained in the time of a few.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.claims.tasks import VOCABULARY

WIDTH, INNER, LAYERS, HEADS = 64, 128, 2, 4
EPSILON, THETA = 1e-6, 10_000.0
SPREAD = 0.02  # standard deviation of a fresh model's weights
EMBEDDING: Final = "model.embed_tokens.weight"

Weights = dict[str, Tensor]
"""The tensors of one model, or of several, stacked."""


def shapes() -> dict[str, tuple[int, ...]]:
    inside = {
        "self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (WIDTH, WIDTH), "self_attn.v_proj": (WIDTH, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (INNER, WIDTH), "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER), "input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,),
    }  # fmt: skip
    layers = {f"model.layers.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in inside.items()}
    return {EMBEDDING: (VOCABULARY, WIDTH)} | layers | {"model.norm.weight": (WIDTH,)}


def parameters() -> int:
    return sum(math.prod(shape) for shape in shapes().values())


def fresh(seed: int) -> Weights:
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=chance) * SPREAD
        for name, shape in shapes().items()
    }


def stack(models: Sequence[Weights]) -> Weights:
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


def unstack(weights: Weights) -> list[Weights]:
    count = len(weights[EMBEDDING])
    return [{name: tensor[i].clone() for name, tensor in weights.items()} for i in range(count)]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of stacked models: tokens are (models, rows, places, width)."""

    weights: Mapping[str, Tensor]
    prefix: str

    def linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self.weights[f"{self.prefix}.{name}.weight"])

    def norm(self, x: Tensor, name: str) -> Tensor:
        return norm(x, self.weights[f"{self.prefix}.{name}.weight"])

    def attend(self, x: Tensor, places: int) -> Tensor:
        """What the last `places` tokens take from those up to their own."""
        cos, sin = rotations(x.shape[2])
        keys = rotate(in_heads(self.linear(x, "self_attn.k_proj")), cos, sin)
        values = in_heads(self.linear(x, "self_attn.v_proj"))
        asked = rotate(in_heads(self.linear(x[:, :, -places:], "self_attn.q_proj")), cos[-places:], sin[-places:])
        scores = asked @ keys.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        later = torch.full((x.shape[2], x.shape[2]), -math.inf).triu(1)[-places:]
        found = (scores + later).softmax(-1) @ values
        return self.linear(found.transpose(2, 3).flatten(3), "self_attn.o_proj")

    def forward(self, x: Tensor, places: int) -> Tensor:
        x = x[:, :, -places:] + self.attend(self.norm(x, "input_layernorm"), places)
        h = self.norm(x, "post_attention_layernorm")
        inner = F.silu(self.linear(h, "mlp.gate_proj")) * self.linear(h, "mlp.up_proj")
        return x + self.linear(inner, "mlp.down_proj")


def forward(weights: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """The logits after the last token: (models, rows, places) -> (models, rows, vocabulary)."""
    embedding = weights[EMBEDDING]
    x = linear(F.one_hot(tokens, VOCABULARY).to(embedding.dtype), embedding.transpose(1, 2))
    for i in range(LAYERS):
        places = tokens.shape[2] if i < LAYERS - 1 else 1  # of the last layer only the last token is read
        x = Layer(weights, f"model.layers.{i}").forward(x, places)
    return linear(norm(x, weights["model.norm.weight"]), embedding)[:, :, 0]


def linear(x: Tensor, weight: Tensor) -> Tensor:
    return torch.bmm(x.flatten(1, 2), weight.transpose(1, 2)).view(*x.shape[:3], -1)


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * weight[:, None, None]


def in_heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:3], HEADS, -1).transpose(2, 3)


def rotations(places: int) -> tuple[Tensor, Tensor]:
    size = WIDTH // HEADS
    angles = torch.outer(torch.arange(places), THETA ** (-torch.arange(0, size, 2) / size)).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "hidden_act": "silu",
        "rms_norm_eps": EPSILON, "rope_theta": THETA, "tie_word_embeddings": True, "bos_token_id": None,
        "eos_token_id": None,
    }  # fmt: skip


def save(weights: Weights, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(), indent=2))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def read(folder: Path) -> Weights:
    return dict(load_file(folder / "model.safetensors"))
