"""What the page shows, as HTML: values in, text out. Everything that comes from outside is escaped here."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from merging.compatibility import Check, Finding
from merging.methods import Method
from space.book import Result
from space.form import Form
from space.jobs import Job
from space.settings import Settings
from space.titles import lambdas
from space.viewer import Viewer
from space.words import STATES, ago, ahead, count, duration, size

MARKS = {"block": ("✗", "Blocks the merge"), "warn": ("!", "Look at this"), "ok": ("✓", "Fits")}
JOB_MARKS = {
    "queued": "…",
    "running": "▸",
    "waiting": "…",
    "done": "✓",
    "failed": "✗",
    "cancelled": "-",
    "interrupted": "!",
}
READ = {
    "whole": "Every byte read again: its SHA-256 is that of the report.",
    "header": "The size, the Hub's SHA-256 and the header are as reported.",
    "nothing": "Not read.",
}
KINDS = {
    "merge": "merge", "publish": "publication", "verify": "verification", "diagnose": "inspection",
    "judge": "evaluation",
}  # fmt: skip
POLL_SECONDS = 0.5


def header(viewer: Viewer, *, demo: bool) -> str:
    """The name of the app, what it does in one line, and who is signed in."""
    who = f"Signed in as <b>{escape(viewer.account.name)}</b>" if viewer.account else "Not signed in"
    note = '<span class="pill">demo models</span>' if demo else ""
    return (
        '<div class="masthead"><div><h1>Alloy</h1><p>One language model out of several '
        f'fine-tunes, without training.</p></div><p class="who">{note} {who}</p></div>'
    )


def note(text: str, kind: str = "quiet") -> str:
    """A short line in the place where something is missing, waits or failed."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="note {kind}"{role}>{escape(text)}</p>' if text else ""


def limits(settings: Settings) -> str:
    """What one person may ask of this machine, in plain words."""
    lines = [
        f"A merge takes up to {settings.max_models} models and reads up to {size(settings.merge_bytes)}; a greedy soup "
        f"chooses among up to {settings.max_candidates}.",
        f"Each person can have {count(settings.max_jobs_per_owner, 'job')} waiting or running; the queue holds "
        f"{settings.queue_length}. One merge runs at a time.",
        *visitor_limits(settings),
        f"A message has up to {settings.max_turn_chars:,} characters, an answer {settings.max_new_tokens:,} tokens.",
        f"A model that nobody asks for {duration(settings.idle_seconds)} leaves memory, until it is asked.",
        f"{size(settings.spare_disk_bytes)} of disk and {size(settings.spare_memory_bytes)} of memory are kept free; a "
        "job that would take them stops and says so.",
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<details class="limits"><summary>Limits here</summary><ul>{items}</ul></details>'


def visitor_limits(settings: Settings) -> list[str]:
    """What holds only where strangers share the machine."""
    if not settings.hosted:
        return []
    return [
        f"Without a sign-in it is {count(settings.max_jobs_per_visitor, 'job')}, and "
        f"{settings.max_jobs_of_visitors} for all such visitors together.",
        f"What has ended is removed with its files after {count(settings.keep_days, 'day')}.",
    ]


def notice(text: str) -> str:
    """A line over the whole page."""
    return f'<p class="notice" role="alert">{escape(text)}</p>' if text else ""


def empty(title: str, text: str, *, busy: bool = False) -> str:
    """What a stage shows before there is anything to show."""
    said = " data-say" if busy else ""
    return f'<div class="empty{" busy" if busy else ""}"><h2{said}>{escape(title)}</h2><p>{escape(text)}</p></div>'


def steps(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """The way through the page, for who sees it for the first time: a word for each step, and what it brings."""
    items = "".join(f"<li><b>{escape(word)}</b> {escape(text)}</li>" for word, text in lines)
    return f'<div class="empty"><h2>{escape(title)}</h2><ol class="steps">{items}</ol></div>'


def problem(title: str, text: str) -> str:
    """An error that takes the place of the result: what happened, to what, what to do."""
    return (
        f'<div class="verdict block" role="alert"><h2><span>{MARKS["block"][0]}</span>{escape(title)}</h2>'
        f'<p class="cost">{escape(text)}</p></div>'
    )


def method_help(method: Method) -> str:
    paper = f' <a href="{escape(method.paper)}" target="_blank" rel="noopener">Paper</a>' if method.paper else ""
    return f'<p class="help">{escape(method.summary)}{paper}</p>'


def summary(form: Form) -> str:
    """The recipe in one line: what the folded recipe shows on a phone."""
    names = " + ".join(escape(row.repo.split("/")[-1]) for row in form.rows if row.repo)
    return f'<p class="summary"><b>{names or "No models yet"}</b> <span>{escape(form.method)}</span></p>'


# -- check -----------------------------------------------------------------------------------------------------------


def verdict(check: Check) -> str:
    """One line in words, then the cost as a sentence."""
    blocks = [f for f in check.findings if f.level == "block"]
    warns = sum(1 for f in check.findings if f.level == "warn")
    if blocks:
        kind, words = "block", f"Do not merge: {lower_first(blocks[0].title)}"
    elif warns:
        kind, words = "warn", f"These can be merged, with {count(warns, 'thing')} to look at."
    else:
        kind, words = "ok", "These belong together."
    cost = next((f.title for f in check.findings if f.id == "cost"), "")
    price = f'<p class="cost">{escape(cost)}</p>' if cost and not blocks else ""
    mark = f'<span aria-hidden="true">{MARKS[kind][0]}</span>'
    return f'<div class="verdict {kind}"><h2 data-say>{mark}{escape(words)}</h2>{price}</div>'


def about(seconds: float) -> str:
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def findings(check: Check) -> str:
    """Findings as a table, grouped block, warn, ok; what fits is folded."""
    shown = [f for f in check.findings if (f.id, f.level) != ("cost", "ok")]  # it stands in the verdict
    groups = [(level, [f for f in shown if f.level == level]) for level in ("block", "warn", "ok")]
    return "".join(group(level, found) for level, found in groups if found)


def group(level: str, found: Sequence[Finding]) -> str:
    mark, title = MARKS[level]
    rows = "".join(row(f) for f in found)
    table = (
        f'<table class="findings {level}">'
        "<thead><tr><th>What</th><th>Where</th><th>Why, and what to do</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
    head = f'<span class="mark {level}">{mark}</span> {title} <span class="count">{len(found)}</span>'
    if level == "ok":
        return f'<details class="group"><summary>{head}</summary>{table}</details>'
    return f'<section class="group"><h3>{head}</h3>{table}</section>'


def row(found: Finding) -> str:
    pairs = [(found.models[i] if i < len(found.models) else "", v) for i, v in enumerate(found.values)]
    if not pairs:
        pairs = [(m, "") for m in found.models]
    where = "".join(f"<dt>{escape(m)}</dt><dd>{escape(v)}</dd>" for m, v in pairs)
    advice = f"<p>{escape(found.why)}</p><p><b>{escape(found.remedy)}</b></p>" if found.why or found.remedy else ""
    return (
        f"<tr><td><b>{escape(found.title)}</b><code>{escape(found.id)}</code></td><td><dl>{where}</dl></td>"
        f"<td>{advice}</td></tr>"
    )


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


# -- jobs ------------------------------------------------------------------------------------------------------------


def job_panel(job: Job) -> str:
    """A job as it stands: state, bar, figures. The same height in every state, so that nothing jumps."""
    share, detail = fraction(job), "" if job.state == "done" else escape(job.detail)
    before = max(0.0, share - 100 * (job.rate or 0) * POLL_SECONDS / job.total_bytes) if job.total_bytes else share
    bar = (
        f'<div class="progress" role="progressbar" aria-label="{escape(job.title)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<div style="--from:{before:.2f}%;width:{share:.2f}%"></div></div>'
    )
    return (
        f'<div class="job {job.state}"><h2><span class="mark" aria-hidden="true">{JOB_MARKS[job.state]}</span> '
        f'{escape(job.title)}</h2><p class="state" data-say>{state_line(job)}</p>{bar}'
        f'<p class="figures">{figures(job)}</p><p class="detail">{detail or "&nbsp;"}</p></div>'
    )


def fraction(job: Job) -> float:
    if job.state == "done":
        return 100.0
    return min(100.0, 100.0 * job.done_bytes / job.total_bytes) if job.total_bytes else 0.0


def state_line(job: Job) -> str:
    if job.state == "queued":
        wait = f", {about(job.seconds_left)}" if job.seconds_left else ""
        return f"Waiting: place {job.place} in the queue{wait}."
    if job.error:
        return escape(job.error)
    if job.state == "done" and job.started and job.ended:
        return f"Done in {duration(job.ended - job.started)}."
    return f"{STATES[job.state]}."


def figures(job: Job) -> str:
    parts = [f"{fraction(job):.0f} %"]
    if job.total_bytes:
        parts.append(f"{size(job.done_bytes)} of {size(job.total_bytes)}")
    if job.rate and job.state in ("running", "done"):
        parts.append(f"{size(job.rate)}/s")
    if job.state == "running" and job.seconds_left is not None:
        parts.append(f"{about(job.seconds_left)} left")
    return "".join(f"<span>{p}</span>" for p in parts)


def job_label(job: Job, kept: float | None = None) -> str:
    """One line of the list of my jobs. Plain text: it labels a radio button. `kept` is how many seconds after its end a
    job is removed, if ever."""
    share = f" {fraction(job):.0f} %" if job.state == "running" else ""
    state = "not as its report says" if job.result.get("faults") else f"{STATES[job.state].lower()}{share}"
    mark = JOB_MARKS["failed" if job.result.get("faults") else job.state]
    written = job.result.get("bytes") if job.state == "done" else None
    parts = [job.title, *lambdas(job), KINDS.get(job.kind, job.kind), state, ago(job.created)]
    return f"{mark} " + " · ".join([*parts, *([size(written)] if written else []), *removal(job, kept)])


def removal(job: Job, kept: float | None) -> list[str]:
    return [f"removed {ahead(job.ended + kept)}"] if kept and job.ended and not job.active else []


def log_lines(lines: Iterable[str]) -> str:
    text = "\n".join(escape(line) for line in lines)
    return f'<pre class="log" tabindex="0">{text or "Nothing yet."}</pre>'


def downloads(files: Mapping[str, tuple[str, int]], kept: float | None) -> str:
    """The files of a merge, each with the address where it is found and its size."""
    rows = "".join(
        f'<li><a href="{escape(where)}" download>{escape(name)}</a> <span>{size(nbytes)}</span></li>'
        for name, (where, nbytes) in files.items()
    )
    stay = f" They are kept here for {duration(kept)}." if kept else ""
    whole = size(sum(nbytes for _, nbytes in files.values()))
    return f'<p class="note quiet">{count(len(files), "file")}, {whole}.{stay}</p><ul class="files">{rows}</ul>'


def verification(job: Job | None) -> str:
    """A published model that is read again, and what was verified of each shard."""
    if job is None or job.state != "done":
        return job_panel(job) if job else ""
    faults = job.result["faults"]
    kind, words = ("block", "Not what its report says.") if faults else ("ok", "What is published is what was merged.")
    rows = "".join(shard_row(shard) for shard in job.result["shards"])
    head = f'<div class="verdict {kind}" role="status"><h2><span>{MARKS[kind][0]}</span>{words}</h2></div>'
    return f'{head}<table class="findings shards"><tbody>{rows}</tbody></table>'


def shard_row(shard: Mapping[str, Any]) -> str:
    words = f"{MARKS['block'][0]} {shard['fault']}" if shard["fault"] else f"{MARKS['ok'][0]} {READ[shard['read']]}"
    return f"<tr><td>{escape(shard['file'])}</td><td>{size(shard['nbytes'])}</td><td>{escape(words)}</td></tr>"


def published(job: Job) -> str:
    """The end of a publication: the link."""
    url = str(job.result.get("url", ""))
    if job.state != "done" or not url.startswith(("https://", "http://")):
        return ""
    name = escape(url.split("/", 3)[-1])
    more = note(str(job.result.get("note", "")), "warn")
    return (
        f'<p class="published">Published: <a href="{escape(url)}" target="_blank" rel="noopener">{name}</a></p>{more}'
    )


# -- judge -----------------------------------------------------------------------------------------------------------


def book_progress(done: int, total: int, text: str) -> str:
    share = 100 * done / max(total, 1)
    return (
        f'<p class="note" aria-live="polite">{escape(text)} {done} of {total} answers.</p>'
        f'<div class="progress" role="progressbar" aria-label="Prompt book" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share:.0f}"><div style="--from:{share:.2f}%;width:{share:.2f}%"></div></div>'
    )


def book_table(rows: Sequence[Result], panes: Sequence[str]) -> str:
    """Prompts down, panes across. What models wrote is shown as text."""
    head = "".join(f"<th>{escape(one)}</th>" for one in ("Prompt", *panes))
    body = "".join(book_row(row, panes) for row in rows)
    return f'<div class="book" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def book_row(row: Result, panes: Sequence[str]) -> str:
    """One line of the table for each turn, so that answers stand beside their prompt."""
    lines, answered = [], 0
    for number, (prompt, answers) in enumerate(row.entry.turns):
        cells = "".join(book_cell(row, pane, answered) if answers else "<td>(given)</td>" for pane in panes)
        kind = ' class="more"' if number else ""
        lines.append(f"<tr{kind}><th><pre>{escape(prompt)}</pre></th>{cells}</tr>")
        answered += answers
    return "".join(lines)


def book_cell(row: Result, pane: str, number: int) -> str:
    texts = row.answers.get(pane, ())
    text = f"<pre>{escape(texts[number]) or '(nothing)'}</pre>" if number < len(texts) else ""
    error = note(row.errors.get(pane, ""), "error") if number == len(texts) - 1 else ""
    return f'<td data-pane="{escape(pane)}">{text}{error}</td>'
