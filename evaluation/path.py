"""The loss on the straight line between two models: whether they lie in one basin, and what a share of each costs.

Above the chord, which is the loss one would expect from the ends, there is a barrier (Frankle et al. 2020). Between a
base and its aligned model, the same points are the curve of what alignment costs each task.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.examine import Examine
from evaluation.held_out import HeldOut
from evaluation.marks import Floats, Marks, columns, of_task, tasks_of
from evaluation.scores import Scores, scores_of
from evaluation.scoring import Scoring
from evaluation.statistics import Interval, bounds, mean_nll, resampled
from evaluation.subject import Subject
from merging.errors import MergeError
from merging.recipe import Input, ModelRef, Recipe

LEAST, POINTS, MOST = 3, 7, 101


@dataclass(frozen=True, slots=True)
class Barrier:
    """Of one task. The height is that of the point that lies highest above the chord, in nats per token; below 0 where
    all inner points lie below it. Its interval is from the same resampled examples at every point."""

    task: str
    height: Interval
    at: float  # the share of the second model there

    @property
    def is_clear(self) -> bool:
        return self.height.low > 0


@dataclass(frozen=True, slots=True)
class Path:
    """The scores at each point, and how they compare with the chord."""

    first: ModelRef
    second: ModelRef
    shares: tuple[float, ...]  # of the second model, from 0 to 1
    points: tuple[Scores, ...]
    barriers: tuple[Barrier, ...]  # one for each task

    def losses(self, task: str) -> list[float]:
        return [point.on(task).nll.value for point in self.points]

    def chord(self, task: str) -> list[float]:
        """The straight line between the losses at the ends."""
        losses = self.losses(task)
        return [(1 - share) * losses[0] + share * losses[-1] for share in self.shares]


def between(first: ModelRef, second: ModelRef, share: float) -> Recipe:
    """Of the second model this share, of the first the rest."""
    return Recipe("linear", (Input(first, {"weight": 1 - share}), Input(second, {"weight": share})))


def walk(
    first: ModelRef, second: ModelRef, held_out: HeldOut, examine: Examine, points: int = POINTS
) -> Generator[Scoring | Scores, None, Path]:
    """Yields the scores at each point as they come, from the first model to the second."""
    if not LEAST <= points <= MOST:
        raise MergeError(f"A path has {LEAST} to {MOST} points; {points} were asked for.")
    if first == second:
        raise MergeError(f"Both ends of the path are {first}. Give two models.")
    shares = tuple(i / (points - 1) for i in range(points))
    marks, scores = [], []
    for share in shares:
        subject = Subject(f"{share:.0%} of {second}", between(first, second, share))
        marks.append((yield from examine(subject, held_out)))
        scores.append(scores_of(subject.label, marks[-1]))
        yield scores[-1]
    barriers = tuple(barrier(task, shares, [of_task(one, task) for one in marks]) for task in tasks_of(marks[0]))
    return Path(first, second, shares, tuple(scores), barriers)


def barrier(task: str, shares: Sequence[float], marks: Sequence[Marks]) -> Barrier:
    rows = [columns(one) for one in marks]
    whole = above_chord(shares, [mean_nll(one.sum(0)) for one in rows])
    again = above_chord(shares, [mean_nll(resampled(one)) for one in rows])
    highest = int(whole.argmax())
    return Barrier(task, Interval(float(whole[highest]), *bounds(again.max(0))), shares[highest + 1])


def above_chord(shares: Sequence[float], losses: Sequence[Floats]) -> Floats:
    """How far each inner point lies above the line between the ends: [inner points, ...]."""
    inner = [loss - (1 - share) * losses[0] - share * losses[-1] for share, loss in zip(shares, losses, strict=True)]
    return np.stack(inner[1:-1])
