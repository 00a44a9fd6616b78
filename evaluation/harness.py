"""Tasks of EleutherAI's lm-evaluation-harness by name, where it is installed."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.reader import Single
from evaluation.statistics import RESAMPLES
from merging.errors import MergeError

PACKAGE = "lm_eval"
WAY_OUT = "Install it: pip install -r requirements-harness.txt."


@dataclass(frozen=True, slots=True)
class HarnessScore:
    """As the harness reports it; its interval is 1.96 standard errors each way."""

    task: str
    metric: str
    value: float
    error: float | None


def is_installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def refuse_without_harness() -> None:
    if not is_installed():
        raise MergeError(f"lm-evaluation-harness is not installed, and its tasks need it. {WAY_OUT}")


def run_tasks(
    reader: Single, tasks: Sequence[str], *, limit: int | None = None, include: str | None = None
) -> list[HarnessScore]:
    """`limit` is of examples for each task; `include` a folder with tasks of one's own. Raises MergeError where a task
    is not known."""
    refuse_without_harness()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include)
    if unknown := [task for task in tasks if task not in manager.all_tasks]:
        raise MergeError(f"lm-evaluation-harness has no task {unknown[0]!r}. Its list: lm-eval ls tasks.")
    model = HFLM(pretrained=reader.model, tokenizer=reader.tokenizer)
    found = simple_evaluate(model, tasks=list(tasks), limit=limit, task_manager=manager, bootstrap_iters=RESAMPLES)
    return [score for task, values in found["results"].items() for score in scores_in(task, values)]


def scores_in(task: str, values: Mapping[str, Any]) -> list[HarnessScore]:
    """Keys are `metric,filter`; the standard error of each is `metric_stderr,filter`."""
    numbers = {key: value for key, value in values.items() if "," in key and isinstance(value, int | float)}
    found = []
    for key, value in numbers.items():
        metric, _, kind = key.partition(",")
        if not metric.endswith("_stderr"):
            error = numbers.get(f"{metric}_stderr,{kind}")
            found.append(HarnessScore(task, metric, float(value), None if error is None else float(error)))
    return found
