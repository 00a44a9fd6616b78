"""A diagnosis as tables for a terminal: every number beside what unrelated task vectors would show."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from merging.diagnostics import nulls
from merging.diagnostics.advice import Advice
from merging.diagnostics.diagnosis import Diagnosis
from merging.diagnostics.entries import Histogram
from merging.diagnostics.numbers import Part, energy_null
from merging.diagnostics.sums import SHARES
from merging.findings import counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

NONE = "-"
TOLD = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the energy curve
PAIRS = 10  # in full; of more the rest is in --json and --csv
BLOCKS = "·▁▂▃▄▅▆▇█"


def tables(diagnosis: Diagnosis, advice: Sequence[Advice]) -> Iterator["RenderableType"]:
    """What is printed, one thing after the other."""
    from rich.text import Text

    yield Text(heading(diagnosis))
    if diagnosis.has_base:
        yield models_table(diagnosis)
    if diagnosis.whole.pairs:
        yield pairs_table(diagnosis)
    if diagnosis.has_base:
        yield places_table(diagnosis)
    yield Text(merge_sentence(diagnosis))
    for one in advice:
        yield Text(f"! {one.finding} {one.why} ({one.source})")


def heading(diagnosis: Diagnosis) -> str:
    whole = diagnosis.whole
    read = f"a sample of {diagnosis.looked_share:.2%}" if diagnosis.looked_share < 1 else "all"
    beside = "against the base" if diagnosis.has_base else "beside each other; without base_model there are no task "
    more = (
        "" if diagnosis.has_base else "vectors, so sizes, conflicts, energy and the planned merge are not told. First:"
    )
    return (
        f"{counted(len(diagnosis.models), 'model')} {beside}{more} {diagnosis.reference}. Read: {read} of "
        f"{whole.entries:,} entries. In brackets: what unrelated task vectors would show."
    )


def models_table(diagnosis: Diagnosis) -> "Table":
    """One line for each fine-tune."""
    null = dict(zip(SHARES, energy_null(), strict=True))
    columns = ["fine-tune", f"relative size ({nulls.UNRELATED_SIZE:.0%})", "unchanged"] + [
        f"top {s:.0%} ({null[s]:.1%})" for s in TOLD
    ]
    table = new_table("Task vectors; the share of the squared norm in the largest changes", columns)
    for label, model in zip(diagnosis.names, diagnosis.whole.models, strict=True):
        energy = [percent(model.energy[SHARES.index(share)]) for share in TOLD]
        table.add_row(label, percent(model.size), percent(model.unchanged), *energy)
    return table


def pairs_table(diagnosis: Diagnosis) -> "Table":
    whole, keep = diagnosis.whole, f"{diagnosis.keep:.0%}"
    columns = ["pair", f"cosine (0 ± {whole.cosine_spread:.1g})", "norm ratio (1)"]
    title = "Pairs"
    if diagnosis.has_base:
        columns += [f"conflict ({nulls.CONFLICT:.0%})", f"by magnitude ({nulls.CONFLICT:.0%})", f"both in top {keep}",
                    f"conflict in top {keep}"]  # fmt: skip
    else:
        columns.append("distance")
    if len(whole.pairs) > PAIRS:
        title = f"Pairs, the {PAIRS} with the largest cosines of {len(whole.pairs)}"
    table = new_table(title, columns)
    for pair in sorted(whole.pairs, key=lambda p: -abs(p.cosine or 0))[:PAIRS]:
        names = f"{diagnosis.names[pair.a]}\n{diagnosis.names[pair.b]}"
        cells = [number(pair.cosine, 4), number(pair.norm_ratio, 2)]
        if diagnosis.has_base:
            cells += [percent(pair.conflict), percent(pair.conflict_weighted),
                      beside(pair.trimmed_both, pair.trimmed_both_null),
                      beside(pair.trimmed_conflict, pair.trimmed_conflict_null)]  # fmt: skip
        else:
            cells.append(percent(pair.distance))
        table.add_row(names, *cells)
    return table


def places_table(diagnosis: Diagnosis) -> "Table":
    """Relative sizes by role, then by layer."""
    columns = ["where", "entries", *(f"size of {name}" for name in diagnosis.names)]
    columns += ["conflict", "planned merge"]
    table = new_table("By role and by layer; conflict by magnitude", columns)
    for part in (*diagnosis.roles, *diagnosis.layers):
        table.add_row(part.name, f"{part.entries:,}", *(percent(m.size) for m in part.models), conflict_in(part),
                      beside(part.merged, part.merged_null))  # fmt: skip
    return table


def histogram_table(found: Histogram) -> "Table":
    """The changes of one tensor: a line for each fine-tune, and one for what the method makes of them."""
    highest, end = max((max(shares, default=0.0) for _, shares, _ in found.rows), default=0.0), found.edges[-1]
    table = new_table(f"Changes in {found.tensor}", ["", "unchanged", f"from -{end:.2g} to {end:.2g}"])
    for name, shares, unchanged in found.rows:
        table.add_row(name, percent(unchanged), bars(shares, highest))
    return table


def bars(shares: Sequence[float], highest: float) -> str:
    """A character for each bin, as high as its share; what is there at all is seen."""
    most = len(BLOCKS) - 1
    return "".join(BLOCKS[max(share > 0, round(most * share / (highest or 1.0)))] for share in shares)


def conflict_in(part: Part) -> str:
    known = [pair.conflict_weighted for pair in part.pairs if pair.conflict_weighted is not None]
    return percent(sum(known) / len(known)) if known else NONE


def merge_sentence(diagnosis: Diagnosis) -> str:
    whole = diagnosis.whole
    if whole.merged is None:
        return f"How far the planned merge lies from the base is not told. {diagnosis.why_not_merged}"
    sizes = ", ".join(percent(model.size) for model in whole.models)
    null = "" if whole.merged_null is None else f"; {percent(whole.merged_null)} if its parents were unrelated"
    return (
        f"The planned merge ({diagnosis.method}) lies {percent(whole.merged)} of the base's norm away from it, its "
        f"parents {sizes}{null}."
    )


def new_table(title: str, columns: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left", title_style="bold", padding=(0, 2, 0, 0),
                  header_style="")  # fmt: skip
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


def percent(value: float | None) -> str:
    if value is None:
        return NONE
    shown = 100 * value
    return f"{shown:.1f} %" if shown >= 10 or shown == 0 else f"{shown:.2f} %" if shown >= 0.1 else f"{shown:.2g} %"


def number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def beside(value: float | None, null: float | None) -> str:
    return percent(value) if null is None or value is None else f"{percent(value)} ({percent(null)})"
