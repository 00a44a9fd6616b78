"""What a soup or a search makes as good as it can: one score, as the mean over the tasks or of the worst of them."""

from dataclasses import dataclass
from typing import Literal

from evaluation.marks import CHOSEN, Marks, columns, of_task, tasks_of
from evaluation.statistics import MEASURES, Measure
from merging.errors import MergeError

Over = Literal["mean", "worst"]


@dataclass(frozen=True, slots=True)
class Objective:
    """`gain` is more where a model is better, whatever is measured."""

    name: str = "nll"
    over: Over = "mean"

    @property
    def measure(self) -> Measure:
        return MEASURES[self.name]

    def by_task(self, marks: Marks) -> dict[str, float]:
        """Raises MergeError where there are tasks of which the score says nothing."""
        rows = {task: columns(of_task(marks, task)).sum(0) for task in tasks_of(marks)}
        if self.measure.needs_options and (missing := [task for task, row in rows.items() if not row[CHOSEN]]):
            raise MergeError(
                f"The task {missing[0]} has no options to choose from. Choose another score than {self.name}."
            )
        return {task: float(self.measure.of(row)) for task, row in rows.items()}

    def value(self, marks: Marks) -> float:
        """As it is measured: an NLL is smaller where it is better."""
        values = list(self.by_task(marks).values())
        if self.over == "mean":
            return sum(values) / len(values)
        return min(values) if self.measure.more_is_better else max(values)

    def gain(self, marks: Marks) -> float:
        return self.value(marks) if self.measure.more_is_better else -self.value(marks)

    def __str__(self) -> str:
        return f"{self.measure.title}, {'mean over' if self.over == 'mean' else 'worst of'} the tasks"
