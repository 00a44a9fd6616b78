"""The results of a prompt book as files to keep."""

import csv
import io
import json
from collections.abc import Sequence

from space.book import Result

BETWEEN = "\n---\n"  # two answers, or two prompts, of one conversation
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(rows: Sequence[Result], panes: Sequence[str]) -> str:
    """A line for each prompt, a column for each pane. What a spreadsheet would run as a formula gets a `'` before it:
    models write the cells."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow([safe(cell) for cell in ("prompt", *panes)])
    for row in rows:
        table.writerow([safe(cell) for cell in (BETWEEN.join(row.entry.prompts), *(cell_of(row, p) for p in panes))])
    return out.getvalue()


def cell_of(row: Result, pane: str) -> str:
    parts = [*row.answers.get(pane, ()), *([f"[{row.errors[pane]}]"] if pane in row.errors else [])]
    return BETWEEN.join(part for part in parts if part)


def safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def to_jsonl(rows: Sequence[Result], panes: Sequence[str]) -> str:
    """As it is: messages, the answers of each pane, and the errors."""
    lines = (
        {
            "messages": list(row.entry.messages),
            "answers": {pane: list(row.answers.get(pane, ())) for pane in panes},
            "errors": row.errors,
        }
        for row in rows
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
