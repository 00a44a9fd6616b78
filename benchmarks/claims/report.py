"""The table of claims as Markdown: what was claimed, what came out, and whether it holds."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Figures, means, met, verdict
from benchmarks.claims.reasons import REASONS
from benchmarks.table import table

HEAD = ("claim", "paper", "ours: mean (least to most over seeds)", "criterion", "verdict", "why")
GROUPS = {  # by the file that its claims stand in
    "soups": "Soups",
    "arithmetic": "Task arithmetic",
    "interference": "Many models, and parts of task vectors",
    "basins": "Where models lie",
}
VERDICTS = ("holds", "does not hold", "not testable")

INTRODUCTION = """\
# What the papers claim, on a zoo of our own

Written by `python -m benchmarks.claims --write` (`make claims ARGS=--write`). Every merge is made by Alloy's engine.

The models are Llamas of {parameters:,} parameters, trained from nothing on rows of symbols: eight tasks (the largest,
the second largest, the median, ...) in four alphabets, with one symbol for an answer. Six of these 32 skills are left
out of pretraining, so that the base does them badly, by what it knows of the task elsewhere and of the alphabet: they
are what is fine-tuned. All training is plain AdamW: no replay, no noise on weights, nothing frozen, nothing that helps
a merge, unlike the demo's models. The settings were chosen by the accuracy of the base and of the fine-tunes alone,
before any merge was made.

Each figure is a mean over seeds; each seed has a base, a second pretraining and {models} other models of its own.
Criteria were written down and committed before a merge was measured. A claim **holds** if the mean over seeds meets its
criterion, and two thirds of the seeds do; it is **not testable** where these models lack what it presupposes. **What
holds here need not hold for large models, nor the other way round**: this says that Alloy computes what the papers
describe, and which of their findings so little is enough to show.
"""


def report(
    found: Mapping[str, Sequence[Figures]], claims: Mapping[str, Claim], facts: Mapping[str, str], **sizes: int
) -> str:
    """`found` has the figures of each seed, by the claim's name."""
    parts = [
        INTRODUCTION.format(**sizes).rstrip(),
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        headline(found, claims),
    ]
    for group, title in GROUPS.items():
        names = [name for name in found if claims[name].group == group]
        if names:
            rows = table(HEAD, [row(claims[name], found[name]) for name in names]).replace("--:", ":--")
            parts += [f"## {title}", rows, "\n".join(explained(claims[name]) for name in names)]
    return "\n\n".join(parts) + "\n"


def headline(found: Mapping[str, Sequence[Figures]], claims: Mapping[str, Claim]) -> str:
    said: list[str] = [verdict(claims[name], runs) for name, runs in found.items()]
    counts = ", ".join(counted(one, said.count(one)) for one in VERDICTS if one in said)
    return f"Of {len(said)} claims {counts}."


def counted(verdict: str, count: int) -> str:
    many = {"holds": "hold", "does not hold": "do not hold", "not testable": "are not testable at this size"}
    one = many | {"holds": "holds", "does not hold": "does not hold", "not testable": "is not testable at this size"}
    return f"{count} {(one if count == 1 else many)[verdict]}"


def row(claim: Claim, runs: Sequence[Figures]) -> list[str]:
    said = verdict(claim, runs)
    return [
        f"*{claim.name}*: {claim.text} {linked(claim.source)}", claim.paper, figures_text(runs), claim.criterion,
        f"**{said}**, {met(claim, runs)} of {len(runs)} seeds", REASONS.get((claim.name, said), ""),
    ]  # fmt: skip


def linked(source: str) -> str:
    """Addresses in a source as links."""
    return "(" + re.sub(r"https://[^\s;,]+", lambda found: f"<{found[0]}>", source) + ")"


def figures_text(runs: Sequence[Figures]) -> str:
    return "; ".join(f"{name} {spread([run[name] for run in runs])}" for name in means(runs))


def spread(values: Sequence[float]) -> str:
    """The mean, and in brackets the least and the most."""
    middle = sum(values) / len(values)
    return f"{number(middle)} ({number(min(values))} to {number(max(values))})" if len(values) > 1 else number(middle)


def number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 2 else f"{value:.2f}"


def explained(claim: Claim) -> str:
    amended = f" Amended after the first seed was measured: {claim.amended}." if claim.amended else ""
    return f"- *{claim.name}*: {claim.how}{amended}"
