"""The measurements as Markdown."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from space.demo.cards import HOW_MADE_MERGEABLE, training_facts
from space.demo.results import Grades, Measured, MergeRow, ModelRow
from space.demo.scoring import CONTROL_PROMPTS, PROMPTS
from space.demo.zoo import NAMES, OWNER, folder_of

INTRODUCTION: Final = f"""\
# What the pocket models can do

Written by `python -m space.demo.accuracy --write`. Percent of answers that are right to the last character, with
greedy decoding, on {PROMPTS["test"]} prompts per skill that no training saw. *Control* is the mean over eight tasks of
the base ({CONTROL_PROMPTS["test"]} held-out prompts each): whether a model still does what its base does. The pirate's
accuracy is that on the same tasks when each answer must end in ", arr!". A merge's settings were chosen on other
prompts (`validation` in [tasks.py](tasks.py)) than those reported. With this many prompts the standard error of a
skill's accuracy is 2 points at 90 %.

"""


def report(measured: Measured, models: Path) -> str:
    sections = [
        INTRODUCTION + "## How they were made mergeable\n\n" + HOW_MADE_MERGEABLE,
        section("The models", model_table(measured.models, models), cost_text(models)),
        section("Merges of fine-tunes of one base", merge_table(measured.merges)),
        section("Other methods, reverse + add", merge_table(measured.methods)),
        section("Negation", merge_table(measured.negations), NEGATION),
        section("Merges that conflict", merge_table(measured.conflicts), CONFLICT),
        section("Merges that should be refused", merge_table(measured.mistakes), MISTAKES),
        section("In chat", chat_table(measured.chats)),
    ]
    return "\n".join(sections)


NEGATION: Final = "The change of pocket-reverse is taken away, times λ, from a model that can reverse and add."
CONFLICT: Final = """\
pocket-reverse, pocket-vowels and pocket-double each rewrite a word. Any two of them get in each other's way at every λ
tried, although each merges well with pocket-add and pocket-pirate."""
MISTAKES: Final = "What comes out if the base is another than the fine-tune's."


def section(title: str, table: str, text: str = "") -> str:
    return f"## {title}\n\n" + (f"{text}\n\n" if text else "") + table


def model_table(rows: Iterable[ModelRow], models: Path) -> str:
    header = ("model", "accuracy", "distance from base", "steps", "seed", "core seconds")
    return table(header, [model_cells(row, models) for row in rows])


def model_cells(row: ModelRow, models: Path) -> tuple[str, ...]:
    facts = training_facts(row.name, models)
    moved = "" if row.moved is None else f"{row.moved:.3f}"
    trained = [f"{facts[key]:.0f}" if key in facts else "" for key in ("steps", "seed", "seconds")]
    return (f"`{OWNER}/{row.name}`", grades_text(row.grades), moved, *trained)


def merge_table(rows: Iterable[MergeRow]) -> str:
    cells = [(row.parts, row.method, settings_text(row.settings), grades_text(row.grades), kept(row)) for row in rows]
    return table(("of", "method", "settings", "accuracy", "least kept"), cells)


def chat_table(chats: Iterable[tuple[str, str, str]]) -> str:
    """A column for each model, a row for each prompt."""
    models: dict[str, None] = {}
    said: dict[str, list[str]] = {}
    for model, prompt, text in chats:
        models[model] = None
        said.setdefault(prompt, []).append(f"`{text}`")
    return table(("you", *models), [(f"`{prompt}`", *texts) for prompt, texts in said.items()])


def kept(row: MergeRow) -> str:
    return "" if row.kept is None else f"{row.kept:.0f} %"


def settings_text(settings: Mapping[str, float]) -> str:
    symbols = {"amount": "λ"}
    return ", ".join(f"{symbols.get(name, name)} {value:g}" for name, value in settings.items())


def grades_text(grades: Grades) -> str:
    return ", ".join(f"{skill} {percent:.0f}" for skill, percent in grades.items())


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def cost_text(models: Path) -> str:
    nbytes = sum(file.stat().st_size for name in NAMES for file in folder_of(name, models).iterdir())
    seconds = sum(training_facts(name, models).get("seconds", 0) for name in NAMES)
    return (
        f"All {len(NAMES)} repositories together: {nbytes / 1e6:.1f} MB. "
        f"Training took {seconds / 60:.0f} minutes of one core "
        "(two processes share the work). Each was trained once, from one seed."
    )
