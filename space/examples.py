"""Merges to start from with one click, and prompts to try on them."""

from collections.abc import Sequence

from merging.recipe import Input, ModelRef, Recipe, Slice
from space.form import Form, Row, from_recipe
from space.settings import Settings

Examples = Sequence[tuple[str, Form]]

GENERAL_PROMPTS = (
    "What is 17 + 25?",
    "Write a Python function that reverses a string.",
    "Explain to a child why the sky is blue.",
)


def examples(settings: Settings) -> Examples:
    """In the demo its own models; elsewhere the path between a small base and its instruct model on the Hub."""
    if settings.demo:
        from space.demo.prompts import EXAMPLES, STACK, STACK_TITLE

        merges = [
            (one.title, Form(one.base, "", tuple(Row(repo, "", {"weight": by}) for repo, by in one.models), one.method))
            for one in EXAMPLES
        ]
        layers = tuple(Slice((Input(ModelRef(repo), layers=(first, end)),)) for repo, first, end in STACK)
        return [*merges, (STACK_TITLE, from_recipe(Recipe("passthrough", slices=layers)))]
    halfway = Row("Qwen/Qwen2.5-0.5B-Instruct", "", {"weight": 0.5})
    return [("Half way to instruct", Form("Qwen/Qwen2.5-0.5B", "", (halfway,)))]


def prompts(settings: Settings) -> Sequence[str]:
    """What to ask in the chat, for the models at hand."""
    if settings.demo:
        from space.demo.prompts import EXAMPLES

        return tuple(dict.fromkeys(prompt for one in EXAMPLES for prompt in one.prompts))
    return GENERAL_PROMPTS
