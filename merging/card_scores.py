"""What a card says of scores on a set of one's own: numbers with their intervals, and that they are no benchmark."""

from dataclasses import dataclass

from merging.markdown import code, escaped, table

TITLE = "Scores on a set of one's own"
BEGIN, END = "<!-- scores on a set of one's own -->", "<!-- end of the scores on a set of one's own -->"


@dataclass(frozen=True, slots=True)
class OwnScore:
    """Of one model on one task. `low` to `high` is a 95 % interval."""

    model: str
    task: str
    score: str  # what was measured, as people call it
    value: float
    low: float
    high: float
    examples: int


@dataclass(frozen=True, slots=True)
class OwnScores:
    """A whole comparison on one set."""

    name: str  # of the set
    sha256: str
    examples: int
    rows: tuple[OwnScore, ...]


def scores_section(scores: OwnScores) -> str:
    """Markdown; all names are escaped. Empty where there is nothing to tell."""
    if not scores.rows:
        return ""
    told = (
        f"The publisher of this model scored it on {escaped(scores.name)}, {scores.examples:,} examples of their own "
        f"(sha256 {code(scores.sha256[:16])}). This is no public benchmark, and not comparable with any other card. In "
        "brackets are 95 % intervals, from resampling the examples."
    )
    measures = list(dict.fromkeys(row.score for row in scores.rows))
    found = {(row.model, row.task, row.score): row for row in scores.rows}
    keys = list(dict.fromkeys((row.model, row.task, row.examples) for row in scores.rows))
    rows = [
        [escaped(model), escaped(task), f"{count:,}", *(cell(found.get((model, task, one))) for one in measures)]
        for model, task, count in keys
    ]
    return "\n\n".join([BEGIN, f"## {TITLE}", told, table(["Model", "Task", "n", *measures], rows), END])


def cell(score: OwnScore | None) -> str:
    return f"{score.value:.3g} ({score.low:.3g} to {score.high:.3g})" if score else ""


def with_scores(card: str, scores: OwnScores | None) -> str:
    """The card with this section at its end, in the place of an older one; without it where there are no scores."""
    return put_section(card, scores_section(scores) if scores else "", BEGIN, END)


def put_section(card: str, section: str, begin: str, end: str) -> str:
    """Put a section at the end of a card, in the place of the one between the same marks."""
    before, mark, rest = card.partition(begin)
    if mark:
        card = before.rstrip() + "\n" + rest.partition(end)[2].lstrip("\n")
    return f"{card.rstrip()}\n\n{section}\n" if section else card
