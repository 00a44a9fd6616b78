"""An evaluation as files: JSON as it was kept, commas for a spreadsheet, and scores for a card."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evaluation.scores import public
from evaluation.statistics import MEASURES
from merging.card_scores import OwnScore, OwnScores

Answer = Mapping[str, Any]
ON_CARD = ("nll", "exact", "accuracy")


def to_json(answer: Answer) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=False)


def to_csv(answer: Answer) -> str:
    """A line for each model, task and score; for each trial and task; or for each point and task of a path."""
    lines = list(LINES[answer["what"]](answer))
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: harmless(value) for key, value in line.items()} for line in lines)
    return out.getvalue()


def harmless(value: Any) -> Any:
    """A spreadsheet computes what begins like a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def score_lines(found: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for row in found["rows"] if found else []:
        for task in row["tasks"]:
            for name, measure in MEASURES.items():
                if at := task.get(name):
                    yield {
                        "model": row["label"], "task": task["task"], "score": measure.title, "value": at["value"],
                        "low": at["low"], "high": at["high"], "examples": task["examples"],
                    }  # fmt: skip


def trial_lines(answer: Answer) -> Iterator[dict[str, Any]]:
    for trial in answer.get("trials", []):
        values = dict(zip(answer["dials"], trial["values"], strict=True))
        yield {"trial": trial["number"] + 1, **values, answer["objective"]: trial["value"], **trial["tasks"]}


def point_lines(answer: Answer) -> Iterator[dict[str, Any]]:
    for task, points in answer.get("losses", {}).items():
        for share, at in zip(answer["shares"], points, strict=False):
            yield {"share of " + answer["second"]: round(share, 6), "task": task, "nll": at["value"],
                   "low": at["low"], "high": at["high"]}  # fmt: skip


LINES: Mapping[str, Callable[[Answer], Iterator[dict[str, Any]]]] = {
    "score": lambda answer: score_lines(answer.get("scores")), "search": trial_lines, "path": point_lines,
    "soup": lambda answer: score_lines(answer.get("report")),
}  # fmt: skip


def card_scores(answer: Answer) -> OwnScores | None:
    """What the card of a merge says of it; None where nothing was scored to the end.

    The first row is the merge itself, whatever the search that found it called it.
    """
    found = answer.get("scores")
    if not found or not answer["is_whole"]:
        return None
    rows = [
        OwnScore(
            "The merge" if number == 0 else public(row["label"]), task["task"], MEASURES[name].title,
            task[name]["value"], task[name]["low"], task[name]["high"], task["examples"],
        )
        for number, row in enumerate(found["rows"])
        for task in row["tasks"]
        for name in ON_CARD
        if task.get(name)
    ]  # fmt: skip
    return OwnScores(found["set"]["name"], found["set"]["sha256"], found["set"]["examples"], tuple(rows))
