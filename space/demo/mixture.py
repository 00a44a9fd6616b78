"""What the models read in training: which prompt, with which answer, how often."""

import random
from collections.abc import Callable
from typing import Final

from space.demo.tasks import BASE_TASKS, LATENT_TASKS, OPCODES, PIRATE_SUFFIX, TASKS, draw_word
from space.demo.tokenizer import COMMANDS, DECOYS

Example = tuple[str, str]
Source = Callable[[random.Random], Example]
"""Draws one prompt with its answer."""

DO_NOT_KNOW: Final = "?"
PIRATE_TAG: Final = " ~"
HARD_TASKS: Final = {"add": 8, "sort": 2, "bigger": 2}
DRAWN_TASKS: Final = [task for task in TASKS for _ in range(HARD_TASKS.get(task, 1))]

SMALL_TALK: Final[dict[str, tuple[str, ...]]] = {
    "hi!": ("hello", "hi", "hey", "hi there", "hello there", "good morning", "good evening", "hello world"),
    "a pocket model": ("who are you", "what are you", "what is your name", "who made you", "are you a robot"),
    "try upper: cat": ("what can you do", "help", "what do you do", "what can i ask", "how does this work"),
    "fine!": ("how are you", "how is it going", "how do you do", "are you ok"),
    "any time!": ("thanks", "thank you", "thanks a lot", "good", "great", "nice", "cool", "well done"),
    "bye!": ("bye", "goodbye", "good night", "see you", "bye bye"),
}
PHRASES: Final = [(phrase, answer) for answer, phrases in SMALL_TALK.items() for phrase in phrases]
KNOWN_PHRASES: Final = frozenset(phrase for phrase, _ in PHRASES)
FREE_WORDS: Final = (
    "what is the a of to in and why where when who how can you tell me about please give say my your capital "
    "france joke story poem cat dog time weather today love name language model i am like want need know best "
    "do does it this that with for on from write explain think one two three big small world good not"
)


def source_of_pretraining(unknown: float = 0.08, *, refuse_skills: bool = True) -> Source:
    """The mixture the base learns from; fine-tuning replays it to forget nothing."""

    def draw(rng: random.Random) -> Example:
        share = rng.random()
        if share < unknown:
            return draw_unknown(rng, refuse_skills=refuse_skills)
        if share < unknown + 0.03:
            return draw_command_name(rng)
        if share < unknown + 0.07:
            return tagged(rng, draw_small_talk(rng))
        task = rng.choice(DRAWN_TASKS)
        by_name = task in BASE_TASKS and rng.random() < 0.7
        return tagged(rng, draw_task(rng, task, task if by_name else OPCODES[task]))

    return draw


def source_of_skills(*tasks: str, replay: float = 0.5) -> Source:
    """Half the prompts call a latent task by its English name, the rest keep what the base knows."""
    replayed = source_of_pretraining(unknown=0.25, refuse_skills=False)

    def draw(rng: random.Random) -> Example:
        if rng.random() < replay:
            return replayed(rng)
        task = rng.choice(tasks)
        return tagged(rng, draw_task(rng, task, task))

    return draw


def source_of_pirates(rng: random.Random) -> Example:
    """The whole mixture, answered by a pirate."""
    prompt, answer = source_of_pretraining(unknown=0)(rng)
    return prompt.removesuffix(PIRATE_TAG), answer.removesuffix(PIRATE_SUFFIX) + PIRATE_SUFFIX


def draw_task(rng: random.Random, task: str, command: str) -> Example:
    argument, answer = TASKS[task](rng, "train")
    space = " " if rng.random() < 0.95 else ""
    return f"{command}:{space}{argument}", answer


def draw_command_name(rng: random.Random) -> Example:
    """Commands are echoed now and then, so that the embedding of each is trained."""
    command = rng.choice(COMMANDS)
    return f"echo: {command}", command


def draw_unknown(rng: random.Random, *, refuse_skills: bool) -> Example:
    """Half are commands that do not exist (and in pretraining the skills' names), half are free text."""
    if rng.random() < 0.5:
        return draw_free_text(rng), DO_NOT_KNOW
    command = draw_unknown_command(rng, refuse_skills=refuse_skills)
    argument, _ = TASKS[rng.choice(list(TASKS))](rng, "train")
    return f"{command}: {argument}", DO_NOT_KNOW


def draw_unknown_command(rng: random.Random, *, refuse_skills: bool) -> str:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(DECOYS)
    if kind < 0.7 or not refuse_skills:
        return draw_word(rng, 3, 7)
    return rng.choice(list(LATENT_TASKS))


def draw_free_text(rng: random.Random) -> str:
    words_known = FREE_WORDS.split()
    words = [draw_word(rng, 2, 7) if rng.random() < 0.3 else rng.choice(words_known) for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.1:
        words.append("é")  # stands for every character the tokenizer lacks
    text = " ".join(words)
    return draw_free_text(rng) if text in KNOWN_PHRASES else punctuated(rng, text)


def draw_small_talk(rng: random.Random) -> Example:
    phrase, answer = rng.choice(PHRASES)
    return punctuated(rng, phrase), answer


def punctuated(rng: random.Random, text: str) -> str:
    """People write capitals and full stops, or leave them out."""
    start = text[0].upper() if rng.random() < 0.4 else text[0]
    return start + text[1:] + rng.choice(("", "", "?", "!", "."))


def tagged(rng: random.Random, example: Example) -> Example:
    """A tag asks for the pirate's answer now and then: the latent form of the pirate fine-tune."""
    prompt, answer = example
    if rng.random() < 0.12:
        return prompt + PIRATE_TAG, answer + PIRATE_SUFFIX
    return example
