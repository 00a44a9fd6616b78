"""A held-out set: prompts with the completions that are right, read line by line, refused with the line of the fault.

A line is `{"prompt": …, "completion": …}` or `{"messages": […]}`, whose last message is the completion. It may have a
`task`, and `options` of which the completion is one. Pasted from a table, a line is prompt, tab, completion.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merging.errors import MergeError
from merging.settings import nearest, shown

MAX_BYTES = 20_000_000
MAX_EXAMPLES = 20_000
MAX_CHARS = 100_000  # of one text
MAX_TASKS, MAX_OPTIONS = 50, 50
KEYS = ("prompt", "completion", "messages", "task", "options")
ROLES = ("system", "user", "assistant")
WAY_OUT = 'A line is {"prompt": "…", "completion": "…"} or {"messages": […]}, with a "task" and "options" if you like.'
EVERYTHING = "all"  # the task of examples that name none

Turn = tuple[str, str]  # role and content


@dataclass(frozen=True, slots=True)
class Example:
    """What a model is asked, and what it should say."""

    turns: tuple[Turn, ...]
    completion: str
    options: tuple[str, ...] = ()  # with the completion among them
    task: str = EVERYTHING

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in self.turns]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Examples under a name. Two sets with the same examples in the same order have the same digest."""

    name: str
    examples: tuple[Example, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.task for one in self.examples))

    @property
    def sha256(self) -> str:
        return digest([[one.turns, one.completion, one.options, one.task] for one in self.examples])


@dataclass(frozen=True, slots=True)
class Parts:
    """Two sets without a prompt in common: one to choose by, one to report what was chosen."""

    validation: HeldOut
    report: HeldOut


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()


def read_held_out(file: Path) -> HeldOut:
    """Raises MergeError where the file cannot be read, or with the line that is wrong."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as e:
        raise MergeError(f"The set {file} cannot be read: {e.strerror or e}.") from None
    return parse_held_out(raw, file.name)


def parse_held_out(raw: bytes | str, name: str) -> HeldOut:
    """JSON lines, or lines of a table."""
    if len(raw) > MAX_BYTES:
        raise MergeError(f"{name} has more than {MAX_BYTES:,} bytes. Give a part of it.")
    try:
        text = raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        raise MergeError(f"{name} is not text in UTF-8. Save it as JSON lines.") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise MergeError(f"{name} is empty. {WAY_OUT}")
    if len(lines) > MAX_EXAMPLES:
        raise MergeError(f"{name} has {len(lines):,} examples; at most {MAX_EXAMPLES:,} are read. Give a part of it.")
    read = read_json if lines[0][1].lstrip().startswith("{") else read_row
    found = HeldOut(name, tuple(read(line, f"{name}, line {number}") for number, line in lines))
    if len(found.tasks) > MAX_TASKS:
        raise MergeError(f"{name} has {len(found.tasks)} tasks; at most {MAX_TASKS} are told apart. Merge some.")
    return found


def read_row(line: str, place: str) -> Example:
    """Prompt, completion and perhaps a task, with tabs between them."""
    cells = line.strip("\r").split("\t")
    if not 2 <= len(cells) <= 3:
        raise MergeError(f"{place} has no tab between prompt and completion. {WAY_OUT}")
    return example_of(dict(zip(("prompt", "completion", "task"), cells, strict=False)), place)


def read_json(line: str, place: str) -> Example:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise MergeError(f"{place} is not JSON: {e}. {WAY_OUT}") from None
    if not isinstance(raw, dict):
        raise MergeError(f"{place} is {shown(raw)}, not an object. {WAY_OUT}")
    return example_of(raw, place)


def example_of(raw: Mapping[str, Any], place: str) -> Example:
    for key in raw:
        if key not in KEYS:
            raise MergeError(f"{place}: {shown(key)} is not known here. {nearest(key, KEYS)}")
    if "messages" in raw and ("prompt" in raw or "completion" in raw):
        raise MergeError(f"{place} has messages beside a prompt or completion. Give one or the other. {WAY_OUT}")
    if "messages" in raw:
        turns, completion = read_messages(raw["messages"], place)
    else:
        turns = (("user", text_of(raw, "prompt", place)),)
        completion = text_of(raw, "completion", place)
    task = text_of(raw, "task", place).strip() if "task" in raw else EVERYTHING
    return Example(turns, completion, read_options(raw.get("options"), completion, place), task)


def text_of(raw: Mapping[str, Any], key: str, place: str) -> str:
    if key not in raw:
        raise MergeError(f"{place} has no {key}. {WAY_OUT}")
    return checked(raw[key], f"{place}: {key}")


def checked(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise MergeError(f"{what} is {shown(text)}, it must be text in quotes.")
    if not text.strip():
        raise MergeError(f"{what} is empty. Write what it is, or remove the line.")
    if len(text) > MAX_CHARS:
        raise MergeError(f"{what} has {len(text):,} characters; at most {MAX_CHARS:,} are read.")
    return text


def read_messages(raw: Any, place: str) -> tuple[tuple[Turn, ...], str]:
    """The turns before the last, and the last, which is what the assistant should say."""
    if not isinstance(raw, list) or len(raw) < 2 or not all(isinstance(one, dict) for one in raw):
        raise MergeError(f"{place}: messages must be a list of a user's message and an assistant's, at least.")
    turns = []
    for i, one in enumerate(raw):
        if (role := one.get("role")) not in ROLES:
            raise MergeError(f"{place}: messages[{i}].role is {shown(role)}, it must be one of: {', '.join(ROLES)}.")
        turns.append((str(role), text_of(one, "content", f"{place}: messages[{i}]")))
    if turns[-1][0] != "assistant" or turns[-2][0] != "user":
        raise MergeError(f"{place}: the last message must be the assistant's, after one of the user's.")
    return tuple(turns[:-1]), turns[-1][1]


def read_options(raw: Any, completion: str, place: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not 2 <= len(raw) <= MAX_OPTIONS:
        raise MergeError(f"{place}: options must be a list of 2 to {MAX_OPTIONS} texts.")
    found = tuple(checked(one, f"{place}: options[{i}]") for i, one in enumerate(raw))
    if len(set(found)) < len(found):
        raise MergeError(f"{place}: an option stands twice in its list. Every one must be another.")
    if completion not in found:
        raise MergeError(f"{place}: the completion {shown(completion)} is not among the options. Add it to them.")
    return found


def split(given: HeldOut, share: float = 0.5) -> Parts:
    """Two parts, the same ones every time: of each task this share of the prompts to choose by, the others to report.

    Which part a prompt is in follows from the order of the prompts' digests, not from that of the lines. A prompt that
    comes again, in whatever task, is in the same part.
    """
    sides: dict[str, bool] = {}
    for task in given.tasks:
        prompts = {key_of(one) for one in given.examples if one.task == task} - sides.keys()
        ordered = sorted(prompts)
        cut = min(max(1, round(share * len(ordered))), len(ordered) - 1)
        sides |= {key: at < cut for at, key in enumerate(ordered)}
    parts = Parts(
        HeldOut(f"{given.name} (validation)", tuple(one for one in given.examples if sides[key_of(one)])),
        HeldOut(f"{given.name} (report)", tuple(one for one in given.examples if not sides[key_of(one)])),
    )
    for part, what in ((parts.validation, "to choose by"), (parts.report, "to report")):
        if missing := [task for task in given.tasks if task not in part.tasks]:
            raise MergeError(
                f"{given.name}: the task {missing[0]} has too few different prompts to be split: none is left {what}. "
                "Add examples to it, or give a second set to report on."
            )
    return parts


def key_of(example: Example) -> str:
    """Tells one prompt from another, whatever its completion."""
    return digest(example.turns)


def apart(validation: HeldOut, report: HeldOut) -> Parts:
    """Two sets that were given as such. Raises MergeError where they share a prompt."""
    chosen_by = {key_of(one) for one in validation.examples}
    if shared := [one for one in report.examples if key_of(one) in chosen_by]:
        raise MergeError(
            f"{validation.name} and {report.name} share {len(shared)} of their prompts, such as "
            f"{shown(shared[0].turns[-1][1])}. What is reported must be other than what was chosen by: remove them "
            "from one."
        )
    return Parts(validation, report)


def to_jsonl(examples: Iterable[Example]) -> str:
    """The examples as lines that are read back to equal ones."""
    return "".join(json.dumps(tree_of(one), ensure_ascii=False) + "\n" for one in examples)


def tree_of(one: Example) -> dict[str, Any]:
    if [role for role, _ in one.turns] == ["user"]:
        tree: dict[str, Any] = {"prompt": one.turns[0][1], "completion": one.completion}
    else:
        last = {"role": "assistant", "content": one.completion}
        tree = {"messages": [*one.messages, last]}
    tree |= {"task": one.task} if one.task != EVERYTHING else {}
    return tree | ({"options": list(one.options)} if one.options else {})


def only(given: HeldOut, tasks: Sequence[str]) -> HeldOut:
    """The examples of some tasks."""
    for task in tasks:
        if task not in given.tasks:
            raise MergeError(f"{given.name} has no task {shown(task)}. {nearest(task, given.tasks)}")
    return HeldOut(given.name, tuple(one for one in given.examples if one.task in tasks)) if tasks else given
