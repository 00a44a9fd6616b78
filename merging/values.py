"""What a recipe may give for a parameter: one value, a gradient over the layers, or a choice by the tensor's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merging.methods.spec import Setting

__all__ = ["Case", "Filtered", "Gradient", "Parameters", "Setting", "Value", "at", "in_words", "is_plain", "plain_tree"]

EVERYTHING = "*"  # mergekit's filter that every tensor passes


@dataclass(frozen=True, slots=True)
class Gradient:
    """Points spread evenly over the layers, with straight lines between them."""

    points: tuple[int | float, ...]

    def at(self, depth: float) -> float:
        """The value at a depth from 0 to 1."""
        place = depth * (len(self.points) - 1)
        before = min(int(place), len(self.points) - 1)
        low, high = self.points[before], self.points[min(before + 1, len(self.points) - 1)]
        return float(low + (place - before) * (high - low))


@dataclass(frozen=True, slots=True)
class Case:
    """A value for the tensors that have `filter` in their names; None is for all."""

    value: "Setting | Gradient"
    filter: str | None = None

    def holds_for(self, tensor: str) -> bool:
        return self.filter is None or self.filter == EVERYTHING or self.filter in tensor


@dataclass(frozen=True, slots=True)
class Filtered:
    """The first case that holds for a tensor decides; there may be none."""

    cases: tuple[Case, ...]


Value = Setting | Gradient | Filtered
Parameters = Mapping[str, Value]


def at(value: Value, tensor: str, depth: float) -> Setting | None:
    """What a value is for one tensor; None where no filter lets it through."""
    match value:
        case Gradient():
            return value.at(depth)
        case Filtered(cases):
            return next((at(case.value, tensor, depth) for case in cases if case.holds_for(tensor)), None)
    return value


def is_plain(value: Value) -> bool:
    """Whether it is the same for every tensor."""
    return not isinstance(value, Gradient | Filtered)


def changes_with_depth(value: Value) -> bool:
    if isinstance(value, Filtered):
        return any(changes_with_depth(case.value) for case in value.cases)
    return isinstance(value, Gradient) and len(set(value.points)) > 1


def plain_tree(value: Value) -> Any:
    """As a recipe has it: numbers, lists and mappings."""
    match value:
        case Gradient(points):
            return list(points)
        case Filtered(cases):
            return [
                ({} if case.filter is None else {"filter": case.filter}) | {"value": plain_tree(case.value)}
                for case in cases
            ]
    return value


def in_words(tree: Any) -> str:
    """A value, as `plain_tree` gives it, in one line: `0 to 0.5 to 1`, or `(mlp: 0.2; else: 1)`."""
    if not isinstance(tree, list):
        return str(tree).lower() if isinstance(tree, bool) else str(tree)
    if any(isinstance(case, Mapping) for case in tree):
        return f"({'; '.join(case_in_words(case) for case in tree)})"
    return " to ".join(map(str, tree))


def case_in_words(case: Mapping[str, Any]) -> str:
    pattern = case.get("filter", EVERYTHING)
    return f"{'else' if pattern == EVERYTHING else pattern}: {in_words(case.get('value'))}"
