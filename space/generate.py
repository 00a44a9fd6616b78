"""One model's answer, token by token. Runs in a thread of its own; the page reads how far it is."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from evaluation.loading import context_length, entry_device
from evaluation.prompt import Prompt
from merging.errors import MergeError
from space.reply import ChatOptions, Reply

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer gives for the first bytes of a character


class Voice:
    """A pane's answer as it comes. `generate` puts tokens in; `reply` may be asked for at any time."""

    def __init__(self, label: str, changed: Callable[[], None] = lambda: None) -> None:
        self.label = label
        self.changed = changed
        self.note = self.error = ""
        self.done = False
        self.tokenizer: Any = None
        self.ids: list[int] = []
        self.prompted = False
        self.started = self.latest = 0.0

    def begin(self, tokenizer: Any, note: str) -> None:
        """From the start, also when a first attempt ran out of memory."""
        self.tokenizer, self.note, self.started = tokenizer, note, time.monotonic()
        self.ids, self.prompted = [], False

    def put(self, tokens: Tensor) -> None:
        """Called by `generate`: with the prompt first, then with each token."""
        if self.prompted:
            self.ids.extend(tokens.flatten().tolist())
            self.latest = time.monotonic()
            self.changed()
        self.prompted = True

    def hear(self, ids: Sequence[int], error: str, *, done: bool) -> None:
        """How far an answer is that is written in another process."""
        if len(ids) > len(self.ids):
            self.ids, self.latest = list(ids), time.monotonic()
            self.changed()
        if done:
            self.finish(error)

    def end(self) -> None:
        """Called by `generate` after the last token."""

    def say(self, note: str) -> None:
        self.note = note
        self.changed()

    def finish(self, error: str = "") -> None:
        """The first word on how it ended stays."""
        if self.done:
            return
        if self.tokenizer is None:
            self.note = ""  # it said what was being waited for
        self.error, self.done = error, True
        self.changed()

    def reply(self) -> Reply:
        count, done = len(self.ids), self.done
        text = self.tokenizer.decode(self.ids[:count], skip_special_tokens=True) if count else ""
        if not done:
            text = text.rstrip(UNFINISHED)
        seconds = self.latest - self.started
        return Reply(
            self.label, text, count, count / seconds if count and seconds > 0 else 0.0, done, self.note, self.error
        )


class Stop:
    """Ends a generation at the next token once its event is set."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((ids.shape[0],), self.event.is_set(), device=ids.device, dtype=torch.bool)


class Sample:
    """Draws the next token with a random source of its own: the largest of logits plus Gumbel noise is a fair draw.

    torch's global source would be shared by all answers being written at this moment, so that no seed would hold.
    """

    def __init__(self, options: ChatOptions) -> None:
        self.temperature = options.temperature
        self.top_p = transformers.TopPLogitsWarper(options.top_p) if options.top_p < 1 else None
        self.random = torch.Generator().manual_seed(options.seed)  # on the CPU: the same draw on any device

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float() / self.temperature
        if self.top_p is not None:
            scores = self.top_p(ids, scores)
        noise = torch.empty(scores.shape).exponential_(generator=self.random).log()
        return scores - noise.to(scores.device)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model that answers. `processors` change its next-token scores before one is drawn; they serve one answer."""

    model: Any
    tokenizer: Any
    processors: tuple[Callable[[Tensor, Tensor], Tensor], ...] = ()
    note: str = ""  # to its answers


def generate(speaker: Speaker, prompt: Prompt, options: ChatOptions, voice: Voice, stop: threading.Event) -> None:
    """Answer a prompt into `voice`, until the model ends, the limit is reached or `stop` is set."""
    model, tokenizer = speaker.model, speaker.tokenizer
    room = context_length(model) - prompt.ids.shape[1]
    if room < 1:
        raise MergeError(f"The conversation is {prompt.ids.shape[1]:,} tokens long; this model takes "
                         f"{context_length(model):,}. Clear the chat, or write less.")  # fmt: skip
    ids = prompt.ids.to(entry_device(model))
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=how(model, tokenizer, min(options.max_new_tokens, room)),
            logits_processor=[*speaker.processors, *([Sample(options)] if options.temperature > 0 else [])],
            stopping_criteria=[Stop(stop)],
            streamer=voice,
        )


def how(model: Any, tokenizer: Any, max_new_tokens: int) -> transformers.GenerationConfig:
    """Greedy for transformers: drawing is done by `Sample`. The model's own sampling settings are left out on purpose,
    so that two panes differ by their weights only."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if isinstance(ends, list) else ends
    return transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=pad, use_cache=True
    )
