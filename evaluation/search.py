"""Searches the values of a recipe on a validation set: on a grid, or by Optuna's TPE and CMA-ES; can be gone on with.

The set that reports is no argument of anything here. A trial costs a merge and its scores; what was tried is kept in
SQLite by Optuna, and a search that is given again goes on after its last trial.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from evaluation.dials import Dial, turned, values_in
from evaluation.examine import Examine
from evaluation.held_out import HeldOut, digest
from evaluation.lock import alone
from evaluation.objective import Objective
from evaluation.scoring import Scoring
from evaluation.subject import Subject
from merging.errors import MergeError
from merging.recipe import Recipe, to_yaml

Sampler = Literal["grid", "tpe", "cma-es"]
MAX_TRIALS = 10_000
RUNS_ALREADY = (
    "The same search runs already, in another process. Wait for its end, or stop it: this one then goes on from there."
)
DIGITS = 3  # of a value behind the point: no lambda is known better


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched, and how. Two that are equal go on with each other's trials, on the same validation set."""

    recipe: Recipe
    dials: tuple[Dial, ...]
    objective: Objective = Objective()  # noqa: RUF009  frozen
    sampler: Sampler = "tpe"
    steps: int = 5  # of a grid, from the lower to the upper bound of each dial
    seed: int = 0

    def name(self, validation: HeldOut) -> str:
        dials = [[dial.name, dial.low, dial.high] for dial in self.dials]
        told = [to_yaml(self.recipe), dials, str(self.objective), self.sampler, self.seed, validation.sha256]
        return digest([*told, self.steps if self.sampler == "grid" else 0])[:24]

    def grid(self) -> list[tuple[float, ...]]:
        """Every point, the first dial slowest."""
        lines = [
            [rounded(d.low + (d.high - d.low) * i / (self.steps - 1)) for i in range(self.steps)] for d in self.dials
        ]
        return list(product(*lines))


@dataclass(frozen=True, slots=True)
class Budget:
    """Where a search ends, whichever comes first; trials of earlier runs count, their time does not."""

    trials: int = 50
    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Trial:
    """One merge: its values, in the order of the dials, and its scores on the validation set."""

    number: int  # from 0
    values: tuple[float, ...]
    value: float  # of the objective
    tasks: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far."""

    search: Search
    trials: tuple[Trial, ...]
    earlier: int  # of them, from runs before this one

    @property
    def best(self) -> Trial:
        """The first of the best."""
        sign = 1 if self.search.objective.measure.more_is_better else -1
        return max(self.trials, key=lambda trial: (sign * trial.value, -trial.number))

    @property
    def recipe(self) -> Recipe:
        """The recipe with the values of the best trial."""
        return turned(self.search.recipe, self.search.dials, self.best.values)


def run_search(
    search: Search, validation: HeldOut, examine: Examine, storage: Path, budget: Budget
) -> Generator[Scoring | Trial, None, Found]:
    """Yields every trial when it is done. Leaving the loop stops the search; the trial under way is not counted."""
    check(search, budget)
    with studied(search, validation, storage) as study:
        known, began = trials_of(study), time.monotonic()
        earlier = len(known)
        while len(known) < budget.trials and (time.monotonic() - began < budget.seconds or not known):
            if (asked := ask(study, search, known)) is None:
                break
            known.append((yield from attempt(study, asked, search, validation, examine)))
            yield known[-1]
        return Found(search, tuple(known), earlier)


def check(search: Search, budget: Budget) -> None:
    if not 1 <= budget.trials <= MAX_TRIALS or not budget.seconds > 0:
        raise MergeError(f"A search takes 1 to {MAX_TRIALS:,} trials, and some time.")
    if search.sampler == "cma-es" and len(search.dials) < 2:
        raise MergeError("CMA-ES searches two values or more; here is one. Take tpe or grid.")
    if search.sampler == "grid":
        if search.steps < 2:
            raise MergeError("A grid needs two steps or more for each value.")
        if (points := search.steps ** len(search.dials)) > MAX_TRIALS:
            raise MergeError(f"A grid of {search.steps} steps for {len(search.dials)} values has {points:,} points; at "
                             f"most {MAX_TRIALS:,} are tried. Take fewer steps, or tpe.")  # fmt: skip


@contextmanager
def studied(search: Search, validation: HeldOut, storage: Path) -> Iterator[Any]:
    """Optuna's study of this search, with what is known of it; trials that a kill left half done are given up.

    Raises MergeError where it is open already: two would give up each other's trials.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = search.name(validation)
    with ExitStack() as opened:
        try:
            opened.enter_context(alone(storage.resolve().with_name(f"{storage.name}.{name}.lock"), RUNS_ALREADY))
            kept = optuna.storages.RDBStorage(f"sqlite:///{storage}")
        except (OSError, SQLAlchemyError, RuntimeError) as e:
            raise MergeError(
                f"The trials cannot be kept in {storage}: {str(e).splitlines()[0]}. Name another file."
            ) from None
        opened.callback(kept.engine.dispose)
        opened.callback(kept.remove_session)
        direction: Literal["maximize", "minimize"] = (
            "maximize" if search.objective.measure.more_is_better else "minimize"
        )
        study = optuna.create_study(storage=kept, study_name=name, direction=direction, load_if_exists=True)
        for left in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(left.number, state=optuna.trial.TrialState.FAIL)
        study.sampler = sampler_of(search, len(study.trials))
        yield study


def sampler_of(search: Search, begun: int) -> Any:
    """A source of chance that does not begin again where a search is gone on with."""
    import optuna

    if search.sampler == "cma-es":
        return optuna.samplers.CmaEsSampler(seed=search.seed + begun, warn_independent_sampling=False)
    return optuna.samplers.TPESampler(seed=search.seed + begun)


def trials_of(study: Any) -> list[Trial]:
    import optuna

    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return [
        Trial(n, tuple(one.user_attrs["values"]), one.value, one.user_attrs["tasks"], one.user_attrs["seconds"])
        for n, one in enumerate(done)
    ]


def ask(study: Any, search: Search, known: Sequence[Trial]) -> Any:
    """The next trial; None where a grid has no other point. What the recipe has now is tried first."""
    import optuna

    tried = {trial.values for trial in known}
    given = values_in(search.recipe, search.dials)
    if not known and given is not None:
        enqueue(study, search.dials, given)
    elif search.sampler == "grid":
        rest = (point for point in search.grid() if point not in tried)
        if (point := next(rest, None)) is None:
            return None
        enqueue(study, search.dials, point)
    return study.ask({dial.name: optuna.distributions.FloatDistribution(dial.low, dial.high) for dial in search.dials})


def enqueue(study: Any, dials: Sequence[Dial], values: Sequence[float]) -> None:
    study.enqueue_trial({dial.name: value for dial, value in zip(dials, values, strict=True)})


def attempt(
    study: Any, asked: Any, search: Search, validation: HeldOut, examine: Examine
) -> Generator[Scoring, None, Trial]:
    import optuna

    number, began = len(trials_of(study)), time.monotonic()
    values = tuple(rounded(asked.params[dial.name]) for dial in search.dials)
    subject = Subject(f"trial {number + 1}", turned(search.recipe, search.dials, values))
    try:
        marks = yield from examine(subject, validation)
    except BaseException:
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        raise
    tasks, seconds = search.objective.by_task(marks), round(time.monotonic() - began, 3)
    for key, value in (("values", values), ("tasks", tasks), ("seconds", seconds)):
        asked.set_user_attr(key, value)
    found = search.objective.value(marks)
    study.tell(asked, found)
    return Trial(number, values, found, tasks, seconds)


def rounded(value: float) -> float:
    return round(value, DIGITS)


def pareto(found: Found, first: str, second: str) -> list[Trial]:
    """The trials that none beats at one of two tasks without losing at the other, the best at the first task first."""
    sign = 1 if found.search.objective.measure.more_is_better else -1
    ordered = sorted(found.trials, key=lambda one: (-sign * one.tasks[first], -sign * one.tasks[second], one.number))
    front: list[Trial] = []
    for trial in ordered:
        if not front or sign * trial.tasks[second] > sign * front[-1].tasks[second]:
            front.append(trial)
    return front
