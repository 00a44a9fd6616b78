"""What the page shows, as HTML: values in, text out. Everything that comes from outside is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from merging.compatibility import Check, Finding
from merging.methods import Method
from space.book import Result
from space.form import Form
from space.jobs import Job
from space.settings import Settings
from space.titles import lambdas
from space.viewer import Viewer
from space.words import STATES, ago, count, duration, size

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
POLL_SECONDS = 0.5


def header(viewer: Viewer, *, demo: bool) -> str:
    """The name of the app, what it does in one line, and who is signed in."""
    who = f"Signed in as <b>{escape(viewer.account.name)}</b>" if viewer.account else "Not signed in"
    note = '<span class="pill">demo models</span>' if demo else ""
    return (
        '<div class="masthead"><div><h1>Alloy</h1><p>Merge fine-tuned language models. '
        f'See first whether they fit.</p></div><p class="who">{note} {who}</p></div>'
    )


def note(text: str, kind: str = "quiet") -> str:
    """A short line in the place where something is missing, waits or failed."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="note {kind}"{role}>{escape(text)}</p>' if text else ""


def limits(settings: Settings) -> str:
    """What one person may ask of this machine, in plain words."""
    lines = [
        f"A merge takes up to {settings.max_models} models and reads up to {size(settings.merge_bytes)}.",
        f"Each person can have {count(settings.max_jobs_per_owner, 'job')} waiting or running; the queue holds "
        f"{settings.queue_length}. One merge runs at a time.",
        f"A message has up to {settings.max_turn_chars:,} characters, an answer {settings.max_new_tokens:,} tokens.",
        f"A model that nobody asks for {duration(settings.idle_seconds)} leaves memory, until it is asked.",
        f"{size(settings.spare_disk_bytes)} of disk and {size(settings.spare_memory_bytes)} of memory are kept free; a "
        "job that would take them stops and says so.",
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<details class="limits"><summary>Limits here</summary><ul>{items}</ul></details>'


def notice(text: str) -> str:
    """A line over the whole page."""
    return f'<p class="notice" role="alert">{escape(text)}</p>' if text else ""


def empty(title: str, text: str, *, busy: bool = False) -> str:
    """What a stage shows before there is anything to show."""
    return f'<div class="empty{" busy" if busy else ""}"><h2>{escape(title)}</h2><p>{escape(text)}</p></div>'


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


def verdict(check: Check, *, stale: bool = False) -> str:
    """One line in words, then the cost as a sentence."""
    blocks = [f for f in check.findings if f.level == "block"]
    warns = sum(1 for f in check.findings if f.level == "warn")
    if blocks:
        kind, words = "block", f"Do not merge: {lower_first(blocks[0].title)}"
    elif warns:
        kind, words = "warn", f"These can be merged, with {count(warns, 'thing')} to look at."
    else:
        kind, words = "ok", "These belong together."
    old = '<p class="note warn">The recipe has changed since this check. Check again.</p>' if stale else ""
    cost = next((f.title for f in check.findings if f.id == "cost"), "")
    price = f'<p class="cost">{escape(cost)}</p>' if cost and not blocks else ""
    return f'<div class="verdict {kind}"><h2><span>{MARKS[kind][0]}</span>{escape(words)}</h2>{price}</div>{old}'


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
    share = fraction(job)
    before = max(0.0, share - 100 * (job.rate or 0) * POLL_SECONDS / job.total_bytes) if job.total_bytes else share
    bar = (
        f'<div class="progress" role="progressbar" aria-label="{escape(job.title)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<div style="--from:{before:.2f}%;width:{share:.2f}%"></div></div>'
    )
    return (
        f'<div class="job {job.state}"><h2><span class="mark">{JOB_MARKS[job.state]}</span> {escape(job.title)}</h2>'
        f'<p class="state" aria-live="polite">{state_line(job)}</p>{bar}'
        f'<p class="figures">{figures(job)}</p><p class="detail">{escape(job.detail) or "&nbsp;"}</p></div>'
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


def job_label(job: Job) -> str:
    """One line of the list of my jobs. Plain text: it labels a radio button."""
    share = f" {fraction(job):.0f} %" if job.state == "running" else ""
    what = {"merge": "merge", "publish": "publication"}.get(job.kind, job.kind)
    written = job.result.get("bytes") if job.state == "done" else None
    parts = [job.title, *lambdas(job), what, f"{STATES[job.state].lower()}{share}", ago(job.created)]
    return f"{JOB_MARKS[job.state]} " + " · ".join([*parts, size(written)] if written else parts)


def log_lines(lines: Iterable[str]) -> str:
    text = "\n".join(escape(line) for line in lines)
    return f'<pre class="log" tabindex="0">{text or "Nothing yet."}</pre>'


def published(job: Job) -> str:
    """The end of a publication: the link."""
    url = str(job.result.get("url", ""))
    if job.state != "done" or not url.startswith(("https://", "http://")):
        return ""
    name = escape(url.split("/", 3)[-1])
    return f'<p class="published">Published: <a href="{escape(url)}" target="_blank" rel="noopener">{name}</a></p>'


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
