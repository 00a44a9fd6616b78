"""Scores a model on a held-out set: reads each completion once, in batches, and marks what the model thinks of it.

What greedy decoding would write is mostly known from that: where the likeliest token is that of the completion all the
way, it writes the completion; where another one leads to other words, it does not. Only in between it has to write.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.held_out import Example
from evaluation.marks import Mark, Marks, binned
from evaluation.reader import Reader
from evaluation.rows import Row, batches, places_of, rows_of
from merging.errors import MergeError

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer gives for the first bytes of a character
VERSION = 1  # of what is marked; marks that were kept before a change of it are not used


@dataclass(frozen=True, slots=True)
class Scoring:
    """How far it is, in texts that were read."""

    done: int
    total: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model thinks of a text: its log-likelihood, and at each token the likeliest one and how likely that is."""

    row: Row
    log_likelihood: float
    end: float  # the log of the probability that the turn ends after it
    likeliest: tuple[int, ...]  # one more than the text has: what comes after it
    confidences: tuple[float, ...]

    @property
    def hits(self) -> list[bool]:
        return [one == other for one, other in zip(self.likeliest, self.row.targets, strict=False)]


def score(reader: Reader, examples: Sequence[Example], label: str = "") -> Generator[Scoring, None, Marks]:
    """A mark for each example, in order; yields how far it is. Leaving the loop stops it."""
    rows = rows_of(reader.tokenizer, examples, reader.context)
    found: dict[tuple[int, str], Reading] = {}
    yield Scoring(0, len(rows), label)
    for batch in batches(rows, reader.vocabulary):
        found |= {(one.row.example, one.row.text): one for one in read(reader, batch)}
        yield Scoring(len(found), len(rows), label)
    return tuple(mark_of(reader, number, example, found) for number, example in enumerate(examples))


def read(reader: Reader, rows: Sequence[Row]) -> list[Reading]:
    """Rows are padded on the right, where nothing that is looked at sees the padding."""
    longest, places = max(len(row.ids) for row in rows), places_of(rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])
    found, ends = reader.log_probs(ids, mask, places), sorted(reader.ends)
    return [
        reading_of(row, ends, found[i, row.places.start - places.start :][: len(row.places)])
        for i, row in enumerate(rows)
    ]


def reading_of(row: Row, ends: Sequence[int], log_probs: Tensor) -> Reading:
    """`log_probs` [tokens of the text + 1, vocabulary]."""
    targets = torch.tensor(row.targets, device=log_probs.device)
    each = log_probs[:-1].gather(1, targets[:, None]).double().sum()
    highest = log_probs.max(-1)
    if not torch.isfinite(highest.values).all():
        raise MergeError("The model gives no numbers: its probabilities are not finite. It cannot be scored.")
    end = float(log_probs[-1, list(ends)].double().logsumexp(0)) if ends else 0.0
    return Reading(row, float(each), end, tuple(highest.indices.tolist()), tuple(highest.values[:-1].exp().tolist()))


def mark_of(reader: Reader, number: int, example: Example, found: Mapping[tuple[int, str], Reading]) -> Mark:
    mine = found[number, example.completion]
    exact = writes(reader, mine)
    nll, tokens = -mine.log_likelihood, len(mine.row.targets)
    if not example.options:
        return Mark(example.task, nll, tokens, exact, None, binned(mine.confidences, mine.hits))
    whole = [likelihood(reader, found[number, one]) for one in example.options]
    likelihoods = torch.tensor(whole, dtype=torch.float64)
    best = int(likelihoods.argmax())
    right = example.options[best] == example.completion
    return Mark(example.task, nll, tokens, exact, right, binned([float(likelihoods.softmax(0)[best])], [right]))


def has_turns(reader: Reader) -> bool:
    """Whether an answer ends where the model ends it: without a template there is no turn, only text that goes on."""
    return bool(reader.tokenizer.chat_template and reader.ends)


def likelihood(reader: Reader, reading: Reading) -> float:
    """Of an option as a whole answer: that the turn ends there is part of it, or `9` would be as likely as `93`."""
    return reading.log_likelihood + (reading.end if has_turns(reader) else 0.0)


def writes(reader: Reader, reading: Reading) -> bool:
    """Whether greedy decoding writes the completion, but for space around it, and with a template ends there."""
    target, must_end = reading.row.text.strip(), has_turns(reader)
    hits, targets = reading.hits, reading.row.targets
    same = hits.index(False) if False in hits else len(targets)
    written, following = list(targets[:same]), reading.likeliest[same]
    for _ in range(2 * len(targets) + 8):
        text = reader.tokenizer.decode(written).strip()
        if following in reader.ends:
            return bool(text == target)
        if not must_end and text == target:
            return True
        written.append(following)
        if not target.startswith(reader.tokenizer.decode(written).strip().rstrip(UNFINISHED)):
            return False
        following = next_token(reader, (*reading.row.ids[: reading.row.start], *written))
    return False


def next_token(reader: Reader, ids: Sequence[int]) -> int:
    last = len(ids) - 1
    found = reader.log_probs(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long), range(last, last + 1))
    return int(found[0, 0].argmax())
