"""The same model behind another tokenizer: every token gets another number, and the embedding rows move along."""

import random

import torch
from transformers import LlamaForCausalLM

from space.demo.tokenizer import END, PAD, VOCABULARY


def shuffled_ids(seed: int) -> dict[str, int]:
    tokens = list(VOCABULARY)
    random.Random(seed).shuffle(tokens)
    return {token: number for number, token in enumerate(tokens)}


@torch.no_grad()
def renumber(model: LlamaForCausalLM, old: dict[str, int], new: dict[str, int]) -> None:
    """Let `model` read and write the ids `new` instead of `old`. It answers as before."""
    rows = model.model.embed_tokens.weight  # the output layer's too: they are tied
    moved = rows.clone()
    for token, number in new.items():
        moved[number] = rows[old[token]]
    rows.copy_(moved)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = new[END], new[PAD]
