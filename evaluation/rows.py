"""What is read to score an example, as token ids: its prompt in the model's own template, then a completion."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from evaluation.held_out import Example
from evaluation.prompt import question_of
from evaluation.renderer import RENDERER, TemplateError
from evaluation.template import END, START
from merging.errors import MergeError

TOKENS = 8192  # read at once, at most, padding included
MOST_RENDERED = 20_000  # prompts that are remembered in the words of a template
LOGITS = 64_000_000  # numbers that come of it


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and a text that may follow. The completion's own row is that of its option, where it has options."""

    example: int
    text: str
    ids: tuple[int, ...]
    start: int  # the first token of the text

    @property
    def targets(self) -> tuple[int, ...]:
        return self.ids[self.start :]

    @property
    def places(self) -> range:
        """After which tokens one looks: before each of the text, and after the last."""
        return range(self.start - 1, len(self.ids))


def rows_of(tokenizer: Any, examples: Sequence[Example], context: int) -> list[Row]:
    """Every text of every example. Raises MergeError where one is longer than the model takes."""
    rows = [row for number, example in enumerate(examples) for row in rows_of_one(tokenizer, number, example)]
    if longest := next((row for row in rows if len(row.ids) > context), None):
        begin = examples[longest.example].turns[-1][1][:40]
        raise MergeError(
            f"The example that begins with {begin!r} is {len(longest.ids):,} tokens long, and this model takes "
            f"{context:,}. Shorten it, or remove it."
        )
    return rows


def rows_of_one(tokenizer: Any, number: int, example: Example) -> Iterator[Row]:
    before = text_before(tokenizer, example)
    for text in example.options or (example.completion,):
        ids, start = ids_of(tokenizer, before, text)
        yield Row(number, text, ids, start)


def text_before(tokenizer: Any, example: Example) -> str:
    """Up to where the completion begins; plain lines where the model has no template."""
    if not tokenizer.chat_template:
        return "\n".join(content for _, content in example.turns)
    try:
        return rendered(json.dumps(question_of(tokenizer, example.messages)))
    except (TemplateError, ValueError) as e:
        begin = example.turns[-1][1][:40]
        raise MergeError(f"The chat template cannot take the example that begins with {begin!r}: {e}.") from e


@lru_cache(MOST_RENDERED)
def rendered(question: str) -> str:
    """Once for all models that have the same template: each rendering takes a process of its own."""
    return RENDERER.render(json.loads(question))


def ids_of(tokenizer: Any, before: str, text: str) -> tuple[tuple[int, ...], int]:
    """The tokens of both together, and where those that the text changes begin.

    A token that lies across the border belongs to the text. What people typed in a prompt is never read as a control
    token; a completion may have some, as models write them.
    """
    text = text.replace(START, "").replace(END, "")
    given, whole = encoded(tokenizer, before), encoded(tokenizer, before + text)
    same = (at for at, (one, other) in enumerate(zip(given, whole, strict=False)) if one != other)
    start = next(same, min(len(given), len(whole)))
    if start == len(whole):  # the text is swallowed by the last token of the prompt
        start -= 1
    if start == 0:
        raise MergeError(f"Nothing stands before the completion {text[:40]!r} that the model could begin with.")
    return tuple(whole), start


def encoded(tokenizer: Any, text: str) -> list[int]:
    if tokenizer.chat_template:
        found = tokenizer(text, add_special_tokens=False, sanitize_control_tokens=True)["input_ids"]
    else:
        found = tokenizer(text)["input_ids"]
    return [int(one) for one in found]


def batches(rows: Sequence[Row], vocabulary: int) -> Iterator[list[Row]]:
    """Rows of about the same length together, the longest first: what does not fit into memory fails at once."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: (-len(row.ids), row.start)):
        if group and not fits([*group, row], vocabulary):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def fits(rows: Sequence[Row], vocabulary: int) -> bool:
    span = places_of(rows)
    return len(rows) * span.stop <= TOKENS and len(rows) * len(span) * vocabulary <= LOGITS


def places_of(rows: Sequence[Row]) -> range:
    """All places that one of the rows looks at."""
    return range(min(row.places.start for row in rows), max(row.places.stop for row in rows))
