"""What is measured of a model on held-out examples, from its logits."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.claims.llama import Weights, forward
from benchmarks.claims.tasks import ALPHABETS, LENGTH, NAMES, SYMBOLS, VOCABULARY, Examples, Skill, draw

BINS = 15
TEST, VALIDATION = 2000, 1000  # examples
FIRST = {"test": 2 * 10**9, "validation": 3 * 10**9}  # seeds that no training has; torch takes 32 bits


@cache
def exam(skills: tuple[Skill, ...], split: str = "test", noise: float = 0.0, length: int = LENGTH) -> Examples:
    """The same examples whenever they are asked for."""
    count = TEST if split == "test" else VALIDATION
    seed = FIRST[split] + sum(ALPHABETS * NAMES.index(skill.task) + skill.alphabet for skill in skills)
    return draw(skills, count, Generator().manual_seed(seed), noise, length)


@torch.no_grad()
def logits_of(model: Weights, examples: Examples) -> Tensor:
    return forward({name: tensor[None] for name, tensor in model.items()}, examples.tokens[None])[0]


def accuracy(logits: Tensor, answers: Tensor) -> float:
    """Percent of the answers that are the most likely token."""
    return 100 * float((logits.argmax(-1) == answers).float().mean())


def guessed(examples: Examples) -> float:
    """The accuracy of who names the commonest answer of each skill, whatever the row is."""
    skills = examples.tokens[:, -1] * VOCABULARY + (examples.tokens[:, 0] - len(NAMES)) // SYMBOLS
    counts = torch.zeros(VOCABULARY * VOCABULARY, VOCABULARY)
    counts.index_put_((skills, examples.answers), torch.ones(len(skills)), accumulate=True)
    return 100 * float(counts.amax(1).sum() / len(skills))


def loss(logits: Tensor, answers: Tensor) -> float:
    return float(F.cross_entropy(logits, answers))


def calibration_error(logits: Tensor, answers: Tensor, bins: int = BINS) -> float:
    """How far confidence is from accuracy, in points: the mean over bins of confidence, weighted by their examples."""
    confidence, said = logits.softmax(-1).max(-1)
    right = (said == answers).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add_(0, which, right - confidence)
    return 100 * float(gaps.abs().sum() / len(answers))
