"""What a measurement finds, before it is written down anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass

Grades = dict[str, float]
"""Percent right by skill; "control" is the mean over the base's own tasks."""


@dataclass(frozen=True, slots=True)
class ModelRow:
    name: str
    grades: Grades
    moved: float | None  # distance from the base, as a share of the weights' length


@dataclass(frozen=True, slots=True)
class MergeRow:
    parts: str
    method: str
    settings: Mapping[str, float]
    grades: Grades
    kept: float | None = None  # percent of its parent's accuracy that the worst kept skill has


@dataclass(frozen=True, slots=True)
class Measured:
    models: list[ModelRow]
    merges: list[MergeRow]
    methods: list[MergeRow]
    negations: list[MergeRow]
    conflicts: list[MergeRow]
    mistakes: list[MergeRow]
    chats: list[tuple[str, str, str]]  # model, prompt, answer
