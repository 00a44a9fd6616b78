"""What a method does to a few numbers that somebody typed, step by step, as HTML. Values in, text out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from merging.diagnostics.entries import Entries
from merging.errors import MergeError
from merging.methods import METHODS
from merging.walkthrough import MOST, WALKS, Line, Step, walk
from space import view
from space.words import count

FIRST = """base: 0.50 -0.20 0.10 0.30 -0.40 0.00
model 1: 0.90 -0.25 0.40 0.32 -0.10 0.05
model 2: 0.20 -0.60 0.35 0.30 0.20 -0.25"""
MINUS = "\N{MINUS SIGN}"
COLUMNS = 16  # numbers side by side, at most
LONGEST = 4000  # characters
APART = ("elected", "weights that agree")  # lines that are on no scale with the others
CHOICES = [(METHODS[name].title, name) for name in WALKS]


@dataclass(frozen=True, slots=True)
class Play:
    """What the controls of the playground say. `share` is the density, and for SLERP how far to go."""

    numbers: str
    method: str
    first: float = 1.0  # lambda of the first model
    others: float = 1.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in WALKS:
            raise MergeError(f"{self.method!r} cannot be walked through; choose one of {', '.join(WALKS)}.")

    def parameters(self, models: int) -> Mapping[str, Any]:
        if self.method == "slerp":
            return {"t": self.share}
        weights = [self.first, *[self.others] * (models - 1)]
        return {"weight": weights} | ({"density": self.share} if has_density(self.method) else {})


def has_density(method: str) -> bool:
    return any(p.name == "density" for p in METHODS[method].params)


def share_label(method: str) -> str:
    """What the third slider moves; empty where it moves nothing."""
    return "t: from the base (0) to the model (1)" if method == "slerp" else "Density" if has_density(method) else ""


def read_numbers(text: str) -> list[Line]:
    """One line for the base and one for each model: a name, if any, then numbers. Raises MergeError with the line."""
    if len(text) > LONGEST:
        raise MergeError(f"There are {len(text):,} characters; at most {LONGEST:,} are read here.")
    found = [read_line(line, i) for i, line in enumerate(filter(str.strip, text.splitlines()))]
    if not 2 <= len(found) <= 1 + MOST:
        raise MergeError(
            f"{count(len(found), 'line')} cannot be merged: give one for the base, one for each of 1 to {MOST} models."
        )
    if wrong := next((one for one in found if len(one.values) != len(found[0].values)), None):
        raise MergeError(
            f"The base has {len(found[0].values)} numbers, {wrong.label} has {len(wrong.values)}: give as many."
        )
    if not 1 <= len(found[0].values) <= COLUMNS:
        raise MergeError(f"There are {len(found[0].values)} numbers in a line; 1 to {COLUMNS} are shown side by side.")
    return found


def read_line(line: str, place: int) -> Line:
    name, _, numbers = line.rpartition(":")
    label = name.strip() or (f"model {place}" if place else "base")
    words = [word for word in re.split(r"[\s,;]+", numbers) if word]
    return Line(label, tuple(read_number(word, label) for word in words))


def read_number(word: str, label: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise MergeError(f"{word!r} in the line of {label} is no number.") from None


def typed(entries: Entries) -> str:
    """Entries of a tensor as somebody would type them, so that they can be changed."""
    names = ("base", *(name.replace(":", " ") for name in entries.models))
    return "\n".join(
        f"{name}: {' '.join(f'{value!s}' for value in row)}" for name, row in zip(names, entries.wide, strict=True)
    )


def shown(play: Play) -> str:
    """Every step with its sentence and its numbers; or what stands in the way."""
    try:
        base, *models = read_numbers(play.numbers)
        alone = play.method == "slerp"
        used = models[:1] if alone else models
        found = walk(play.method, base.values, [one.values for one in used], play.parameters(len(used)),
                     names=[one.label for one in used])  # fmt: skip
    except MergeError as e:
        return view.note(str(e), "error")
    left = "SLERP takes one model besides the base: the first." if alone and len(models) > 1 else ""
    colours = {one.label: i % 8 + 1 for i, one in enumerate(used)}
    steps = "".join(step(one, widest(found.steps), colours) for one in found.steps)
    return f'{view.note(left)}<ol class="walk">{steps}</ol>'


def widest(steps: Sequence[Step]) -> dict[bool, float]:
    """The largest magnitude of all weights, and that of all changes: each has one scale through all steps."""
    found = {True: 0.0, False: 0.0}
    for one in steps:
        for line in one.lines:
            if line.label not in APART:
                found[is_weights(one)] = max(found[is_weights(one)], *map(abs, line.values))
    return found


def is_weights(one: Step) -> bool:
    return any(line.label in ("base", "merged") for line in one.lines)


def step(one: Step, scales: Mapping[bool, float], colours: Mapping[str, int]) -> str:
    rows = "".join(row(line, scales[is_weights(one)], colours) for line in one.lines)
    return (
        f'<li><h3>{escape(one.title)}</h3><p class="help">{escape(one.sentence)}</p>'
        f'<div class="wide" tabindex="0"><table class="heat walked"><tbody>{rows}</tbody></table></div></li>'
    )


def row(line: Line, scale: float, colours: Mapping[str, int]) -> str:
    kind = f"c{colours[line.label]}" if line.label in colours else "merged" if line.label == "merged" else "plain"
    scale = max(map(abs, line.values), default=0.0) if line.label in APART else scale
    cells = "".join(signed_cell(value, scale, sign(value) if line.label == "elected" else f"{value:.3g}")
                    for value in line.values)  # fmt: skip
    return f'<tr><th scope="row" class="{kind}">{escape(line.label)}</th>{cells}</tr>'


def sign(value: float) -> str:
    return "+" if value > 0 else "-"


def ink(share: float) -> str:
    """What the style sheet needs to write a cell in ink that can be read on its colour: in the dark sooner."""
    return " half far" if share > 0.8 else " half" if share > 0.6 else ""


def signed_cell(value: float, scale: float, text: str) -> str:
    """A number on its colour: warm above zero, cold below, none at zero."""
    share = abs(value) / scale if scale else 0.0
    kind = ["zero", "hot", "cold"][(value > 0) - (value < 0)]
    return f'<td class="{kind}{ink(share)}" style="--v:{share:.2f}">{escape(text.replace("-", MINUS))}</td>'
