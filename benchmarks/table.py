"""The results as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.measure import Usage
from benchmarks.trials import Trial

MOST_BYTES = 2_000_000_000  # of peak RSS that Alloy may take
ENOUGH = 1.0  # times mergekit's speed, at least

SPEEDS = (
    "merge", "Alloy", "CPU", "peak RSS", "GB/s", "of the floor",
    "mergekit", "CPU", "peak RSS", "GB/s", "times faster", "less CPU", "less RSS",
)  # fmt: skip
AGREEMENTS = ("merge", "Alloy: farthest", "beyond 1", "mergekit: farthest", "beyond 1")
CHANGES = ("merge", "Alloy: size of the change", "mergekit: size of the change")


@dataclass(frozen=True, slots=True)
class Row:
    """All that was measured of one case."""

    case: Case
    moved_bytes: int
    floor: Usage
    ours: Trial
    theirs: Trial | None

    @property
    def ratio(self) -> float | None:
        """How many times faster than mergekit."""
        return self.theirs.best.wall / self.ours.best.wall if self.theirs else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column is text, the others are figures."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def speed_table(rows: Sequence[Row]) -> str:
    return table(SPEEDS, map(speeds, rows))


def speeds(row: Row) -> list[str]:
    ours, theirs = row.ours, row.theirs
    cells = [row.case.name, *figures(ours, row.moved_bytes), times(ours.best.wall, row.floor.wall)]
    if theirs is None:
        return [*cells, *["-"] * 7]
    return [
        *cells, *figures(theirs, row.moved_bytes),
        times(theirs.best.wall, ours.best.wall), times(theirs.best.cpu, ours.best.cpu),
        times(theirs.peak_bytes, ours.peak_bytes),
    ]  # fmt: skip


def figures(trial: Trial, moved_bytes: int) -> list[str]:
    best = trial.best
    return [walls(trial), seconds(best.cpu), f"{trial.peak_bytes / 1e9:.2f} GB", f"{moved_bytes / best.wall / 1e9:.2f}"]


def times(more: float, less: float) -> str:
    return f"{more / less:.1f}x"


def walls(trial: Trial) -> str:
    """The best wall time, and the worst where there were several."""
    best, worst = trial.best.wall, max(usage.wall for usage in trial.usages)
    return seconds(best) if len(trial.usages) == 1 else f"{seconds(best)} (to {seconds(worst)})"


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def agreement_table(rows: Iterable[Row]) -> str:
    """Outputs of the methods without chance beside the float64 result."""
    return table(AGREEMENTS, ([row.case.name, *steps(row.ours), *steps(row.theirs)] for row in rows))


def steps(trial: Trial | None) -> list[str]:
    if trial is None:
        return ["-", "-"]
    return [f"{trial.agreement.most:,.2f}", f"{trial.agreement.beyond_one:.2%}"]


def change_table(rows: Iterable[Row]) -> str:
    """The mean magnitude of the change that a random method makes, as a share of that of a float64 draw."""
    return table(CHANGES, ([row.case.name, size(row.ours), size(row.theirs)] for row in rows))


def size(trial: Trial | None) -> str:
    return f"{trial.agreement.change:.2%}" if trial else "-"


def verdict(rows: Sequence[Row]) -> str:
    """Whether the targets are met, in words."""
    slower = [f"{row.case.name} ({row.ratio:.2f}x)" for row in rows if row.ratio is not None and row.ratio < ENOUGH]
    large = [
        f"{row.case.name} ({row.ours.peak_bytes / 1e9:.2f} GB)" for row in rows if row.ours.peak_bytes > MOST_BYTES
    ]
    compared = any(row.theirs for row in rows)
    wrong = [row.case.name for row in rows if not is_right(row)]
    return "\n".join(
        [
            f"- Slower than mergekit: {', '.join(slower) or 'none' if compared else 'not measured'}.",
            f"- Peak RSS above {MOST_BYTES / 1e9:g} GB: {', '.join(large) or 'none'}.",
            f"- Outputs of Alloy that are not what was asked for: {', '.join(wrong) or 'none'}.",
        ]
    )


def is_right(row: Row) -> bool:
    return row.ours.agreement.is_alike() if row.case.is_random else row.ours.agreement.is_exact()


def report(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """The whole result: what was measured where, the tables, and whether the targets are met."""
    exact = [row for row in rows if not row.case.is_random]
    drawn = [row for row in rows if row.case.is_random]
    parts = [
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        speed_table(rows),
        verdict(rows),
        "Entries of whole tensors beside the float64 result, in steps of bfloat16 (correctly rounded: at most 0.5):",
        agreement_table(exact),
        "Mean magnitude of the change that a random method makes, beside that of a float64 draw:",
        change_table(drawn),
    ]
    return "\n\n".join(part for part in parts[: 7 if drawn else 5] if part) + "\n"
