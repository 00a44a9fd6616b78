"""Renders chat templates, in a process of its own. A template is a program that a stranger wrote: Jinja's sandbox keeps
it from running other code, but not from taking all time and memory there is.

Run by its path, so that nothing but Jinja is imported. Reads questions, one JSON document a line, and answers each in
the same way. Every question is answered by a fork of this process, which has limits and ends with its answer: no
template meets what another one left behind.
"""

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.utils
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 2
WALL_SECONDS = 10
MEMORY_BYTES = 512_000_000
OUTPUT_BYTES = 64_000
LIMITS = {
    resource.RLIMIT_CPU: CPU_SECONDS,
    resource.RLIMIT_AS: MEMORY_BYTES,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NOFILE: 0,
}
ERROR_CHARS = 300
# What transformers puts around a control token that a person typed, so that it is read as plain text.
START, END = "\U000f0000", "\U000f0001"

Question = dict[str, Any]  # template, messages, tokens, added, control
Answer = dict[str, str]  # text, or error


class Generation(jinja2.ext.Extension):
    """Some templates mark what the assistant says, for training; here the mark is read over."""

    tags = {"generation"}  # noqa: RUF012  declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Dictionary:
    """`dict` without what else a class gives."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class Namespace(jinja2.utils.Namespace):
    """What templates keep values in, without a way to what Python keeps in names of its own."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that a value can be called `self`
        self, values = args[0], dict(*args[1:], **kwargs)
        jinja2.utils.Namespace.__init__(self)
        for name, value in values.items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"{name!r} cannot be set")
        super().__setitem__(name, value)


def refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """What transformers gives to templates."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    made.globals |= {"dict": Dictionary(), "namespace": Namespace}
    return made


def render(question: Question) -> str:
    """The conversation in the words of the template, with control tokens in what people typed marked."""
    env = environment()
    pattern = re.compile("|".join(map(re.escape, control_tokens(env, question))) or "(?!)")
    messages = marked(question["messages"], pattern)
    parts, size = [], 0
    for part in env.from_string(question["template"]).generate(
        messages=messages, tools=None, documents=None, add_generation_prompt=True, **question["tokens"]
    ):
        size += len(part.encode())
        if size > OUTPUT_BYTES:
            raise jinja2.TemplateError(f"it makes more than {OUTPUT_BYTES:,} bytes of it")
        parts.append(part)
    return "".join(parts)


def control_tokens(env: jinja2.Environment, question: Question) -> list[str]:
    """Special tokens, and the added ones that the template itself writes; the longest first."""
    tree = env.parse(question["template"])
    written = {node.data for node in tree.find_all(nodes.TemplateData)}
    written |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    literal, named = "\0".join(written), question["control"]
    found = [
        token
        for token, special in question["added"]
        if special or (token in named if named is not None else token in literal and not token.isspace())
    ]
    return sorted(found, key=len, reverse=True)


def marked(messages: Iterable[dict[str, str]], pattern: re.Pattern[str]) -> list[dict[str, str]]:
    return [
        {
            name: pattern.sub(f"{START}\\g<0>{END}", text.replace(START, "").replace(END, ""))
            for name, text in message.items()
        }
        for message in messages
    ]


def answer(question: Question) -> Answer:
    try:
        return {"text": render(question)}
    except MemoryError:
        return {"error": "it takes more memory than a template may"}
    except RecursionError:
        return {"error": "it goes too deep"}
    except Exception as e:  # noqa: BLE001  whatever a template does wrong is its answer
        return {"error": (str(e) or type(e).__name__)[:ERROR_CHARS]}


def answer_within_limits(line: bytes, out: int) -> None:
    """In the fork: answer, with limits that the system keeps. It opens nothing, and hears no other question."""
    os.close(0)
    os.close(1)
    signal.alarm(WALL_SECONDS)
    for what, most in LIMITS.items():
        resource.setrlimit(what, (most, most))
    text = json.dumps(answer(json.loads(line))).encode()
    while text:
        text = text[os.write(out, text) :]


def ask_fork(line: bytes) -> bytes:
    """The answer of a fork, or what ended it."""
    into, out = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            os.close(into)
            answer_within_limits(line, out)
            status = 0
        finally:
            os._exit(status)
    os.close(out)
    with os.fdopen(into, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return said
    late = -status in (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM)
    why = f"it takes more than {CPU_SECONDS} seconds" if late else "it breaks down"
    return json.dumps({"error": why}).encode()


def warm_up() -> None:
    """Have Jinja import now what it imports when it is needed: a fork can open no file."""
    for template in (
        "{% for m in messages %}{{ m|trim|tojson }}{{ strftime_now('%Y') }}{% endfor %}",
        "{{ a.b }}",
    ):
        answer({"template": template, "messages": [{"role": "user"}], "tokens": {}, "added": [], "control": None})


def main() -> None:
    warm_up()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(ask_fork(line) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
