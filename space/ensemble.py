"""The mean of several models' next-token distributions, token by token. The expensive yardstick for a merge of them:
every model reads every token, and what a merge hopes to reach with the weights of one is had with those of all."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evaluation.loading import entry_device
from evaluation.reader import mean_log_probs
from merging.errors import MergeError
from space.generate import Speaker
from space.models import Loaded


class Reader:
    """A model that reads along, with a cache of its own for what it has read."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache: Any = None
        self.read = 0  # tokens

    def logits(self, ids: Tensor) -> Tensor:
        """Of the token after `ids` (1, tokens), as (1, vocabulary), in float32."""
        fresh = ids[:, self.read :].to(entry_device(self.model))
        out = self.model(
            input_ids=fresh, attention_mask=torch.ones_like(ids, device=fresh.device), past_key_values=self.cache,
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        self.cache, self.read = out.past_key_values, ids.shape[1]
        last: Tensor = out.logits[:, -1]
        return last.float()


class Mean:
    """For `generate` of the first model: its scores and those of the others, as the log of the mean probability."""

    def __init__(self, others: Sequence[Any], weights: Sequence[float]) -> None:
        self.readers = [Reader(model) for model in others]
        self.shares = [weight / sum(weights) for weight in weights]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """`ids` (1, tokens) so far; `scores` (1, vocabulary) of the first model."""
        logits = [scores.float(), *(reader.logits(ids).to(scores.device) for reader in self.readers)]
        return mean_log_probs(logits, self.shares)


def ensemble(models: Sequence[Loaded], weights: Sequence[float]) -> Speaker:
    """One speaker of several models, in which each counts by its weight. The first gives tokenizer and template."""
    first, *others = models
    words = first.tokenizer.get_vocab()
    if any(one.tokenizer.get_vocab() != words for one in others):
        raise MergeError("The parents do not share a tokenizer, so that their next tokens cannot be averaged.")
    return Speaker(first.model, first.tokenizer, (Mean([one.model for one in others], weights),))
