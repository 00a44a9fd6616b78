"""A prompt book: a person's own prompts, asked of every pane, each from the start."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.prompt import Message
from merging.errors import MergeError
from space.reply import Reply

MAX_PROMPTS = 200
WAY_OUT = 'A line is {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}.'

Ask = Callable[[Sequence[str], Sequence[list[Message]]], Iterator[list[Reply]]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One conversation to be had. A user's message that no assistant's follows is answered by the pane itself."""

    messages: tuple[Message, ...]

    @property
    def prompts(self) -> list[str]:
        return [one["content"] for one in self.messages if one["role"] == "user"]

    @property
    def turns(self) -> list[tuple[str, bool]]:
        """What the user says, and whether the pane answers it: else its answer was given."""
        return [
            (one["content"], answers_after(self.messages, at))
            for at, one in enumerate(self.messages)
            if one["role"] == "user"
        ]


@dataclass(frozen=True, slots=True)
class Result:
    """What each pane answered to an entry: one text for each message it answered, and why it stopped, if it did."""

    entry: Entry
    answers: dict[str, tuple[str, ...]]
    errors: dict[str, str]


@dataclass(frozen=True, slots=True)
class Progress:
    done: int  # answers, of which there is one for each prompt and pane
    total: int
    note: str
    panes: tuple[str, ...]
    rows: tuple[Result, ...]


def read_book(text: str, *, max_chars: int) -> list[Entry]:
    """Prompts as they are pasted: JSON lines; or paragraphs where there is an empty line; or one a line.

    Raises MergeError, which names the line.
    """
    if text.lstrip().startswith("{"):
        entries = [read_line(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        parts = text.strip().replace("\r\n", "\n").split("\n\n" if "\n\n" in text.strip() else "\n")
        entries = [(n, (user(part.strip()),)) for n, part in enumerate(parts, 1) if part.strip()]
    if not entries:
        raise MergeError("There is no prompt. Write one a line, or several lines with an empty line between two.")
    if len(entries) > MAX_PROMPTS:
        raise MergeError(f"There are {len(entries):,} prompts; up to {MAX_PROMPTS} are run at once. Take some out.")
    for number, messages in entries:
        if (longest := max(len(one["content"]) for one in messages)) > max_chars:
            raise MergeError(f"Prompt {number} has {longest:,} characters; {max_chars:,} can be sent.")
    return [Entry(messages) for _, messages in entries]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def read_line(number: int, line: str) -> tuple[int, tuple[Message, ...]]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as e:
        raise MergeError(f"Line {number} is not JSON: {e.msg} at column {e.colno}. {WAY_OUT}") from None
    if isinstance(found, dict) and isinstance(found.get("prompt"), str) and found["prompt"].strip():
        return number, (user(found["prompt"]),)
    messages = found.get("messages") if isinstance(found, dict) else None
    if not isinstance(messages, list) or not messages:
        raise MergeError(f"Line {number} has neither a prompt nor messages. {WAY_OUT}")
    return number, tuple(read_message(number, at, messages) for at in range(len(messages)))


def read_message(number: int, at: int, messages: Sequence[Any]) -> Message:
    """A user's message, or an assistant's between two of them."""
    one, where = messages[at], f"Line {number}, message {at + 1}"
    role, content = (one.get("role"), one.get("content")) if isinstance(one, dict) else (None, None)
    if role == "system":
        raise MergeError(f"{where} is a system prompt. Write it into the settings, where it holds for all prompts.")
    if role not in ("user", "assistant") or not isinstance(content, str) or not content.strip():
        raise MergeError(f"{where} needs a role, user or assistant, and a content that is text. {WAY_OUT}")
    before = messages[at - 1].get("role") if at else "assistant"
    if role == "assistant" and (before == "assistant" or at + 1 == len(messages)):
        raise MergeError(f"{where} is an assistant's; it must stand between two of a user's, which are answered.")
    return {"role": role, "content": content}


def run_book(
    entries: Sequence[Entry], panes: Sequence[str], ask: Ask, together: Callable[[], bool]
) -> Iterator[Progress]:
    """Ask every pane every entry. Where the panes do not fit into memory together, each model is loaded once."""
    rows = [Result(entry, {}, {}) for entry in entries]
    total, done = len(rows) * len(panes), 0
    for number, asked in order(len(rows), panes, together):
        title = f"Prompt {number + 1} of {len(rows)}" + (f", {asked[0]}" if len(asked) < len(panes) else "")
        for note in answer(rows[number], asked, ask):
            yield Progress(done, total, f"{title}. {note}".rstrip(". ") + ".", tuple(panes), tuple(rows))
        done += len(asked)
        yield Progress(done, total, f"{title}.", tuple(panes), tuple(rows))


def order(count: int, panes: Sequence[str], together: Callable[[], bool]) -> Iterator[tuple[int, Sequence[str]]]:
    """The first prompt is for all: after it all files are here, and whether they fit is known."""
    yield 0, panes
    if count > 1 and together():
        yield from ((number, panes) for number in range(1, count))
    else:
        yield from ((number, [pane]) for pane in panes for number in range(1, count))


def answer(row: Result, panes: Sequence[str], ask: Ask) -> Iterator[str]:
    """Have a conversation with some panes at once; yields what they wait for. One that fails leaves it."""
    said: dict[str, list[Message]] = {pane: [] for pane in panes}
    row.answers.update(dict.fromkeys(panes, ()))
    for at, message in enumerate(row.entry.messages):
        for history in said.values():
            history.append(message)
        if not answers_after(row.entry.messages, at):
            continue
        replies: list[Reply] = []
        for replies in ask(list(said), list(said.values())):
            yield next((reply.note for reply in replies if not reply.done and reply.note), "")
        keep(row, said, replies)
        if not said:
            return


def answers_after(messages: Sequence[Message], at: int) -> bool:
    """Whether the pane speaks after a message: it is a user's, and no answer is given."""
    return messages[at]["role"] == "user" and (at + 1 == len(messages) or messages[at + 1]["role"] == "user")


def keep(row: Result, said: dict[str, list[Message]], replies: Sequence[Reply]) -> None:
    for pane, reply in zip(list(said), replies, strict=True):
        row.answers[pane] += (reply.text,)
        said[pane].append({"role": "assistant", "content": reply.text})
        if reply.error:
            row.errors[pane] = reply.error
        if reply.error or not reply.text.strip():  # many chat templates refuse an empty message
            del said[pane]
