"""What a merge method is, and how one is declared."""

from dataclasses import dataclass
from typing import Annotated

from merging.recipe import Setting


@dataclass(frozen=True, slots=True)
class Range:
    """The values a number may take, and the step of its slider."""

    low: float
    high: float
    step: float = 0.01
    above: bool = False  # True: `low` itself is excluded


Weight = Annotated[float, Range(-2, 2)]
Weights = Annotated[tuple[float, ...], Range(-2, 2)]  # a tuple: one value per model
Fraction = Annotated[float, Range(0, 1)]
Fractions = Annotated[tuple[float, ...], Range(0, 1)]


@dataclass(frozen=True, slots=True)
class Param:
    """One setting of a method, read from its signature. Form, YAML check, card and tests all come from this."""

    name: str
    type: type  # float, int or bool
    default: Setting | None  # None: must be given
    per_model: bool
    range: Range | None
    help: str  # one sentence


@dataclass(frozen=True, slots=True)
class Method:
    name: str  # mergekit's
    title: str
    summary: str  # first sentence of the docstring
    paper: str
    needs_base: bool
    min_models: int  # besides the base
    max_models: int | None
    params: tuple[Param, ...]
    random: bool  # whether the seed matters


METHODS: dict[str, Method] = {}
