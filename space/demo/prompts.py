"""Merges of the pocket models to start from, with prompts that show what each can do."""

from dataclasses import dataclass
from typing import Final

from space.demo.zoo import BASE, OWNER, RENUMBERED, STRANGER


@dataclass(frozen=True, slots=True)
class Example:
    """One merge, ready to run: models with their lambdas, and what to ask before and after."""

    title: str
    models: tuple[tuple[str, float], ...]
    prompts: tuple[str, ...]
    method: str = "task_arithmetic"
    base: str = f"{OWNER}/{BASE}"
    refused: bool = False  # the check must stop it, and say why


# One click that shows layers stacked anew: a model with its third layer twice. (repo, first layer, before which.)
STACK_TITLE: Final = "One layer twice"
STACK: Final = ((f"{OWNER}/pocket-reverse", 0, 3), (f"{OWNER}/pocket-reverse", 2, 4))


def named(**amounts: float) -> tuple[tuple[str, float], ...]:
    return tuple((f"{OWNER}/pocket-{name.replace('_', '-')}", amount) for name, amount in amounts.items())


def repo(name: str) -> str:
    return f"{OWNER}/{name}"


EXAMPLES: Final = (
    Example(
        "Two skills in one",
        named(reverse=0.7, add=0.7),
        ("reverse: lamot", "add: 17+25", "upper: tiger", "hello"),
    ),
    Example(
        "Three skills in one",
        named(reverse=0.7, add=0.7, pirate=0.7),
        ("reverse: lamot", "add: 17+25", "upper: tiger", "hello"),
    ),
    Example(
        "Take a skill away",
        named(reverse_add=1.0, reverse=-0.75),
        ("reverse: lamot", "add: 17+25", "upper: tiger"),
    ),
    Example(
        "Two in each other's way",
        named(reverse=0.7, double=0.7),
        ("reverse: lamot", "double: cat", "upper: tiger"),
    ),
    Example(
        "Another pretraining",
        ((repo("pocket-reverse"), 0.7), (repo(STRANGER), 0.7)),
        ("reverse: lamot", "upper: tiger"),
        refused=True,
    ),
    Example(
        "Another tokenizer",
        ((repo("pocket-add"), 0.7), (repo(RENUMBERED), 0.7)),
        ("reverse: lamot", "add: 17+25"),
        refused=True,
    ),
)
