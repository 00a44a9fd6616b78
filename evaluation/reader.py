"""What reads text and says how likely each next token is: one model, or the mean of several."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from evaluation.loading import context_length, entry_device
from merging.errors import MergeError


class Reader(Protocol):
    """Something with a tokenizer that tells the log of the probability of every next token."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a turn."""
        ...

    @property
    def context(self) -> int:
        """How many tokens can be read."""
        ...

    @property
    def vocabulary(self) -> int: ...

    def log_probs(self, ids: Tensor, mask: Tensor, places: range) -> Tensor:
        """After the tokens at these places of `ids` [rows, tokens], padded on the right: [rows, places, vocabulary]."""
        ...


@dataclass(frozen=True, slots=True)
class Single:
    """One transformers model."""

    model: Any
    tokenizer: Any

    @property
    def ends(self) -> frozenset[int]:
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return frozenset([] if ends is None else ends if isinstance(ends, list) else [ends])

    @property
    def context(self) -> int:
        return context_length(self.model)

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def log_probs(self, ids: Tensor, mask: Tensor, places: range) -> Tensor:
        """Only the places asked for go through the head: a vocabulary is wide."""
        place, kept = entry_device(self.model), torch.arange(places.start, places.stop)
        can_keep = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        more = {"logits_to_keep": kept.to(place)} if can_keep else {}
        with torch.inference_mode():
            out = self.model(input_ids=ids.to(place), attention_mask=mask.to(place), use_cache=False, **more)
            logits = out.logits if can_keep else out.logits[:, places.start : places.stop]
            found: Tensor = logits.float().log_softmax(-1)
            return found


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The mean of the next-token distributions of several models that share a tokenizer: the expensive yardstick."""

    members: Sequence[Reader]
    shares: Sequence[float]

    @property
    def tokenizer(self) -> Any:
        return self.members[0].tokenizer

    @property
    def ends(self) -> frozenset[int]:
        return self.members[0].ends

    @property
    def context(self) -> int:
        return min(one.context for one in self.members)

    @property
    def vocabulary(self) -> int:
        return max(one.vocabulary for one in self.members)

    def log_probs(self, ids: Tensor, mask: Tensor, places: range) -> Tensor:
        return mean_log_probs([one.log_probs(ids, mask, places).cpu() for one in self.members], self.shares)


def ensemble_of(members: Sequence[Reader], weights: Sequence[float]) -> Ensemble:
    """Each counts by its weight. Raises MergeError where their tokens are not the same."""
    words = members[0].tokenizer.get_vocab()
    if any(one.tokenizer.get_vocab() != words for one in members[1:]):
        raise MergeError("The parents do not share a tokenizer, so that their next tokens cannot be averaged.")
    return Ensemble(members, [weight / sum(weights) for weight in weights])


def mean_log_probs(each: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The log of the mean probability. Some vocabularies are padded with rows that mean nothing: these have none."""
    narrow = min(one.shape[-1] for one in each)
    parts = [
        one[..., :narrow].log_softmax(-1) + torch.tensor(share).log() for one, share in zip(each, shares, strict=True)
    ]
    mean = torch.full_like(each[0], -torch.inf)
    mean[..., :narrow] = torch.stack(parts).logsumexp(0)
    return mean
