"""What a tensor is for, by its name: embeddings, attention, MLP, norms, head."""

import re
from typing import Literal, get_args

Role = Literal["embeddings", "attention", "mlp", "norms", "head", "other"]
ROLES: tuple[Role, ...] = get_args(Role)  # in the order in which a model goes through them, as far as that can be

# The first that is found decides: a norm is a norm also inside of attention.
PATTERNS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("norms", re.compile(r"norm|(^|[._])ln(_|\d|\.)", re.IGNORECASE)),
    ("head", re.compile(r"(^|\.)(lm_head|embed_out|score|classifier)\.|^output\.", re.IGNORECASE)),
    ("embeddings", re.compile(r"embed|(^|\.)w[tp]e\.", re.IGNORECASE)),
    ("attention", re.compile(r"attn|attention|query_key_value|qkv|(^|[._])[qkvo]_proj", re.IGNORECASE)),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|expert|moe|(gate|up|down)_proj|dense_h_to_4h|dense_4h_to_h"
                       r"|(^|\.)(fc\d|c_fc|w\d)(\.|$)|(intermediate|output)\.dense", re.IGNORECASE)),
)  # fmt: skip


def role_of(tensor: str) -> Role:
    return next((role for role, pattern in PATTERNS if pattern.search(tensor)), "other")
