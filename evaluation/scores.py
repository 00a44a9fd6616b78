"""The scores of a model on a held-out set, task by task, as rows for a table, a chart, a program or a card."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.held_out import HeldOut
from evaluation.marks import Marks, of_task, tasks_of
from evaluation.statistics import MEASURES, Interval, intervals
from merging.card_scores import OwnScore, OwnScores
from merging.naming import folder_name


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Of one model on one task, with 95 % intervals. `accuracy` is None where no example has options."""

    task: str
    examples: int
    tokens: int  # of the completions
    nll: Interval
    perplexity: Interval
    exact: Interval
    accuracy: Interval | None
    ece: Interval
    ece_of: str  # options or tokens: whose confidence is compared with how often it is right

    def of(self, measure: str) -> Interval | None:
        found: Interval | None = getattr(self, measure)
        return found


@dataclass(frozen=True, slots=True)
class Scores:
    """One model on one set."""

    label: str
    tasks: tuple[TaskScores, ...]

    def on(self, task: str) -> TaskScores:
        return next(one for one in self.tasks if one.task == task)


@dataclass(frozen=True, slots=True)
class Table:
    """Several models on one set."""

    name: str
    sha256: str
    examples: int
    models: tuple[Scores, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(one.task for one in self.models[0].tasks) if self.models else ()


def scores_of(label: str, marks: Marks) -> Scores:
    return Scores(label, tuple(task_scores(task, of_task(marks, task)) for task in tasks_of(marks)))


def task_scores(task: str, marks: Marks) -> TaskScores:
    chosen = sum(mark.right is not None for mark in marks)
    found = intervals(marks, [one for one in MEASURES.values() if chosen or not one.needs_options])
    of = "options" if chosen == len(marks) else "tokens" if not chosen else "options and tokens"
    return TaskScores(
        task, len(marks), sum(mark.tokens for mark in marks), found["nll"], found["perplexity"], found["exact"],
        found.get("accuracy"), found["ece"], of,
    )  # fmt: skip


def table_of(held_out: HeldOut, models: Sequence[Scores]) -> Table:
    return Table(held_out.name, held_out.sha256, len(held_out.examples), tuple(models))


def table_tree(table: Table) -> dict[str, Any]:
    """For programs."""
    return {
        "set": {"name": table.name, "sha256": table.sha256, "examples": table.examples},
        "models": [{"label": one.label, "tasks": [asdict(task) for task in one.tasks]} for one in table.models],
    }


def flat(table: Table, measures: Iterable[str] = tuple(MEASURES)) -> Iterator[dict[str, Any]]:
    """A row for each model, task and score: what a bar chart or a file of commas takes."""
    names = list(measures)
    for model in table.models:
        for task in model.tasks:
            for name in names:
                if (found := task.of(name)) is not None:
                    yield {
                        "model": model.label, "task": task.task, "score": MEASURES[name].title, "value": found.value,
                        "low": found.low, "high": found.high, "examples": task.examples,
                    }  # fmt: skip


def for_card(table: Table, measures: Sequence[str] = ("nll", "exact", "accuracy")) -> OwnScores:
    """What the card of a merge says about it."""
    rows = [
        OwnScore(
            public(row["model"]), row["task"], row["score"], row["value"], row["low"], row["high"], row["examples"]
        )
        for row in flat(table, measures)
    ]
    return OwnScores(table.name, table.sha256, table.examples, tuple(rows))


def public(label: str) -> str:
    """Without the path of a folder: where it lies is private."""
    return folder_name(Path(label)) if label.startswith(("/", ".", "~")) or Path(label).is_dir() else label
