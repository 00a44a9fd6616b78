"""What a claim is: a text, what the paper found, what we measure, and a criterion that was set before looking."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.claims.lab import Lab

Figures = Mapping[str, float]
Criterion = Callable[[Figures], bool]
Verdict = Literal["holds", "does not hold", "not testable"]

MOST = 2 / 3  # of the seeds must meet the criterion, and so must the mean over all


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`measure` gives the figures of one seed."""

    name: str
    group: str  # the file it stands in
    text: str
    source: str  # title and address
    paper: str  # the paper's figure
    criterion: str
    holds: Criterion
    testable: Criterion
    how: str
    measure: Callable[[Lab], Figures]
    amended: str = ""  # what was changed after figures had been seen


CLAIMS: dict[str, Claim] = {}


def claim(
    text: str, *, source: str, paper: str, criterion: str, holds: Criterion, testable: Criterion = lambda f: True,
    amended: str = "",
) -> Callable[[Callable[[Lab], Figures]], Callable[[Lab], Figures]]:  # fmt: skip
    """Register a measurement; its docstring says how it is made."""

    def register(measure: Callable[[Lab], Figures]) -> Callable[[Lab], Figures]:
        how = " ".join((measure.__doc__ or "").split())
        name = measure.__name__.replace("_", " ")
        CLAIMS[name] = Claim(
            name=name, group=measure.__module__.rpartition(".")[2], text=text, source=source, paper=paper,
            criterion=criterion, holds=holds, testable=testable, how=how, measure=measure, amended=amended,
        )  # fmt: skip
        return measure

    return register


def means(runs: Sequence[Figures]) -> dict[str, float]:
    return {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}


def met(claim: Claim, runs: Sequence[Figures]) -> int:
    """The seeds whose own figures meet the criterion."""
    return sum(claim.holds(run) for run in runs)


def verdict(claim: Claim, runs: Sequence[Figures]) -> Verdict:
    middle = means(runs)
    if not claim.testable(middle):
        return "not testable"
    return "holds" if claim.holds(middle) and met(claim, runs) >= MOST * len(runs) else "does not hold"
