"""The shapes of a Llama 3 checkpoint of a given size. Pure."""

from dataclasses import dataclass
from math import prod
from typing import Any

HEAD = 64  # numbers in one attention head
ONE = 1.236e9  # parameters at scale 1: those of Llama 3.2 1B
SMALLEST, LARGEST = 0.05, 16.0  # scales; below, the vocabulary alone is larger
STEP = 256  # hidden sizes are multiples of it, so that four query heads share one of keys and values


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama with tied embeddings; what is not said follows from the hidden size."""

    hidden: int
    layers: int
    vocab: int = 128_256

    @property
    def name(self) -> str:
        return f"llama-{self.hidden}x{self.layers}-{self.vocab}"

    @property
    def parameters(self) -> int:
        return sum(prod(shape) for shape in self.tensors().values())

    def layer(self) -> dict[str, tuple[int, ...]]:
        hidden, shared, inner = self.hidden, self.hidden // 4, self.hidden * 4
        return {
            "self_attn.q_proj.weight": (hidden, hidden),
            "self_attn.k_proj.weight": (shared, hidden),
            "self_attn.v_proj.weight": (shared, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the checkpoint, in its order."""
        layers = {f"model.layers.{i}.{n}": s for i in range(self.layers) for n, s in self.layer().items()}
        return {"model.embed_tokens.weight": (self.vocab, self.hidden)} | layers | {"model.norm.weight": (self.hidden,)}

    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "hidden_size": self.hidden,
            "intermediate_size": self.hidden * 4,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // HEAD,
            "num_key_value_heads": self.hidden // HEAD // 4,
            "head_dim": HEAD,
            "vocab_size": self.vocab,
            "max_position_embeddings": 131_072,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-05,
            "rope_theta": 500_000.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "bos_token_id": self.vocab - 2,
            "eos_token_id": self.vocab - 1,
        }


def shape_at(scale: float) -> Shape:
    """The shape whose size is nearest to `scale` times that of Llama 3.2 1B, which is what scale 1 gives."""
    if not SMALLEST <= scale <= LARGEST:
        raise ValueError(f"the scale is {scale:g}, it must be between {SMALLEST:g} and {LARGEST:g}")
    hidden = max(STEP, round(2048 * scale**0.5 / STEP) * STEP)
    empty, one = Shape(hidden, 0).parameters, Shape(hidden, 1).parameters
    return Shape(hidden, max(1, round((scale * ONE - empty) / (one - empty))))
