"""What the models learn: tasks on rows of symbols, each in several alphabets, with an answer of one symbol."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SYMBOLS: Final = 10  # in each alphabet, in an order of its own tokens
ALPHABETS: Final = 4
LENGTH: Final = 6  # symbols in a row
LONGER: Final = 8  # in the rows of the shifted test

TASKS: Final[dict[str, Callable[[Tensor], Tensor]]] = {  # rows of ranks -> the rank of the answer
    "largest": lambda rows: rows.amax(1),
    "smallest": lambda rows: rows.amin(1),
    "second": lambda rows: rows.sort().values[:, -2],
    "median": lambda rows: rows.sort().values[:, (rows.shape[1] - 1) // 2],
    "range": lambda rows: rows.amax(1) - rows.amin(1),
    "distinct": lambda rows: F.one_hot(rows, SYMBOLS).amax(1).sum(1),
    "above": lambda rows: (rows > rows[:, :1]).sum(1),
    "after": lambda rows: (rows[:, 0] + 1) % SYMBOLS,
}
NAMES: Final = tuple(TASKS)
VOCABULARY: Final = len(TASKS) + ALPHABETS * SYMBOLS


class Skill(NamedTuple):
    """A task in one alphabet."""

    task: str
    alphabet: int

    def __str__(self) -> str:
        return f"{self.task}-{'abcd'[self.alphabet]}"


# Left out of pretraining, which has the task in other alphabets, and other tasks in this one.
SQUARE: Final = tuple(Skill(task, alphabet) for task in ("second", "median") for alphabet in (2, 3))
HELD_OUT: Final = (*SQUARE, Skill("range", 1), Skill("distinct", 0))
KNOWN: Final = tuple(s for t in NAMES for a in range(ALPHABETS) if (s := Skill(t, a)) not in HELD_OUT)


class Examples(NamedTuple):
    """Rows of tokens, the task's name last, and the token of each answer."""

    tokens: Tensor
    answers: Tensor


def draw(skills: Sequence[Skill], count: int, chance: Generator, noise: float = 0.0, length: int = LENGTH) -> Examples:
    """Examples of some skills; a share of `noise` gets any symbol for an answer."""
    rows = torch.randint(SYMBOLS, (count, length), generator=chance)
    which = torch.randint(len(skills), (count,), generator=chance)
    tasks = torch.tensor([NAMES.index(skill.task) for skill in skills])[which]
    first = len(TASKS) + SYMBOLS * torch.tensor([skill.alphabet for skill in skills])[which]
    right = torch.stack([answer(rows) for answer in TASKS.values()])[tasks, torch.arange(count)]
    wrong = torch.rand(count, generator=chance) < noise
    answers = torch.where(wrong, torch.randint(SYMBOLS, (count,), generator=chance), right)
    return Examples(torch.cat([rows + first[:, None], tasks[:, None]], 1), answers + first)
