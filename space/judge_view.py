"""What the Judge stage shows, as HTML: values in, text out. Everything that comes from outside is escaped here."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from evaluation.held_out import EVERYTHING, HeldOut
from evaluation.statistics import MEASURES
from space import view
from space.form import MAX_ROWS
from space.jobs import Job
from space.judge_charts import Bar, Dot, bars, curve, plane
from space.words import STATES, count, duration

Answer = Mapping[str, Any]
Row = Mapping[str, Any]

NO_SET = view.note(
    "Scores need prompts with the completions that are right, which none of the models was trained on. Paste some, "
    "upload a file, or take the sample."
)
EMPTY = view.empty(
    "Nothing judged yet",
    "Choose a held-out set, then what to find out. It runs as a job: it goes on when you close this page.",
)
ABOUT = {
    "score": "The merge of the recipe as it stands, made in memory, beside its base and parents, their uniform soup "
    "and their ensemble. When this merge is made, Publish offers to put its scores into the card.",
    "search": "Lambdas, or other numbers of the method, are chosen on one half of the set; the other half, which no "
    "trial sees, reports them.",
    "path": "The loss at 7 points of the straight line between two models, beside the chord that one would expect.",
    "soup": "Begins with the best model alone and keeps each other that does not make it worse, on one half of the "
    "set; the other half reports. Candidates are the models of the recipe, others that you name, or the last states of "
    "one repo.",
}  # fmt: skip
COMMIT = re.compile(r"@([0-9a-f]{7})[0-9a-f]{33}\b")
COLUMNS = ("nll", "exact", "accuracy", "ece", "perplexity")


def set_card(held_out: HeldOut | None) -> str:
    """What set it is, with how many examples of each task."""
    if held_out is None:
        return NO_SET
    counts = {task: sum(one.task == task for one in held_out.examples) for task in held_out.tasks}
    several = list(counts) != [EVERYTHING]
    tasks = f", {count(len(counts), 'task')}" if several else ""
    least = min(counts.values())
    few = f" With {least} of a task, only large differences show." if least < 30 else ""
    return (
        f'<div class="set-card"><p><b>{escape(held_out.name)}</b> <span>{count(len(held_out.examples), "example")}'
        f"{tasks}.{few}</span></p></div>"
    )


def task_choices(held_out: HeldOut) -> list[tuple[str, str]]:
    """Every task with how many examples it has; none where there is nothing to choose."""
    counts = [(f"{task} {sum(one.task == task for one in held_out.examples):,}", task) for task in held_out.tasks]
    return counts if len(counts) > 1 else []


def panel(job: Job | None, answer: Answer | None, pair: str = "") -> str:
    """A job as it stands, over what it has found so far; of a search the two tasks that somebody wants to see."""
    if job is None:
        return EMPTY
    head = progress(job) if job.state != "done" else ""
    if answer is None:
        return head
    return head + (searched(answer, job, pair) if answer["what"] == "search" else SHOWN[answer["what"]](answer, job))


def progress(job: Job) -> str:
    share = view.fraction(job)
    waits = f"Waiting: place {job.place} in the queue." if job.state == "queued" else ""
    said = waits or job.error or f"{STATES[job.state]}."
    bar = (
        f'<div class="progress" role="progressbar" aria-label="{escape(job.title)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<div style="--from:{share:.2f}%;width:{share:.2f}%"></div></div>'
        f'<p class="detail">{escape(job.detail) or "&nbsp;"}</p>'
    )
    mark = view.JOB_MARKS[job.state]
    return (
        f'<div class="job judging {job.state}"><h2><span class="mark" aria-hidden="true">{mark}</span> '
        f'{escape(job.title)}</h2><p class="state" data-say>{escape(said)}</p>{bar if job.active else ""}</div>'
    )


def head(words: str, small: str = "") -> str:
    more = f'<p class="help">{escape(small)}</p>' if small else ""
    return f'<div class="found"><h2 data-say>{escape(words)}</h2>{more}</div>'


def took(job: Job) -> str:
    return f"Done in {duration(job.ended - job.started)}. " if job.started and job.ended else ""


# -- scores ----------------------------------------------------------------------------------------------------------


def scores(answer: Answer, job: Job) -> str:
    found = answer.get("scores")
    if not found or not found["rows"]:
        return ""
    done = answer["is_whole"]
    words = verdict(found, "The merge") if done else f"{count(len(found['rows']), 'model')} scored so far"
    return head(words, took(job) + on_which(found["set"])) + compared(found)


def on_which(tree: Mapping[str, Any]) -> str:
    return f"On {tree['name']}, n = {tree['examples']:,}. Thin bars and brackets are 95 % bootstrap intervals."


def verdict(found: Mapping[str, Any], what: str) -> str:
    """One sentence: on which tasks it is clearly worse, or better, than the best parent, on the same examples."""
    against = found["against"]
    if not against:
        return f"{what}, scored"
    worse = [one for one in against if one["is_clear"] and one["change"] < 0]
    better = [one for one in against if one["is_clear"] and one["change"] > 0]
    if worse:
        lost = "; ".join(f"{task_name(one['task'])} {pair_of(one)}" for one in worse)
        return f"{what} is clearly worse than the best parent on {len(worse)} of {count(len(against), 'task')}: {lost}."
    if better:
        won = "; ".join(f"{task_name(one['task'])} {pair_of(one)}" for one in better)
        return f"{what} is nowhere clearly worse than the best parent, and better on {won}."
    return f"{what} is clearly worse than the best parent on none of {count(len(against), 'task')}."


def pair_of(one: Mapping[str, Any]) -> str:
    return f"{number(one['measure'], one['value'])} against {number(one['measure'], one['of_parent'])}"


def task_name(task: str) -> str:
    return "all examples" if task == EVERYTHING else task


def number(measure: str, value: float) -> str:
    if MEASURES[measure].is_share:
        return f"{100 * value:.0f} %"
    return f"{value:.3g}"


def interval(measure: str, found: Mapping[str, float]) -> str:
    low, high = found["low"], found["high"]
    if MEASURES[measure].is_share:
        return f"{100 * found['value']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
    if measure == "ece":
        return f"{found['value']:.3f} ({low:.3f} to {high:.3f})"
    return f"{figures(found['value'])} ({bound(low)} to {bound(high)})"


def bound(value: float) -> str:
    return figures(value) if abs(value) >= 1 else f"{value:.2g}"


def figures(value: float) -> str:
    """Three of them: the perplexity of a model that cannot do a task at all has many."""
    return f"{float(f'{value:.3g}'):,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def compared(found: Mapping[str, Any]) -> str:
    """A small chart for each task, then all numbers as one table."""
    rows = found["rows"]
    measure = best_told(rows)
    charts = "".join(task_chart(rows, number, measure) for number in range(len(rows[0]["tasks"])))
    said = {"exact": "Exact match: answers right to the letter, in percent.", "nll": "Loss (NLL), in nats per token: "
            "less is better.", "accuracy": "Accuracy: the right option is the likeliest, in percent."}  # fmt: skip
    across = columns_for(len(rows[0]["tasks"]))
    return f'<p class="help chart-head">{said[measure]}</p><div class="charts {across}">{charts}</div>{table(rows)}'


def columns_for(charts: int) -> str:
    """So that no chart stands alone in the last line where that can be helped."""
    return "one" if charts == 1 else "two" if charts in (2, 4) else "three"


def best_told(rows: Sequence[Row]) -> str:
    if all(task["accuracy"] for row in rows for task in row["tasks"]):
        return "accuracy"
    return "exact" if any(task["exact"]["value"] for row in rows for task in row["tasks"]) else "nll"


def task_chart(rows: Sequence[Row], at: int, measure: str) -> str:
    name, n = rows[0]["tasks"][at]["task"], rows[0]["tasks"][at]["examples"]
    shown = [bar_of(row, row["tasks"][at][measure], measure) for row in rows]
    most = 1.0 if MEASURES[measure].is_share else max(one.high for one in shown)
    told = f"{task_name(name)}: " + ", ".join(f"{one.label} {one.said}" for one in shown)
    return f"<figure>{caption(name, n)}{bars(shown, most, told)}</figure>"


def caption(task: str, n: int) -> str:
    return f"<figcaption>{escape(task_name(task))} <span>n = {n:,}</span></figcaption>"


def bar_of(row: Row, found: Mapping[str, float], measure: str) -> Bar:
    said = interval(measure, found)
    return Bar(short(row["label"]), row["colour"], found["value"], found["low"], found["high"], said)


def short(label: str) -> str:
    """Without the owner: the colour says which it is, and the table has all of it."""
    return brief(label).rpartition("/")[2]


def brief(label: str) -> str:
    """A commit by its first digits, as the Hub shows it."""
    return COMMIT.sub(r"@\1", label)


def table(rows: Sequence[Row]) -> str:
    columns = [one for one in COLUMNS if any(task.get(one) for row in rows for task in row["tasks"])]
    several = len(rows[0]["tasks"]) > 1
    names = {"nll": "NLL, nats"}
    heads = [*(["Task"] if several else []), "Model", "n", *(names.get(one, MEASURES[one].title) for one in columns)]
    top = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(
        line(row, at, columns, several=several, is_first=row is rows[0])
        for at in range(len(rows[0]["tasks"]))
        for row in rows
    )
    return (
        f'<div class="score-table" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def line(row: Row, at: int, columns: Sequence[str], *, several: bool, is_first: bool) -> str:
    task = row["tasks"][at]
    name = f"<th>{escape(task_name(task['task'])) if is_first else ''}</th>" if several else ""
    cells = "".join(f"<td>{interval(one, task[one]) if task.get(one) else ''}</td>" for one in columns)
    mark = f'<td class="who {row["colour"]}">{escape(brief(row["label"]))}</td>'
    return f"<tr{' class=first' if is_first else ''}>{name}{mark}<td>{task['examples']:,}</td>{cells}</tr>"


# -- searches --------------------------------------------------------------------------------------------------------


def pairs(answer: Answer | None) -> list[str]:
    """The two tasks of each plot of a search, where there are several to choose from."""
    fronts = answer.get("fronts", []) if answer else []
    return [pair_name(front) for front in fronts] if len(fronts) > 1 else []


def pair_name(front: Mapping[str, Any]) -> str:
    return " and ".join(front["tasks"])


def front_of(answer: Answer, pair: str) -> Mapping[str, Any] | None:
    """Of the two tasks that were chosen, else of those with the most to trade; None where there is one task."""
    fronts: Sequence[Mapping[str, Any]] = answer.get("fronts", [])
    chosen = next((one for one in fronts if pair_name(one) == pair), None)
    return chosen or max(fronts, key=lambda one: len(one["trials"]), default=None)


def searched(answer: Answer, job: Job, pair: str = "") -> str:
    trials = answer.get("trials", [])
    if not trials or "best" not in answer:
        return ""
    best = trials[answer["best"]]
    earlier = f", {answer['earlier']} of them from before" if answer["earlier"] else ""
    words = f"Best of {count(len(trials), 'trial')}: {answer['objective']} {number(answer['measure'], best['value'])}"
    if answer.get("given") is not None:
        words += f"; the recipe as it was {number(answer['measure'], answer['given'])}"
    small = (
        f"{took(job)}{count(len(trials), 'trial')}{earlier}, chosen on {answer['parts']['validation']:,} examples; the "
        f"other {answer['parts']['report']:,} report."
    )
    drawn = trade(answer, best, front_of(answer, pair))
    return head(words, small) + values(answer, best) + drawn + reported(answer, "What was found")


def values(answer: Answer, best: Mapping[str, Any]) -> str:
    given = zip(answer["dials"], answer["colours"], best["values"], strict=True)
    items = "".join(
        f'<li class="{colour}"><b>{value:g}</b> <span>{escape(name)}</span></li>' for name, colour, value in given
    )
    return f'<ul class="dials">{items}</ul>'


def trade(answer: Answer, best: Mapping[str, Any], front: Mapping[str, Any] | None) -> str:
    """Two tasks against each other; of one task, its trials as they came."""
    measure = MEASURES[answer["measure"]]
    factor, unit = (100, " (%)") if measure.is_share else (1, "")
    better = "more is better" if measure.more_is_better else "less is better"
    trials, on_front = answer["trials"], set(front["trials"]) if front else set()
    first, second = front["tasks"] if front else ("", "")

    def at(trial: Mapping[str, Any]) -> tuple[float, float]:
        if front:
            return factor * trial["tasks"][first], factor * trial["tasks"][second]
        return trial["number"] + 1, factor * trial["value"]

    dots = [
        Dot(*at(one), trial_title(answer, one), one["number"] in on_front, one["number"] == best["number"])
        for one in trials
    ]
    names = (f"{measure.title} of {first}{unit}", f"{measure.title} of {second}{unit}") if front else (
        "Trial", f"{measure.title}{unit}")  # fmt: skip
    said = (
        f"Each dot is a trial. Those on the line trade {first} for {second}: none is better at both."
        if front
        else "Each dot is a trial, in the order in which they were made."
    )
    as_given = next((one for one in trials if one["number"] == answer.get("start")), None) if front else None
    more = " Thin lines: the recipe as it was." if as_given else ""
    told = f"{said} The best has {trial_title(answer, best)}."
    drawn = plane(dots, names, at(as_given) if as_given else None, told, better=better)
    return f'<figure class="plot broad"><figcaption>{escape(said + more)}</figcaption><div>{drawn}</div></figure>'


def trial_title(answer: Answer, trial: Mapping[str, Any]) -> str:
    values = ", ".join(f"{value:g}" for value in trial["values"])
    tasks = ", ".join(f"{task_name(task)} {number(answer['measure'], v)}" for task, v in trial["tasks"].items())
    return f"trial {trial['number'] + 1} at {values}: {tasks}"


def reported(answer: Answer, what: str) -> str:
    """The part that nothing was chosen by."""
    found = answer.get("report")
    if not found or not found["rows"]:
        return ""
    words = verdict(found, what) if found["against"] else "Scoring the report part"
    return f'<div class="report"><h3>{escape(words)}</h3><p class="help">{escape(on_which(found["set"]))}</p></div>' + (
        compared(found)
    )


# -- paths -----------------------------------------------------------------------------------------------------------


def path(answer: Answer, job: Job) -> str:
    if not answer.get("losses"):
        return ""
    barriers = {one["task"]: one for one in answer["barriers"]}
    words = path_sentence(answer) if barriers else f"From {answer['first']} to {answer['second']}"
    small = (
        f"{took(job)}On {answer['set']['name']}, n = {answer['set']['examples']:,}. Loss (NLL) in nats per token; the "
        "thin line is the chord."
    )
    plots = "".join(path_plot(answer, task, barriers.get(task)) for task in answer["losses"])
    return head(words, small) + f'<div class="charts {columns_for(len(answer["losses"]))}">{plots}</div>'


def path_sentence(answer: Answer) -> str:
    """The basin test, or between a base and its fine-tune the alpha curve."""
    high = [one for one in answer["barriers"] if one["is_clear"]]
    if high:
        worst = max(high, key=lambda one: one["height"]["value"])
        where = f"{worst['height']['value']:.2g} nats above the chord on {task_name(worst['task'])}"
        return f"There is a barrier, {where}: more than chance explains, and averages there lose as much."
    if answer["is_from_base"]:
        return (
            "No barrier between base and fine-tune: each point is a share alpha of the tuning, and of no share can it "
            "be told from chance that it costs more than the line between its ends."
        )
    return "No barrier that could be told from chance on this set: averages between the two can work."


def path_plot(answer: Answer, task: str, barrier: Mapping[str, Any] | None) -> str:
    losses = [one["value"] for one in answer["losses"][task]]
    shares, is_whole = answer["shares"], len(losses) == len(answer["shares"])
    chord = [(1 - share) * losses[0] + share * losses[-1] for share in shares] if is_whole else []
    said = barrier_words(barrier) if barrier else ""
    told = f"{task_name(task)}: loss " + ", ".join(f"{loss:.3g}" for loss in losses)
    drawn = curve(
        losses, len(shares), chord, tuple(answer["colours"]), (short(answer["first"]), short(answer["second"])),
        barrier["at"] if barrier and barrier["is_clear"] else None, told,
    )  # fmt: skip
    head = caption(task, answer["set"]["tasks"][task])
    return f'<figure class="plot">{head}<p class="help">{escape(said) or "&nbsp;"}</p><div>{drawn}</div></figure>'


def barrier_words(barrier: Mapping[str, Any]) -> str:
    found = barrier["height"]
    side = "above" if found["value"] > 0 else "below"
    low, high = sorted((abs(found["low"]), abs(found["high"]))) if found["low"] * found["high"] > 0 else (0.0, 0.0)
    reach = f" ({low:.2g} to {high:.2g})" if high else f" ({found['low']:+.2g} to {found['high']:+.2g})"
    return f"Highest: {abs(found['value']):.2g} nats {side} the chord{reach}, at {100 * barrier['at']:.0f} %"


# -- soups -----------------------------------------------------------------------------------------------------------


def souped(answer: Answer, job: Job) -> str:
    tried = answer.get("tried", [])
    if not tried:
        return ""
    rows = "".join(soup_line(answer, one) for one in tried)
    members = answer.get("members")
    words = f"{len(members)} of {count(len(tried), 'model')} are in the soup" if members else "Trying one after another"
    parts = answer["parts"]
    small = (
        f"{took(job)}{answer['objective']}, on {parts['validation']:,} examples; the other {parts['report']:,} report."
    )
    log = f'<ol class="soup-log">{rows}</ol>'
    compare = f"The soup of all of them: {answer['uniform']:.3g}; this one: {answer['value']:.3g}." if members else ""
    return (
        head(words, small)
        + log
        + view.note(compare)
        + view.note(too_many(members or ()))
        + reported(answer, "The soup")
    )


def too_many(members: Sequence[str]) -> str:
    """What to do with a soup that the recipe column cannot show; empty where it can."""
    if len(members) <= MAX_ROWS:
        return ""
    return (
        f"The recipe column holds {MAX_ROWS} models, this soup has {len(members)}. Its recipe is in the JSON: merge it "
        "with python -m merging."
    )


def soup_line(answer: Answer, tried: Mapping[str, Any]) -> str:
    if tried["before"] is None:
        mark, word, why = "✓", "Begins", f"the best alone, {tried['alone']:.3g}"
    else:
        mark, word = ("✓", "Added") if tried["added"] else ("✗", "Refused")
        how = "not worse than" if tried["added"] else "worse than"
        why = f"with it {tried['together']:.3g}, {how} {tried['before']:.3g} without; alone {tried['alone']:.3g}"
    kind = "in" if tried["added"] else "out"
    return (
        f'<li class="{kind} {tried["colour"]}"><span class="mark" aria-hidden="true">{mark}</span><b>{word}</b> '
        f"<code>{escape(brief(tried['model']))}</code> <span>{escape(why)}</span></li>"
    )


SHOWN = {"score": scores, "path": path, "soup": souped}
