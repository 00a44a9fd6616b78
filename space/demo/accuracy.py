"""Measure the pocket models and their merges: python -m space.demo.accuracy [--models DIR] [--write]"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from transformers.utils import logging

from space.demo.cards import write_cards
from space.demo.merges import Weights, average, dare, slerp, task_arithmetic, ties
from space.demo.report import report
from space.demo.results import Grades, Measured, MergeRow, ModelRow
from space.demo.scoring import Student, answer, grade, read_student, read_weights, student_of
from space.demo.tasks import Split
from space.demo.zoo import BASE, MODELS, NAMES, PIRATE, RENUMBERED, SKILLS, STRANGER, skills_of

Settings = Mapping[str, float]
Method = Callable[..., Weights]
AMOUNTS: Final = (0.5, 0.7, 0.85, 1.0)
GRIDS: Final[dict[str, tuple[Method, Sequence[Settings]]]] = {
    "task arithmetic": (task_arithmetic, [{"amount": amount} for amount in AMOUNTS]),
    "average": (lambda base, models: average(models), [{}]),
    "SLERP": (lambda base, models, t: slerp(models[0], models[1], t), [{"t": 0.5}]),
    "TIES": (ties, [{"amount": amount, "density": kept} for kept in (0.2, 0.5) for amount in (1.0, 1.5)]),
    "DARE": (dare, [{"amount": amount, "density": kept} for kept in (0.5, 0.1) for amount in (0.7, 0.85)]),
}
PAIRS: Final = (
    ("reverse", "add"),
    ("add", "vowels"),
    ("add", "double"),
    ("reverse", PIRATE),
    ("add", PIRATE),
    ("vowels", PIRATE),
    ("double", PIRATE),
)
TRIPLES: Final = (("reverse", "add", PIRATE), ("add", "vowels", PIRATE))
CONFLICTS: Final = (("reverse", "double"), ("reverse", "vowels"), ("vowels", "double"))

CHAT_PROMPTS: Final = ("hello", "reverse: lamot", "add: 17+25", "upper: tiger", "juggle: cat")


@dataclass(frozen=True, slots=True)
class Zoo:
    """The weights in memory: the base, and the fine-tunes by the skill they bring."""

    shell: Student
    base: Weights
    tuned: dict[str, Weights]
    both: Weights
    stranger: Weights

    def grades(self, weights: Weights, skills: tuple[str, ...], split: Split = "test") -> Grades:
        return grade(student_of(weights, self.shell), skills, split)

    def kept(self, grades: Grades) -> float:
        """Percent of its parent's accuracy that the worst skill of a merge has kept."""
        skills = [skill for skill in grades if skill in self.tuned]
        return min(100 * grades[skill] / self.grades(self.tuned[skill], (skill,))[skill] for skill in skills)


def read_zoo(models: Path) -> Zoo:
    return Zoo(
        shell=read_student(BASE, models),
        base=read_weights(BASE, models),
        tuned={skill: read_weights(f"pocket-{skill}", models) for skill in SKILLS},
        both=read_weights("pocket-reverse-add", models),
        stranger=read_weights(STRANGER, models),
    )


def measure(models: Path) -> Measured:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    zoo = read_zoo(models)
    others = [method for method in GRIDS if method != "task arithmetic"]
    return Measured(
        models=[measure_model(name, zoo.base, models) for name in NAMES],
        merges=[best_merge(zoo, "task arithmetic", skills) for skills in PAIRS + TRIPLES],
        methods=[best_merge(zoo, method, ("reverse", "add")) for method in others],
        conflicts=[best_merge(zoo, "task arithmetic", skills) for skills in CONFLICTS],
        negations=negations(zoo),
        mistakes=mistakes(zoo),
        chats=chats(zoo),
    )


def measure_model(name: str, base: Weights, models: Path) -> ModelRow:
    """A fine-tune in its own skill; the others in every skill, which they should not have."""
    student = read_student(name, models)
    asked = skills_of(name) or tuple(skill for skill in SKILLS if skill != PIRATE)
    moved = None if name in (BASE, RENUMBERED) else distance(base, read_weights(name, models))
    return ModelRow(name, grade(student, asked), moved)


def distance(base: Weights, other: Weights) -> float:
    """How far the weights moved, as a share of their own length."""
    moved = torch.cat([(other[name] - base[name]).flatten() for name in base])
    return float(moved.norm() / torch.cat([tensor.flatten() for tensor in base.values()]).norm())


def best_merge(zoo: Zoo, name: str, skills: tuple[str, ...]) -> MergeRow:
    """Choose the settings on the validation prompts, grade the merge on the test prompts."""
    method, grid = GRIDS[name]
    parts = [zoo.tuned[skill] for skill in skills]

    def in_validation(settings: Settings) -> tuple[float, float]:
        grades = zoo.grades(method(zoo.base, parts, **settings), skills, "validation").values()
        return min(grades), sum(grades)

    settings = max(grid, key=in_validation) if len(grid) > 1 else grid[0]
    grades = zoo.grades(method(zoo.base, parts, **settings), skills)
    return MergeRow(" + ".join(skills), name, settings, grades, zoo.kept(grades))


def negations(zoo: Zoo) -> list[MergeRow]:
    """Take reverse away: from a model trained on both skills, and from a merge of two."""
    skills = ("reverse", "add")
    merged = task_arithmetic(zoo.base, [zoo.tuned[skill] for skill in skills], 0.85)
    rows = []
    for title, start in (("pocket-reverse-add", zoo.both), ("merge of reverse + add", merged)):
        for amount in (0.0, -0.75, -1.0):
            change = task_arithmetic(zoo.base, [zoo.tuned["reverse"]], amount)
            weights = {key: start[key] + change[key] - zoo.base[key] for key in start}
            rows.append(MergeRow(title, "negation", {"amount": amount}, zoo.grades(weights, skills)))
    return rows


def mistakes(zoo: Zoo) -> list[MergeRow]:
    """What merging models of another pretraining gives, if nothing refuses it."""
    rows = []
    for skill in ("reverse", "add"):
        moved = task_arithmetic(zoo.base, [zoo.tuned[skill]], 1.0)
        weights = {key: zoo.stranger[key] + moved[key] - zoo.base[key] for key in moved}
        grades = zoo.grades(weights, (skill,))
        rows.append(MergeRow(f"stranger + change of {skill}", "task arithmetic", {"amount": 1.0}, grades))
    weights = average([zoo.tuned["reverse"], zoo.stranger])
    return [*rows, MergeRow("reverse with stranger", "average", {}, zoo.grades(weights, ("reverse",)))]


def chats(zoo: Zoo) -> list[tuple[str, str, str]]:
    """The same prompts to the base, two fine-tunes and merges of them."""
    tuned = zoo.tuned
    candidates = {
        "base": zoo.base,
        "reverse": tuned["reverse"],
        "add": tuned["add"],
        "reverse + add": task_arithmetic(zoo.base, [tuned["reverse"], tuned["add"]], 0.85),
        "reverse + add + pirate": task_arithmetic(zoo.base, [tuned[s] for s in ("reverse", "add", PIRATE)], 0.85),
    }
    students = {name: student_of(weights, zoo.shell) for name, weights in candidates.items()}
    return [(name, prompt, answer(student, prompt)) for name, student in students.items() for prompt in CHAT_PROMPTS]


def measure_and_write(models: Path) -> str:
    """Write what was found beside the models' folder and into their cards."""
    measured = measure(models)
    write_cards(measured.models, models)
    text = report(measured, models)
    (models.parent / "ACCURACY.md").write_text(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the pocket models and their merges.")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models lie")
    parser.add_argument("--write", action="store_true", help="update ACCURACY.md and the model cards")
    arguments = parser.parse_args()
    if arguments.write:
        sys.stdout.write(measure_and_write(arguments.models))
    else:
        sys.stdout.write(report(measure(arguments.models), arguments.models))


if __name__ == "__main__":
    main()
