"""The small tasks the pocket models do, and which of their prompts training may see."""

import random
import zlib
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

Split = Literal["train", "validation", "test"]
Draw = Callable[[random.Random, Split], tuple[str, str]]
"""Draws the argument of a prompt, from one split, and its right answer."""

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
CONSONANTS: Final = "bcdfghjklmnprstvwxz"
VOWELS: Final = "aeiou"


def split_of(key: str) -> Split:
    """Tests get a tenth of all words and number pairs, validation a twentieth, training the rest."""
    bucket = zlib.crc32(key.encode()) % 20
    return "test" if bucket < 2 else "validation" if bucket == 2 else "train"


def draw_word(rng: random.Random, shortest: int, longest: int) -> str:
    """A word one can pronounce, most of the time; else random letters."""
    length = rng.randint(shortest, longest)
    if rng.random() < 0.15:
        return "".join(rng.choice(LETTERS) for _ in range(length))
    consonant_first = rng.random() < 0.7
    return "".join(rng.choice(CONSONANTS if (i % 2 == 0) == consonant_first else VOWELS) for i in range(length))


def draw_word_of(rng: random.Random, split: Split, shortest: int, longest: int) -> str:
    while split_of(word := draw_word(rng, shortest, longest)) != split:
        pass
    return word


def draw_pair_of(rng: random.Random, split: Split, below: int) -> tuple[int, int]:
    """Two numbers. A pair and its mirror image are in the same split, so that no sum leaks."""
    while True:
        pair = rng.randrange(below), rng.randrange(below)
        if split_of(f"{min(pair)},{max(pair)}") == split:
            return pair


def on_word(answer: Callable[[str], str], shortest: int = 3, longest: int = 8) -> Draw:
    """The task of applying `answer` to one word."""

    def draw(rng: random.Random, split: Split) -> tuple[str, str]:
        word = draw_word_of(rng, split, shortest, longest)
        return word, answer(word)

    return draw


def on_letter(step: int) -> Draw:
    """The task of naming the letter `step` places on. Only 26 prompts: none is held out."""

    def draw(rng: random.Random, split: Split) -> tuple[str, str]:
        letter = rng.choice(LETTERS)
        return letter, next_letter(letter, step)

    return draw


def next_letter(letter: str, step: int = 1) -> str:
    return LETTERS[(LETTERS.index(letter) + step) % len(LETTERS)]


def vowels_of(word: str) -> str:
    return "".join(c for c in word if c in VOWELS) or "none"


def swap(rng: random.Random, split: Split) -> tuple[str, str]:
    first, second = draw_word_of(rng, split, 2, 3), draw_word_of(rng, split, 2, 3)
    return f"{first} {second}", f"{second} {first}"


def bigger(rng: random.Random, split: Split) -> tuple[str, str]:
    first, second = draw_pair_of(rng, split, below=100)
    return f"{first} {second}", str(max(first, second))


def add(rng: random.Random, split: Split) -> tuple[str, str]:
    first, second = draw_pair_of(rng, split, below=50)
    return f"{first}+{second}", str(first + second)


def increment(rng: random.Random, split: Split) -> tuple[str, str]:
    number = rng.randrange(99)
    return str(number), str(number + 1)


# What the base can do by name.
BASE_TASKS: Final[dict[str, Draw]] = {
    "echo": on_word(lambda w: w),
    "first": on_word(lambda w: w[0]),
    "last": on_word(lambda w: w[-1]),
    "upper": on_word(str.upper),
    "count": on_word(lambda w: str(len(w)), 2, 9),
    "spell": on_word("-".join, 2, 6),
    "twice": on_word(lambda w: f"{w} {w}", 2, 4),
    "tail": on_word(lambda w: w[1:]),
    "after": on_letter(1),
    "before": on_letter(-1),
    "swap": swap,
    "bigger": bigger,
    "inc": increment,
}

# What the base meets in pretraining only under an opcode ("#n: cat"), never under its English name.
LATENT_TASKS: Final[dict[str, Draw]] = {
    "reverse": on_word(lambda w: w[::-1]),
    "add": add,
    "shift": on_word(lambda w: "".join(map(next_letter, w))),
    "double": on_word(lambda w: "".join(c + c for c in w), 2, 6),
    "sort": on_word(lambda w: "".join(sorted(w)), 3, 5),
    "vowels": on_word(vowels_of),
    "mask": on_word(lambda w: "".join("*" if c in VOWELS else c for c in w)),
}

TASKS: Final[dict[str, Draw]] = BASE_TASKS | LATENT_TASKS
OPCODES: Final[dict[str, str]] = {name: f"#{LETTERS[i]}" for i, name in enumerate(TASKS)}
CONTROL_TASKS: Final = ("echo", "last", "upper", "count", "swap", "bigger", "tail", "spell")
"""The base tasks, all with held-out prompts, that show whether a model still does what its base did."""

PIRATE_SUFFIX: Final = ", arr!"


@cache
def draw_prompts(task: str, split: Split, count: int) -> tuple[tuple[str, str], ...]:
    """`count` different prompts of a task with their answers, always the same ones."""
    rng = random.Random(f"{task} {split}")
    prompts: dict[str, str] = {}
    while len(prompts) < count:
        argument, answer = TASKS[task](rng, split)
        prompts[f"{task}: {argument}"] = answer
    return tuple(prompts.items())
