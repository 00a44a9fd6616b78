"""What a model got on each example: all that any score is made of, as plain numbers that can be kept."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of the confidence, as wide as each other: those of Guo et al. 2017

Floats = NDArray[np.float64]
ConfidenceOf = Literal["options", "tokens"]


@dataclass(frozen=True, slots=True)
class Bin:
    """How often a confidence was in one bin, with the sum of these confidences, and how often it was right."""

    number: int
    count: int
    confidence: float
    right: int


@dataclass(frozen=True, slots=True)
class Mark:
    """One example."""

    task: str
    nll: float  # of the completion: the sum over its tokens, in nats
    tokens: int
    exact: bool  # greedy decoding writes the completion
    right: bool | None  # the completion is the likeliest of the options; None where there are none
    bins: tuple[Bin, ...]  # of the choice among the options, or of the next token at each place


Marks = tuple[Mark, ...]


def binned(confidences: Sequence[float], rights: Sequence[bool]) -> tuple[Bin, ...]:
    """Only the bins that have something."""
    found: dict[int, Bin] = {}
    for confidence, right in zip(confidences, rights, strict=True):
        number = min(int(confidence * BINS), BINS - 1)
        old = found.get(number, Bin(number, 0, 0.0, 0))
        found[number] = Bin(number, old.count + 1, old.confidence + confidence, old.right + right)
    return tuple(found[number] for number in sorted(found))


def to_json(marks: Marks) -> str:
    return json.dumps([astuple(mark) for mark in marks])


def from_json(text: str) -> Marks:
    rows = json.loads(text)
    return tuple(
        Mark(task, nll, tokens, exact, right, tuple(Bin(*one) for one in bins))
        for task, nll, tokens, exact, right, bins in rows
    )


def of_task(marks: Marks, task: str) -> Marks:
    return tuple(mark for mark in marks if mark.task == task)


def tasks_of(marks: Marks) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mark.task for mark in marks))


# Every score is a function of sums over the examples: a row of these columns for each.
COUNT, NLL, TOKENS, EXACT, CHOSEN, RIGHT = range(6)
CONFIDENCES = 6  # where the bins begin: counts, sums of confidence, rights
COLUMNS = CONFIDENCES + 3 * BINS


def columns(marks: Marks) -> Floats:
    """What is summed, [examples, columns]."""
    found = np.zeros((len(marks), COLUMNS))
    for row, mark in zip(found, marks, strict=True):
        row[:CONFIDENCES] = (1, mark.nll, mark.tokens, mark.exact, mark.right is not None, bool(mark.right))
        for one in mark.bins:
            row[CONFIDENCES + one.number :: BINS] = (one.count, one.confidence, one.right)
    return found
