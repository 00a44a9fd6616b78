"""What was said so far, in turns: one prompt, and the answer of each pane that was there to hear it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.prompt import Message
from space.reply import Reply


@dataclass(frozen=True, slots=True)
class Turn:
    """`answers` is keyed by pane; a pane that joined later, or had left, is not in it."""

    prompt: str
    answers: Mapping[str, Reply]
    recipe: str = ""  # of the merge in memory, if that was asked: it moves from turn to turn


Conversation = tuple[Turn, ...]


def heard(said: Conversation, pane: str) -> list[Turn]:
    return [turn for turn in said if pane in turn.answers]


def asked(said: Conversation, pane: str, prompt: str) -> list[Message]:
    """What a pane is sent: what it answered before, then the prompt. Turns that it left without a word are passed over,
    since many chat templates refuse two messages of one side in a row."""
    answered = (turn for turn in heard(said, pane) if turn.answers[pane].text.strip())
    before = [message for turn in answered for message in messages(turn, pane)]
    return [*before, {"role": "user", "content": prompt}]


def messages(turn: Turn, pane: str) -> list[Message]:
    """A turn as a pane shows it."""
    question, answer = {"role": "user", "content": turn.prompt}, turn.answers[pane].text
    return [question, {"role": "assistant", "content": answer}] if answer else [question]


def shown(said: Conversation, pane: str) -> list[Message]:
    return [message for turn in heard(said, pane) for message in messages(turn, pane)]


def answered(
    said: Conversation, prompt: str, replies: Sequence[Reply], panes: Sequence[str], recipe: str = ""
) -> Conversation:
    """One turn more, as far as its answers are."""
    return (*said, Turn(prompt, dict(zip(panes, replies, strict=True)), recipe))


def before(said: Conversation, pane: str, index: int) -> Conversation:
    """The turns before the one in which a pane's message of this number stands; for all panes alike."""
    place = 0
    for number, turn in enumerate(said):
        if pane in turn.answers:
            place += len(messages(turn, pane))
        if index < place:
            return said[:number]
    return said


def without(said: Conversation, pane: str) -> Conversation:
    """What the other panes said and heard."""
    return tuple(
        replace(turn, answers={name: reply for name, reply in turn.answers.items() if name != pane}) for turn in said
    )
