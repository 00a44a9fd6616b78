"""Training that keeps a model mergeable: what it learns must work at every scale and among other changes."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from space.demo.mixture import Example, Source
from space.demo.tokenizer import END, PAD, VOCABULARY, encode_turn, id_of

BATCH_SIZE = 64
NOT_SCORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how hard to train, and against what the result should be robust."""

    steps: int
    rate: float
    seed: int
    warmup: int = 20
    frozen: tuple[str, ...] = ()  # parameters whose name contains one of these stay as they are
    scales: tuple[float, float] = (1.0, 1.0)  # each step multiplies the change so far by a number in this range
    noise: float = 0.0  # and adds noise of up to this many standard deviations of each matrix
    noise_from: int = 0

    def rate_at(self, step: int) -> float:
        """A short warm-up, then half a cosine down to a fiftieth."""
        cosine = 1 + math.cos(math.pi * step / self.steps)
        return self.rate * min(1.0, (step + 1) / self.warmup) * (0.02 + 0.49 * cosine)


def new_model(seed: int, ids: dict[str, int]) -> LlamaForCausalLM:
    """An untrained Llama of 0.6 million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=math.ceil(len(VOCABULARY) / 16) * 16,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=224,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    return LlamaForCausalLM(config)


class Change:
    """The parameters in training, as where they started plus how far they have moved."""

    def __init__(self, model: LlamaForCausalLM, frozen: tuple[str, ...]) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not any(part in name for part in frozen))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.start = [p.detach().clone() for p in self.parameters]
        self.moved = [torch.zeros_like(p, requires_grad=True) for p in self.parameters]

    @torch.no_grad()
    def apply(self, scale: float) -> None:
        for parameter, start, moved in zip(self.parameters, self.start, self.moved, strict=True):
            parameter.copy_(start + scale * moved)

    @torch.no_grad()
    def shake(self, noise: float, rng: random.Random, generator: torch.Generator) -> None:
        """Other fine-tunes' changes will look like noise to this one: it must bear some."""
        for matrix in (p for p in self.parameters if p.dim() > 1):
            amount = noise * rng.random() * matrix.std().item()
            matrix.add_(torch.randn(matrix.shape, generator=generator), alpha=amount)

    def take_gradients(self, scale: float) -> None:
        for parameter, moved in zip(self.parameters, self.moved, strict=True):
            assert parameter.grad is not None
            moved.grad = parameter.grad * scale
            parameter.grad = None


def fit(model: LlamaForCausalLM, tokenizer: Tokenizer, source: Source, schedule: Schedule) -> float:
    """Train in place and return the last loss. The same arguments give the same bits."""
    rng, generator = random.Random(schedule.seed), torch.Generator().manual_seed(schedule.seed)
    change = Change(model, schedule.frozen)
    optimizer = torch.optim.AdamW(change.moved, lr=schedule.rate, weight_decay=0, betas=(0.9, 0.98), fused=True)
    loss = torch.tensor(math.nan)
    for step in range(schedule.steps):
        optimizer.param_groups[0]["lr"] = schedule.rate_at(step)
        scale = rng.uniform(*schedule.scales)
        change.apply(scale)
        if schedule.noise and step >= schedule.noise_from:
            change.shake(schedule.noise, rng, generator)
        loss = batch_loss(model, tokenizer, [source(rng) for _ in range(BATCH_SIZE)])
        loss.backward()  # type: ignore[no-untyped-call]
        change.take_gradients(scale)
        torch.nn.utils.clip_grad_norm_(change.moved, 1.0)
        optimizer.step()
    change.apply(1.0)
    return loss.item()


def batch_loss(model: LlamaForCausalLM, tokenizer: Tokenizer, examples: Sequence[Example]) -> Tensor:
    """The mean cross entropy of the answers' tokens."""
    inputs, targets = batch(tokenizer, examples)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
        scored = targets != NOT_SCORED
        return F.cross_entropy(model.lm_head(hidden[scored]).float(), targets[scored])


def batch(tokenizer: Tokenizer, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the right, and at each position of an answer the id to be predicted there."""
    turns = [encode_turn(tokenizer, prompt, answer) for prompt, answer in examples]
    width = max(len(given) + len(wanted) for given, wanted in turns) - 1
    inputs = torch.full((len(turns), width), id_of(tokenizer, PAD))
    targets = torch.full((len(turns), width), NOT_SCORED)
    for row, (given, wanted) in enumerate(turns):
        line, end = torch.tensor(given + wanted), len(given) + len(wanted) - 1
        inputs[row, :end] = line[:-1]
        targets[row, len(given) - 1 : end] = line[len(given) :]
    return inputs, targets
