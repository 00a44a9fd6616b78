"""How soups, searches and paths ask for the marks of something: the bench does it, or in a test a few numbers."""

from collections.abc import Callable, Generator
from typing import TypeVar

from evaluation.held_out import HeldOut
from evaluation.marks import Marks
from evaluation.scoring import Scoring
from evaluation.subject import Subject

Examine = Callable[[Subject, HeldOut], Generator[Scoring, None, Marks]]
Result = TypeVar("Result")


def at_once(steps: "Generator[object, None, Result]") -> Result:
    """Run to the end, without a look at how far it is."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        found: Result = done.value
        return found
