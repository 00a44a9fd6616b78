"""The held-out set of the demo, of prompts that no training of the pocket models saw: python -m space.demo.held_out"""

from pathlib import Path
from typing import Final

from evaluation.held_out import Example, to_jsonl
from space.demo.tasks import draw_prompts

FILE: Final = Path(__file__).with_name("held_out.jsonl")
SKILLS: Final = {"reverse": 40, "add": 40, "vowels": 40}
CHOICES: Final = 40  # of which of two numbers is bigger: a task of the base, with options


def examples() -> list[Example]:
    """Each skill under its name; and a task that all models have, to be chosen from options."""
    found = [
        Example((("user", prompt),), answer, task=task)
        for task, count in SKILLS.items()
        for prompt, answer in draw_prompts(task, "test", count)
    ]
    return [*found, *(chosen(prompt, answer) for prompt, answer in draw_prompts("bigger", "test", CHOICES))]


def chosen(prompt: str, answer: str) -> Example:
    """Both numbers of the prompt are the options, once each."""
    options = tuple(dict.fromkeys(prompt.partition(": ")[2].split()))
    wrong = next(number for number in (*options, f"{int(answer) - 1}") if number != answer)
    return Example((("user", prompt),), answer, (min(answer, wrong), max(answer, wrong)), "bigger")


if __name__ == "__main__":
    FILE.write_text(to_jsonl(examples()))
