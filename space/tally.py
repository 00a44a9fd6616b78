"""What blind votes say about two models, and what they do not say yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from merging.card_scores import put_section
from merging.markdown import code, escaped
from space.votes import Vote
from space.words import count

ENOUGH = 20  # votes: below that a win rate says next to nothing, and seeing it would sway the next vote
Z = 1.959964  # of a two-sided 95 % interval
BEGIN, END = "<!-- blind votes -->", "<!-- end of the blind votes -->"
MAX_SHOWN = 40  # prompts in a card


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on two panes, whichever side they were on."""

    first: str
    second: str
    first_wins: int
    second_wins: int
    both_good: int
    both_bad: int
    prompts: tuple[str, ...]  # each once

    @property
    def votes(self) -> int:
        return self.first_wins + self.second_wins + self.both_good + self.both_bad

    @property
    def missing(self) -> int:
        return max(0, ENOUGH - self.votes)


def tally(votes: Sequence[Vote], first: tuple[str, str], second: tuple[str, str]) -> Tally:
    """Count the votes on two panes, each given as its key and what it is called."""
    pair = [vote for vote in votes if {vote.left, vote.right} == {first[0], second[0]}]
    won = [{"left": vote.left, "right": vote.right}.get(vote.verdict) for vote in pair]
    plain = [vote.verdict for vote in pair]
    prompts = dict.fromkeys(" / ".join(vote.prompts) for vote in pair)
    return Tally(
        first[1], second[1], won.count(first[0]), won.count(second[0]), plain.count("good"), plain.count("bad"),
        tuple(prompts),
    )  # fmt: skip


def wilson(wins: int, total: int) -> tuple[float, float]:
    """The Wilson score interval, 95 %, of a rate (E. B. Wilson, JASA 22, 1927). Of nothing it is all: (0, 1)."""
    if total == 0:
        return 0.0, 1.0
    rate, square = wins / total, Z * Z / total
    middle, half = rate + square / 2, Z * sqrt(rate * (1 - rate) / total + square / total / 4)
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def summary(found: Tally) -> str:
    """In words: how many votes are missing; else the win rate, its interval, and whether it tells them apart."""
    if found.missing:
        pair = f"{count(found.votes, 'vote')} on {found.first} and {found.second}."
        return f"{pair} {found.missing} more until they are ranked."
    return f"{verdict(found)} {rates(found)}"


def verdict(found: Tally) -> str:
    low, high = wilson(found.first_wins, found.first_wins + found.second_wins)
    if low > 0.5:
        return f"{found.first} is preferred to {found.second}."
    if high < 0.5:
        return f"{found.second} is preferred to {found.first}."
    return f"These votes do not tell {found.first} and {found.second} apart."


def rates(found: Tally) -> str:
    decided = found.first_wins + found.second_wins
    ties = f"Both good {found.both_good}, both bad {found.both_bad}."
    if not decided:
        return f"No vote chose one. {ties}"
    low, high = (f"{100 * bound:.0f} %" for bound in wilson(found.first_wins, decided))
    return (
        f"{found.first} won {found.first_wins} of {count(decided, 'vote')} that chose one: "
        f"{100 * found.first_wins / decided:.0f} %, 95 % Wilson interval {low} to {high}. {ties}"
    )


def card_section(found: Sequence[Tally]) -> str:
    """For the model card, as what it is: votes of one person on their own prompts. Empty before there are enough."""
    parts = [part for one in found if not one.missing for part in (pair_section(one), "")]
    if not parts:
        return ""
    head = "One person compared answers side by side without knowing which model gave which. This is no benchmark."
    return "\n".join([BEGIN, "## Blind votes", "", head, "", *parts, END])


def pair_section(found: Tally) -> str:
    shown = [f"- {code(prompt)}" for prompt in found.prompts[:MAX_SHOWN]]
    more = len(found.prompts) - len(shown)
    prompts = count(len(found.prompts), "prompt")
    return "\n".join(
        [
            f"{escaped(summary(found))} {found.votes} votes of one person, blind, on these {prompts}:",
            "",
            *shown,
            *([f"- and {more} more"] if more else []),
        ]
    )


def with_section(card: str, section: str) -> str:
    """The card with this section at its end, in the place of an older one; without it when it is empty."""
    return put_section(card, section, BEGIN, END)
