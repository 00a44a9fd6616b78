"""Text of strangers inside Markdown, so that it stays text."""

import html
import re
from collections.abc import Sequence
from typing import Any

SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")  # what would begin emphasis, code, a link, a cell or a heading
REPO_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", re.ASCII)


def plain(text: Any) -> str:
    """On one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escaped(text: Any) -> str:
    """Text that shows as it is: no markup, no HTML, no new line."""
    return SPECIAL.sub(r"\\\1", html.escape(plain(text), quote=False)).replace("://", ":&#47;&#47;")


def code(text: Any) -> str:
    """A code span, also in a table, whatever backticks and bars the text has."""
    inside = plain(text).replace("|", "\\|")
    fence = "`" * (longest_run(inside) + 1)
    pad = " " if inside.startswith("`") or inside.endswith("`") else ""
    return f"{fence}{pad}{inside}{pad}{fence}" if inside else ""


def fenced(text: str, language: str) -> str:
    """A code block that nothing in the text can end."""
    fence = "`" * max(3, longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def link(repo_id: str, hub: str) -> str:
    """A link to a repo, or plain text for what is not a repo ID."""
    return f"[{repo_id}]({hub}/{repo_id})" if REPO_ID.fullmatch(repo_id) else escaped(repo_id)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells must be escaped already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)
