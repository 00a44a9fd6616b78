"""The results from Hub to Hub as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.measure import Usage
from benchmarks.slow_hub import Line
from benchmarks.table import seconds, table, times
from benchmarks.users import Waits

START_SECONDS, MOST_TIMES = 5.0, 1.15  # of the ideal time
MOST_BESIDES = 50_000_000  # bytes on the disk besides two shards
MOST_MEMORY = 1_500_000_000
MOST_WAIT = 0.3  # seconds for a poll, for 95 of 100
ENOUGH = 2.0  # times as fast as what is done today


def how(line: Line) -> str:
    return (
        "whole processes; the models come cold, from a local Hub in a process of its own, behind a line of "
        f"{line.bytes_per_second / 1e6:.0f} MB/s each way on which every answer begins after "
        f"{line.latency * 1000:.0f} ms. The ideal is the larger of bytes in and bytes out at that rate, plus "
        f"{START_SECONDS:.0f} s. By hand is to download every model with the Hub's client, merge the folders with "
        "mergekit, and upload the result. The disk is that of the work folder, looked at 20 times a second; its limit "
        f"is two output shards and {MOST_BESIDES / 1e6:.0f} MB."
    )


@dataclass(frozen=True, slots=True)
class Plain:
    """The three steps of today."""

    download: float  # seconds
    merge: float
    upload: float
    disk_bytes: int

    @property
    def wall(self) -> float:
        return self.download + self.merge + self.upload


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe."""

    case: Case
    ideal: float  # seconds
    ours: Usage
    disk_bytes: int
    shard_bytes: int
    read_bytes: int  # some tensors more than once, by the plan
    once_bytes: int  # of all inputs
    is_same: bool  # the bits of a merge of folders
    theirs: Plain | None

    @property
    def over(self) -> float:
        return self.ours.wall / self.ideal

    @property
    def over_with_all_that_is_read(self) -> float:
        more = (self.ideal - START_SECONDS) * (self.read_bytes / self.once_bytes - 1)
        return self.ours.wall / (self.ideal + more)

    @property
    def most_disk(self) -> int:
        return 2 * self.shard_bytes + MOST_BESIDES


HEAD = (
    "merge", "Alloy", "ideal", "of the ideal", "peak RSS", "disk", "limit", "by hand", "download", "mergekit", "upload",
    "disk", "times faster",
)  # fmt: skip


def report(rows: Sequence[Row], waits: Waits | None, facts: Mapping[str, str]) -> str:
    parts = ["\n".join(f"- {name}: {fact}" for name, fact in facts.items())]
    if rows:
        parts += [table(HEAD, map(cells, rows)), "\n".join(verdicts(rows))]
    if waits:
        parts.append(told_of(waits))
    return "\n\n".join(parts) + "\n"


def cells(row: Row) -> list[str]:
    theirs = row.theirs
    ours = [
        row.case.name, seconds(row.ours.wall), seconds(row.ideal), f"{row.over:.2f}x",
        f"{row.ours.peak_bytes / 1e9:.2f} GB", gigabytes(row.disk_bytes), gigabytes(row.most_disk),
    ]  # fmt: skip
    if theirs is None:
        return [*ours, *["-"] * 6]
    steps = map(seconds, (theirs.wall, theirs.download, theirs.merge, theirs.upload))
    return [*ours, *steps, gigabytes(theirs.disk_bytes), times(theirs.wall, row.ours.wall)]


def gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB"


def verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """Whether the targets are met, in words."""
    compared = [row for row in rows if row.theirs]
    slow = [f"{row.case.name} ({row.theirs.wall / row.ours.wall:.1f}x)" for row in compared if row.theirs
            and row.theirs.wall < ENOUGH * row.ours.wall]  # fmt: skip
    yield told(
        "Slower than 1.15 times the ideal", (f"{r.case.name} ({r.over:.2f}x)" for r in rows if r.over > MOST_TIMES)
    )
    again = [told_again(row) for row in rows if row.read_bytes > row.once_bytes]
    yield told("Read partly twice, as 1 GB of memory does not hold their largest tensor", again)
    yield told("Less than twice as fast as by hand", slow) if compared else "- By hand: not measured."
    yield told("More disk than the limit", (r.case.name for r in rows if r.disk_bytes > r.most_disk))
    yield told("Peak RSS above 1.5 GB", (r.case.name for r in rows if r.ours.peak_bytes > MOST_MEMORY))
    yield told("Other bits than a merge of folders", (r.case.name for r in rows if not r.is_same))


def told_again(row: Row) -> str:
    read, once = gigabytes(row.read_bytes), gigabytes(row.once_bytes)
    return f"{row.case.name} ({read} for {once}; {row.over_with_all_that_is_read:.2f}x the ideal for these)"


def told(what: str, names: Iterable[str]) -> str:
    return f"- {what}: {', '.join(names) or 'none'}."


def told_of(waits: Waits) -> str:
    found = "met" if waits.p95 < MOST_WAIT else "missed"
    half, most_of_them, all_of_them = (f"{1000 * wait:.0f} ms" for wait in (waits.median, waits.p95, waits.most))
    return (
        f"{waits.people} people poll twice a second and chat with a pocket model all the time, while a merge from Hub "
        f"to Hub runs: of {waits.polls:,} polls half were answered within {half}, 95 of 100 within {most_of_them} "
        f"(target: {1000 * MOST_WAIT:.0f} ms, {found}), all within {all_of_them}; {waits.answers:,} answers were "
        "written meanwhile. They are on the same machine as the app and the Hub."
    )
