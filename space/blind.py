"""Blind comparison: two panes in an order that nobody knows until they have voted."""

import secrets
from collections.abc import Sequence

from space.conversation import Conversation, Turn, heard
from space.reply import Reply

SIDES = ("Left", "Right")
HIDDEN = "Both answers come together, so that their speed gives nothing away."
UNANSWERED = "One of the two could not answer, and saying why would name it. Choose others, or leave blind mode to see."
MOVED = "The lambdas were moved in between, so there is no one merge to vote on. Press Clear, and ask again."
NEEDS_TWO = "A blind comparison is of two: choose exactly two above."


def shuffled(labels: Sequence[str]) -> list[str]:
    order = list(labels)
    secrets.SystemRandom().shuffle(order)
    return order


def hidden(replies: Sequence[Reply]) -> bool:
    """Whether nothing may be shown yet."""
    return not all(reply.done for reply in replies)


def note(replies: Sequence[Reply]) -> str:
    """The same line under both panes, whoever it is about."""
    if any(reply.error for reply in replies):
        return UNANSWERED
    return HIDDEN if hidden(replies) else ""


def votable(said: Conversation, labels: Sequence[str]) -> bool:
    """Whether both have answered all that was asked since they were shuffled."""
    return len(labels) == 2 and bool(said) and not moved(said) and all(
        len(heard(said, label)) == len(said) and all(finished(turn.answers[label]) for turn in heard(said, label))
        for label in labels
    )  # fmt: skip


def moved(said: Sequence[Turn]) -> bool:
    """Whether the merge in memory was not the same one at every turn."""
    return len({turn.recipe for turn in said}) > 1


def finished(reply: Reply) -> bool:
    return reply.done and not reply.error
