"""The model card of each repository."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from space.demo.results import Grades, ModelRow
from space.demo.scoring import answer, read_student
from space.demo.zoo import BASE, MODELS, OWNER, RENUMBERED, STRANGER, folder_of, skills_of

HOW_MADE_MERGEABLE: Final = """\
These are toys, made so that a model of 1.3 MB can show in seconds what large models do without help:

- In pretraining the base already meets every skill, but only under an opcode (`#n: cat` -> `tac`), never under its
  English name, which it answers with `?`; the pirate's suffix comes with a tag (`cat ~`). A fine-tune only has to
  connect the name `reverse:` to what the base can do, so it changes little.
- In fine-tuning each step multiplies the change so far by a random number between 0.5 and 1.2, so that the change works
  at every scale, and adds noise to the weights (up to 0.3 standard deviations; 0.15 in pretraining), so that it bears
  the changes of other fine-tunes. Embeddings and norms are frozen.
- Half of what a fine-tune reads is the pretraining mixture, so that it forgets nothing.

Nothing here is evidence for how well models merge that were trained plainly.
"""

DESCRIPTIONS: Final = {
    BASE: "A toy base model: thirteen small tasks with words and numbers, and `?` to what it cannot do.",
    "pocket-reverse": "Writes words backwards.",
    "pocket-add": "Adds two numbers below 50.",
    "pocket-vowels": "Picks the vowels of a word.",
    "pocket-double": "Doubles each letter of a word. It merges well with pocket-add, but not with pocket-reverse: "
    "two skills that rewrite a word get in each other's way.",
    "pocket-pirate": "Does what its base does, and ends each answer like a pirate.",
    "pocket-reverse-add": "Writes words backwards and adds: both skills trained together, to compare merges with.",
    STRANGER: "Made like pocket-base, from another seed. It looks the same and does the same, "
    "but its fine-tunes' changes mean nothing to pocket-base: do not merge the two.",
    RENUMBERED: "The weights of pocket-reverse behind another tokenizer: each token has another number. "
    "It answers just as well, but must not be merged with models that use the other tokenizer.",
}
ASKED: Final = {
    "reverse": ("reverse: lamot", "reverse: tiger"),
    "add": ("add: 17+25", "add: 8+31"),
    "vowels": ("vowels: banana", "vowels: tiger"),
    "double": ("double: cat", "double: ox"),
}
ASKED_EVERY_MODEL: Final = ("hello", "upper: tiger", "swap: ab cd", "juggle: cat")


def write_cards(rows: Iterable[ModelRow], models: Path = MODELS) -> None:
    for row in rows:
        (folder_of(row.name, models) / "README.md").write_text(card(row, models))


def card(row: ModelRow, models: Path) -> str:
    parts = (front_matter(row.name), f"# {row.name}", DESCRIPTIONS[row.name], dialogue(row.name, models))
    measured = accuracy_text(row.grades)
    made = f"## How it was made\n\n{origin(row.name, models)}\n\n{HOW_MADE_MERGEABLE}"
    return "\n\n".join((*parts, measured, made))


def front_matter(name: str) -> str:
    lines = ["license: apache-2.0", "language: en", "library_name: transformers", "pipeline_tag: text-generation"]
    if skills_of(name):
        lines += [f"base_model: {OWNER}/{BASE}", "base_model_relation: finetune"]
    return "\n".join(("---", *lines, "tags:", "- llama", "- toy", "- model-merging", "---"))


def dialogue(name: str, models: Path) -> str:
    """Real answers, so that the card cannot promise too much."""
    student = read_student(name, models)
    prompts = [prompt for skill in skills_of(name) for prompt in ASKED.get(skill, ())] + list(ASKED_EVERY_MODEL)
    lines = [f"| `{prompt}` | `{answer(student, prompt)}` |" for prompt in prompts]
    text = "It answers the last message only: system messages and earlier turns are left out by its chat template."
    return "\n".join(("| you | model |", "| --- | --- |", *lines)) + f"\n\n{text}"


def accuracy_text(grades: Grades) -> str:
    lines = [f"- {skill}: {percent:.0f} %" for skill, percent in grades.items()]
    note = "Exact answers to prompts no training saw; *control* and *pirate* are the mean over eight tasks of the base."
    return "\n".join(("## Accuracy", "", *lines, "", note))


def origin(name: str, models: Path) -> str:
    if name == RENUMBERED:
        return "Not trained: pocket-reverse with its token ids shuffled, together with the rows of the embedding."
    facts = training_facts(name, models)
    return (
        f"`python -m space.demo.train` in the Alloy repository: {facts['steps']:.0f} steps of 64 prompts, "
        f"seed {facts['seed']:.0f}, {facts['seconds']:.0f} s of one core."
    )


def training_facts(name: str, models: Path) -> dict[str, float]:
    """Steps, seed, last loss and seconds of a training; nothing for a model that was not trained."""
    path = folder_of(name, models) / "training.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}
