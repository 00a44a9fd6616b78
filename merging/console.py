"""What the command line shows: findings, methods and progress."""

import json
import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from merging.checks.cost import size
from merging.compatibility import Check
from merging.errors import MergeError
from merging.findings import Finding
from merging.methods import Method, Param
from merging.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from merging.diagnostics import Diagnosis
    from merging.diagnostics.entries import Histogram
    from merging.figures import Picture
    from merging.hub import Verified

Result = TypeVar("Result")

MARKS = {"block": ("BLOCK", "bold red"), "warn": ("warn", "yellow"), "ok": ("ok", "green")}
EXTENTS = {
    "whole": "every byte read again: its SHA-256 is that of the report",
    "header": "size, the Hub's SHA-256 and the header are as reported",
    "nothing": "not read",
}
QUIET = 5.0  # seconds between two lines where there is no terminal


def console(*, to_stderr: bool) -> "Console":
    from rich.console import Console  # it takes a tenth of a second

    return Console(stderr=to_stderr, highlight=False, soft_wrap=False)


@contextmanager
def shown() -> Iterator[None]:
    """What is printed inside reaches its reader, or there is an error in words."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has enough, as `head` does
        silence()
    except OSError as e:
        silence()
        raise MergeError(f"The output cannot be written: {e.strerror or e}.") from None


def silence() -> None:
    """Let what is still to be printed go nowhere, so that Python does not fail at it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_check(check: Check, *, to_stderr: bool = False) -> None:
    """Findings as a table: what blocks first. Then the cost in one sentence."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in ("mark", "finding", "text"):
        table.add_column(overflow="fold")  # names are never cut
    cost = [f for f in check.findings if f.id == "cost"]
    for finding in (f for f in check.findings if f.id != "cost"):
        mark, style = MARKS[finding.level]
        table.add_row(Text(mark, style), Text(finding.id), Text("\n".join(lines_of(finding))))
    out = console(to_stderr=to_stderr)
    out.print(table)
    for finding in cost:
        out.print(Text(finding.title))


def lines_of(finding: Finding) -> Iterator[str]:
    """A finding in lines: what, which models, why it matters, what to do."""
    yield finding.title
    if finding.level != "ok":
        yield from (f"  {model}: {value}" for model, value in zip(finding.models, finding.values, strict=False))
        yield from (text for text in (finding.why, finding.remedy) if text)


def check_tree(check: Check) -> dict[str, Any]:
    """A check for programs."""
    plan = check.plan
    cost = None if plan is None else {
        "read_bytes": plan.read_bytes, "write_bytes": plan.write_bytes, "peak_memory_bytes": plan.peak_memory_bytes,
        "disk_bytes": plan.disk_bytes, "shards": len(plan.shards), "seconds": check.seconds,
    }  # fmt: skip
    return {
        "blocked": check.blocked,
        "findings": [asdict(f) for f in check.findings],
        "revisions": dict(check.revisions),
        "cost": cost,
    }


def print_methods(methods: Sequence[Method], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([method_tree(m) for m in methods], indent=2, ensure_ascii=False) + "\n")
        return
    for method in methods:
        models = f"{method.min_models}" if method.max_models == method.min_models else f"{method.min_models} or more"
        beside = " and a base" if method.needs_base else ", with a base or without" if method.takes_base else ""
        lines = [f"{method.name}: {method.summary}", f"    models: {models}{beside}"]
        lines += [f"    {p.name}: {describe(p)}" for p in method.params]
        sys.stdout.write("\n".join([*lines, f"    {method.paper}"] if method.paper else lines) + "\n\n")


def describe(param: Param) -> str:
    default = "required" if param.default is None else f"default {json.dumps(param.default)}"
    within = ", {:g} to {:g}".format(*param.range.limits) if param.range else ""
    return f"{param.help} ({default}{within}{', per model' if param.per_model else ''})"


def method_tree(method: Method) -> dict[str, Any]:
    """What a method declares, for programs."""
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "paper": method.paper,
        "needs_base": method.needs_base,
        "takes_base": method.takes_base,
        "min_models": method.min_models,
        "max_models": method.max_models,
        "random": method.random,
        "params": [param_tree(p) for p in method.params],
    }


def param_tree(param: Param) -> dict[str, Any]:
    within = None if param.range is None else list(param.range.limits)
    return {
        "name": param.name,
        "type": param.type.__name__,
        "default": param.default,
        "per_model": param.per_model,
        "range": within,
        "help": param.help,
    }


def follow(steps: Iterable[Progress]) -> None:
    """Show progress until it ends: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        follow_with_bar(steps)
    else:
        follow_in_lines(steps)


def follow_with_bar(steps: Iterable[Progress]) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
               TextColumn("{task.description}", markup=False))  # fmt: skip
    with Progress(*columns, console=console(to_stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        for step in steps:
            if step.note:
                bar.console.print(step.note, markup=False)
            bar.update(task, total=step.total_bytes, completed=step.done_bytes, description=step.tensor)


def follow_in_lines(steps: Iterable[Progress]) -> None:
    began = said = time.monotonic()
    found = 0  # bytes that an earlier run has done
    for step in steps:
        now = time.monotonic()
        if step.note:
            found = step.done_bytes
            sys.stderr.write(step.note + "\n")
        elif now - said >= QUIET or step.done_bytes == step.total_bytes:
            said = now
            sys.stderr.write(line_of(step, now - began, found) + "\n")
            sys.stderr.flush()


def follow_to_the_end(steps: "Generator[Progress, None, Result]") -> Result:
    """Show progress, and return what came of it."""
    found: list[Result] = []

    def each() -> Iterator[Progress]:
        found.append((yield from steps))

    follow(each())
    return found[0]


def print_diagnosis(diagnosis: "Diagnosis") -> None:
    from merging.diagnostics.advice import advise
    from merging.diagnostics.tables import tables

    out = console(to_stderr=False)
    for number, shown_now in enumerate(tables(diagnosis, advise(diagnosis))):
        out.print(*([] if number == 0 else [""]), shown_now, sep="\n")


def print_histogram(found: "Histogram") -> None:
    from merging.diagnostics.tables import histogram_table
    from merging.figures import histogram_sentence

    console(to_stderr=False).print(histogram_table(found), "", histogram_sentence(found), sep="\n", markup=False)


def write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise MergeError(f"{path} cannot be written: {e.strerror or e}.") from None


def write_plots(diagnosis: "Diagnosis", folder: Path) -> None:
    """Pictures into a folder; what each of them shows is said in a line."""
    from merging.figures import pictures

    put_pictures(pictures(diagnosis), folder)


def write_plot(histogram: "Histogram", folder: Path) -> None:
    from merging.figures import delta_histogram

    put_pictures([delta_histogram(histogram)], folder)


def put_pictures(found: "Sequence[Picture]", folder: Path) -> None:
    from merging.figures import write_pictures

    try:
        paths = write_pictures(found, folder)
    except OSError as e:
        raise MergeError(f"The pictures cannot be written to {folder}: {e.strerror or e}.") from None
    for path, picture in zip(paths, found, strict=True):
        sys.stderr.write(f"{path}: {picture.sentence}\n")


def line_of(step: Progress, seconds: float, found: int = 0) -> str:
    rate = (step.done_bytes - found) / max(seconds, 1e-3)
    left = (step.total_bytes - step.done_bytes) / max(rate, 1)
    return (
        f"{100 * step.done_bytes // max(step.total_bytes, 1)} %, {size(step.done_bytes)} of {size(step.total_bytes)}, "
        f"{size(rate)}/s, {left:.0f} s left"
    )


def print_verification(found: "Verified") -> None:
    """What was verified of each shard, a line for each."""
    for shard in found.shards:
        sys.stdout.write(f"{shard.file}  {size(shard.nbytes)}  {shard.fault or EXTENTS[shard.read]}\n")


def follow_verification(steps: "Generator[Verified, None, Verified]") -> "Verified":
    """Show how far it is now and then; what was found in the end."""
    said = time.monotonic()
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            found: Verified = end.value
            return found
        if time.monotonic() - said >= QUIET:
            said = time.monotonic()
            sys.stderr.write(f"{size(step.read_bytes)} of {size(step.total_bytes)}\n")
