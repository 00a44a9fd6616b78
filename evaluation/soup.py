"""Soups: the mean of several fine-tunes of one model, of all of them or of those that make it better (Wortsman 2022).

Every soup that is tried is merged anew from its members, so that it has the bits of the engine's `linear` merge of
them; a running mean would round at every step. The engine reads its members block by block, and on a streaming bench
writes one soup at a time to disk, where transformers reads it.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from evaluation.examine import Examine
from evaluation.held_out import HeldOut
from evaluation.objective import Objective
from evaluation.scoring import Scoring
from evaluation.subject import Subject, model_alone, soup_of
from merging.errors import MergeError
from merging.recipe import MAX_MODELS, ModelRef, Recipe


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a candidate: the score with it and without it, as the objective measures them."""

    model: ModelRef
    alone: float
    before: float | None  # of the soup it was to be added to; None for the first, which begins the soup
    together: float  # of the soup with it
    added: bool
    members: tuple[ModelRef, ...]  # of the soup afterwards

    @property
    def why(self) -> str:
        if self.before is None:
            return f"the best alone, at {self.alone:.4g}"
        verb, how = ("added", "not worse than") if self.added else ("refused", "worse than")
        return f"{verb}: with it {self.together:.4g}, {how} {self.before:.4g} without it"


@dataclass(frozen=True, slots=True)
class Soup:
    """A greedy soup, and the log of how it came about."""

    objective: Objective
    members: tuple[ModelRef, ...]  # in the order in which they were added
    value: float
    tried: tuple[Tried, ...]
    uniform: float  # the score of the soup of all candidates

    @property
    def recipe(self) -> Recipe:
        return soup_of(self.members)


def greedy_soup(
    models: Sequence[ModelRef], held_out: HeldOut, examine: Examine, objective: Objective
) -> Generator[Scoring | Tried, None, Soup]:
    """Begin with the best alone; take each of the others, the best first, unless the soup gets worse with it.

    On this set and by this objective, the soup is never worse than the best of its candidates.
    """
    if not 2 <= len(set(models)) == len(models) <= MAX_MODELS:
        raise MergeError(f"A soup takes 2 to {MAX_MODELS} different models; {len(models)} are given.")
    alone = {}
    for model in models:
        alone[model] = yield from examine(model_alone(model), held_out)
    first, *others = sorted(models, key=lambda model: -objective.gain(alone[model]))
    best, members = alone[first], [first]
    start = objective.value(best)
    tried = [Tried(first, start, None, start, True, (first,))]
    yield tried[-1]
    for model in others:
        together = yield from examine(soup(*members, model), held_out)
        before, added = objective.value(best), objective.gain(together) >= objective.gain(best)
        if added:
            best, members = together, [*members, model]
        tried.append(
            Tried(model, objective.value(alone[model]), before, objective.value(together), added, tuple(members))
        )
        yield tried[-1]
    uniform = yield from examine(soup(*models), held_out)
    return Soup(objective, tuple(members), objective.value(best), tuple(tried), objective.value(uniform))


def soup(*models: ModelRef) -> Subject:
    return Subject(f"soup of {len(models)}", soup_of(models))
