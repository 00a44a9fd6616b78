"""What the command line shows: scores as tables, how far something is, and what was tried."""

import json
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from evaluation.path import Path
from evaluation.scores import Scores, Table
from evaluation.scoring import Scoring
from evaluation.search import Found, Trial
from evaluation.soup import Tried
from evaluation.statistics import Interval
from merging.console import console
from merging.recipe import to_yaml

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Result = TypeVar("Result")
WIDE = 200  # characters of a line where there is no terminal
QUIET = 5.0  # seconds between two lines where there is no terminal


def write(text: str) -> None:
    sys.stdout.write(text + "\n")


def write_json(tree: Any) -> None:
    write(json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False))


def show(text: str) -> None:
    """On the way: to whoever looks on."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def follow(steps: "Generator[Any, None, Result]", tell: Callable[[Any], str] = lambda step: "") -> Result:
    """Show how far it is, and a line for each other event, until the end; what came of it."""
    return follow_with_bar(steps, tell) if sys.stderr.isatty() else follow_in_lines(steps, tell)


def follow_with_bar(steps: "Generator[Any, None, Result]", tell: Callable[[Any], str]) -> Result:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console(to_stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        try:
            while True:
                step = next(steps)
                if isinstance(step, Scoring):
                    bar.update(task, total=step.total, completed=step.done, description=step.label)
                elif line := tell(step):
                    bar.console.print(line, markup=False, highlight=False)
        except StopIteration as done:
            found: Result = done.value
            return found
        finally:
            steps.close()


def follow_in_lines(steps: "Generator[Any, None, Result]", tell: Callable[[Any], str]) -> Result:
    said = time.monotonic()
    try:
        while True:
            step = next(steps)
            if not isinstance(step, Scoring):
                if line := tell(step):
                    show(line)
            elif 0 < step.done < step.total and time.monotonic() - said >= QUIET:
                said = time.monotonic()
                show(f"{step.label}: {step.done} of {step.total} read")
    except StopIteration as done:
        found: Result = done.value
        return found
    finally:
        steps.close()


def print_table(table: Table) -> None:
    """A block of lines for each task, a line for each model."""
    write(f"{table.name}: {table.examples:,} examples, sha256 {table.sha256[:16]}. In brackets: 95 % intervals.")
    shown = new_table("Task", "Model", "n", "NLL", "Perplexity", "Exact", "Accuracy", "ECE")
    for task in table.tasks:
        for model in table.models:
            one = model.on(task)
            accuracy = "" if one.accuracy is None else share(one.accuracy)
            perplexity = f"{one.perplexity.value:.3g}"
            shown.add_row(
                task, model.label, f"{one.examples}", number(one.nll), perplexity, share(one.exact), accuracy,
                number(one.ece),
            )  # fmt: skip
    print_whole(shown)


def print_whole(table: "RichTable") -> None:
    """As wide as the terminal; in a file, as wide as it is."""
    out = console(to_stderr=False)
    if not out.is_terminal:
        out.width = WIDE
    out.print(table)


def new_table(*heads: str) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(Text(head), overflow="fold")
    return table


def number(of: Interval) -> str:
    return f"{of.value:.3g} ({of.low:.3g}-{of.high:.3g})"


def share(of: Interval) -> str:
    return f"{100 * of.value:.0f} % ({100 * of.low:.0f}-{100 * of.high:.0f})"


def tell_tried(tried: Any) -> str:
    assert isinstance(tried, Tried)
    return f"{tried.model}: {tried.why}; alone {tried.alone:.4g}"


def tell_point(point: Any) -> str:
    assert isinstance(point, Scores)
    return f"{point.label}: " + ", ".join(f"{task.task} {task.nll.value:.4g}" for task in point.tasks)


def teller_of_trials(names: Sequence[str]) -> Callable[[Any], str]:
    def tell(trial: Any) -> str:
        assert isinstance(trial, Trial)
        values = ", ".join(f"{name} {value:g}" for name, value in zip(names, trial.values, strict=True))
        tasks = ", ".join(f"{task} {value:.4g}" for task, value in trial.tasks.items())
        return f"trial {trial.number + 1}: {trial.value:.4g} ({tasks}) at {values}; {trial.seconds:.1f} s"

    return tell


def print_found(found: Found) -> None:
    best = found.best
    tried = f"{len(found.trials)} trials" + (f", {found.earlier} of them earlier" if found.earlier else "")
    write(f"Best of {tried}: trial {best.number + 1}, {found.search.objective} {best.value:.4g}. With its values:")
    write(to_yaml(found.recipe))


def print_path(path: Path) -> None:
    """The losses at each point, and the barrier of each task."""
    tasks = [barrier.task for barrier in path.barriers]
    shown = new_table(
        f"Share of {path.second}", *(f"NLL, {task}" for task in tasks), *(f"chord, {task}" for task in tasks)
    )
    losses, chords = [path.losses(task) for task in tasks], [path.chord(task) for task in tasks]
    for number, at in enumerate(path.shares):
        shown.add_row(f"{at:.2f}", *(f"{each[number]:.4g}" for each in (*losses, *chords)))
    print_whole(shown)
    for one in path.barriers:
        above = "a barrier" if one.is_clear else "no clear barrier"
        height = f"{one.height.value:.3g} ({one.height.low:.3g} to {one.height.high:.3g})"
        write(f"{one.task}: {above}; the highest point is {height} nats above the chord, at {one.at:.2f}.")
