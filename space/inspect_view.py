"""What an inspection shows, as HTML: values in, text out. Pictures are tables and curves in the colours of the page, so
that they follow light and dark, a phone and a reader of screens. Everything that comes from outside is escaped here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from html import escape

from merging.diagnostics import SHARES, Advice, Diagnosis, Pair, Part, nulls
from merging.diagnostics.advice import ARITHMETIC
from merging.diagnostics.entries import Histogram
from merging.diagnostics.numbers import energy_null
from merging.diagnostics.tables import TOLD, merge_sentence, number, percent
from merging.figures import (
    ROLE_NAMES,
    conflict_sentence,
    cosine_sentence,
    energy_sentence,
    grid,
    histogram_sentence,
    limits_of,
    mean_conflict,
    merged_in,
    merged_null_in,
    roles_of,
    size_in,
    size_sentence,
)
from merging.findings import listed
from space.playground import MINUS, ink, signed_cell
from space.words import size

SPACE = "\N{NO-BREAK SPACE}"
WRITTEN = 14  # layers up to which each cell of a heat map has its number
KINDS = {".csv": "Every number, one a line (CSV)", ".json": "For programs (JSON)", ".png": "Picture"}
Grid = Sequence[Sequence[float | None]]


def report(found: Diagnosis, advice: Sequence[Advice], files: Mapping[str, tuple[str, int]]) -> str:
    """The whole of it: what there is to be said, the pictures, the numbers, and all of it to take away."""
    drawn = [cosines(found)] if len(found.models) > 1 else []
    if found.has_base:
        drawn += [sizes(found), energy(found)]
        drawn += [conflicts(found)] if len(found.models) > 1 else []
        drawn += [merged(found)] if found.whole.merged is not None else []
    said = f'{heading(found)}{advised(found, advice)}<div class="figures-grid">{"".join(drawn)}</div>'
    return f'<div class="inspection">{said}{numbers(found)}{downloads(files)}</div>'


def heading(found: Diagnosis) -> str:
    names = listed(found.names)
    title = f"{names} beside {last(found.reference)}" if found.has_base else f"{names} beside each other"
    read = "Every one" if found.looked_share >= 1 else f"A sample of {found.looked_share:.2%}"
    meant = (
        "Each number stands beside what two task vectors would show that have nothing to do with each other."
        if found.has_base
        else "Without a base there are no task vectors: choose one to see what each model changed."
    )
    return (
        f'<div class="verdict plain"><h2 data-say>{escape(title)}</h2><p class="cost">{read} of '
        f"{found.whole.entries:,} entries of each model was compared: {size(found.read_bytes)} read. {meant}</p></div>"
    )


def last(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]


def advised(found: Diagnosis, advice: Sequence[Advice]) -> str:
    if not advice:
        said = "Nothing here speaks against this merge, and little in weights alone could: a held-out set decides."
        return f'<p class="note advice-none">{said}</p>' if found.has_base else ""
    return f'<ul class="advice">{"".join(map(one_advice, advice))}</ul>'


def one_advice(one: Advice) -> str:
    source = one.source
    where = "Follows from the formula alone." if source == ARITHMETIC else link(source, paper(source))
    return f'<li><b>{escape(one.finding)}</b> {escape(one.why)} <span class="paper">{where}</span></li>'


def paper(address: str) -> str:
    return f"arXiv {address.rpartition('/')[2]}" if "arxiv.org" in address else address


def link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(text)}</a>'


def downloads(files: Mapping[str, tuple[str, int]]) -> str:
    rows = "".join(
        f'<li><a href="{escape(where)}" download>{escape(name)}</a> <span>'
        f"{KINDS.get('.' + name.rpartition('.')[2], '')}, {size(nbytes)}</span></li>"
        for name, (where, nbytes) in files.items()
    )
    return f'<details class="group"><summary>Download</summary><ul class="files">{rows}</ul></details>' if files else ""


# -- pictures ----------------------------------------------------------------------------------------------------------


def figure(name: str, title: str, sentence: str, drawn: str) -> str:
    return (
        f'<figure id="inspect-{name}"><figcaption><h3>{escape(title)}</h3><p class="help">{escape(sentence)}</p>'
        f"</figcaption>{drawn}</figure>"
    )


def cosines(found: Diagnosis) -> str:
    pairs = {frozenset((pair.a, pair.b)): pair.cosine for pair in found.whole.pairs}
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in found.names)
    rows = "".join(
        f'<tr><th scope="row" class="c{a % 8 + 1}">{escape(name)}</th>'
        + "".join(cosine_cell(1.0 if a == b else pairs.get(frozenset((a, b)))) for b in range(len(found.names)))
        + "</tr>"
        for a, name in enumerate(found.names)
    )
    what = "task vectors" if found.has_base else "the models themselves"
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>"
    drawn = f'<div class="wide" tabindex="0"><table class="heat square">{body}</table></div>'
    return figure("cosine", f"Cosine between {what}", cosine_sentence(found), drawn)


def cosine_cell(value: float | None) -> str:
    if value is None:
        return '<td class="zero">·</td>'
    return signed_cell(value, 1.0, "1" if value == 1 else number(value, 4 if abs(value) > 0.99 else 3))


def sizes(found: Diagnosis) -> str:
    grids = [(name, f"c{i % 8 + 1}", grid(found, partial(size_in, model=i))) for i, name in enumerate(found.names)]
    low, high = limits_of(known(cells for _, _, cells in grids), None)
    maps = "".join(heat_map(found, name, colour, cells, low, high) for name, colour, cells in grids)
    drawn = f'<div class="maps">{maps}</div>{scale("hot", percent(low), "", percent(high))}'
    return figure("size", "How far each moved, of the base's norm", size_sentence(found), drawn)


def conflicts(found: Diagnosis) -> str:
    cells = grid(found, mean_conflict)
    low, high = limits_of(known([cells]), nulls.CONFLICT)
    name = "all pairs" if len(found.whole.pairs) > 1 else " and ".join(found.names)
    drawn = f'<div class="maps">{heat_map(found, name, "plain", cells, low, high, middle=nulls.CONFLICT)}</div>'
    told = f"{percent(nulls.CONFLICT)} by chance"
    drawn += scale("both", percent(low), told, percent(high))
    return figure("conflict", "How often two pull an entry opposite ways", conflict_sentence(found), drawn)


def merged(found: Diagnosis) -> str:
    """Where the method of the recipe ends, beside where it would with unrelated parents."""
    grids = [("planned merge", "merged", grid(found, merged_in))]
    if found.whole.merged_null is not None:
        grids.append(("if its parents were unrelated", "plain", grid(found, merged_null_in)))
    low, high = limits_of(known(cells for _, _, cells in grids), None)
    maps = "".join(heat_map(found, name, colour, cells, low, high) for name, colour, cells in grids)
    drawn = f'<div class="maps">{maps}</div>{scale("hot", percent(low), "", percent(high))}'
    return figure("merge", "How far the merge lies from the base, of its norm", merge_sentence(found), drawn)


def known(grids: Iterable[Grid]) -> list[float]:
    return [value for cells in grids for line in cells for value in line if value is not None]


def heat_map(
    found: Diagnosis, name: str, colour: str, cells: Grid, low: float, high: float, *, middle: float | None = None
) -> str:
    """Layers down, roles across."""
    head = "".join(f'<th scope="col">{escape(ROLE_NAMES.get(role, str(role)))}</th>' for role in roles_of(found))
    few = len(cells) <= WRITTEN
    rows = []
    for number_, (layer, line) in enumerate(zip(found.layers, cells, strict=True)):
        label = "outside" if layer.layer is None else str(layer.layer)
        told = label if few or layer.layer is None or number_ % 4 == 0 else ""
        drawn = "".join(heat_cell(value, low, high, middle, written=few) for value in line)
        rows.append(f'<tr><th scope="row">{told}</th>{drawn}</tr>')
    kind = "heat" if few else "heat many"
    return (
        f'<table class="{kind}"><caption class="{colour}">{escape(name)}</caption>'
        f'<thead><tr><th scope="col">layer</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def heat_cell(value: float | None, low: float, high: float, middle: float | None, *, written: bool) -> str:
    """A share of the way to the end of the scale, from its beginning or from the null value to both sides."""
    if value is None:
        return '<td class="zero">·</td>' if written else "<td></td>"
    start = low if middle is None else middle
    share = min(1.0, abs(value - start) / ((high - start) or 1.0))
    kind = ("cold" if value < start else "hot") + ink(share)
    text = percent(value)
    told = f">{text}" if written else f' title="{text}">'
    return f'<td class="{kind}" style="--v:{share:.2f}"{told}</td>'


def scale(kind: str, low: str, middle: str, high: str) -> str:
    ends = f"<span>{low}</span><i></i>" + (f"<span>{middle}</span><i class='up'></i>" if middle else "")
    return f'<p class="scale {kind}">{ends}<span>{high}</span></p>'


def energy(found: Diagnosis) -> str:
    """Curves over the largest changes, the Gaussian's as a thin line; named in the order in which they lie."""
    null, at = energy_null(), SHARES.index(0.2)
    curves = [(f"c{i % 8 + 1}", name, [e or 0.0 for e in m.energy])
              for i, (name, m) in enumerate(zip(found.names, found.whole.models, strict=True))]  # fmt: skip
    curves = [("plain", "a Gaussian", list(null)), *(one for one in curves if one[2][-1])]
    lines = "".join(f'<path class="{kind}" d="{curve(values)}"/>' for kind, _, values in curves)
    names = "".join(
        f'<li class="{kind}">{escape(name)}<span>{percent(values[at])}</span></li>'
        for kind, name, values in sorted(curves, key=lambda one: -one[2][at])
    )
    box = 'class="curves" viewBox="0 0 360 214" role="img" aria-label="Energy curves"'
    drawn = (
        f"<svg {box}>{axes(found.keep)}{lines}</svg>"
        f'<p class="help">Squared norm in the largest 20 % of the changes:</p><ul class="curve-names">{names}</ul>'
    )
    return figure("energy", "How much the largest changes hold", energy_sentence(found), drawn)


def across(share: float) -> float:
    """0.1 % to 100 % of the entries on a scale of powers of ten."""
    return 40 + 300 * (3 + math.log10(share)) / 3


def down(share: float) -> float:
    return 176 - 164 * share


def curve(values: Sequence[float]) -> str:
    return "M" + "L".join(f"{across(s):.1f} {down(v):.1f}" for s, v in zip(SHARES, values, strict=True))


def axes(keep: float) -> str:
    levels = "".join(
        f'<line x1="40" x2="340" y1="{down(v):.0f}" y2="{down(v):.0f}"/><text class="y" x="35" y="{down(v) + 4:.0f}">'
        f"{v:.0%}</text>"
        for v in (0, 0.5, 1)
    )
    ticks = "".join(f'<text x="{across(s):.0f}" y="192">{100 * s:g} %</text>' for s in (0.001, 0.01, 0.1, 1))
    cut = f'<line class="cut" x1="{across(keep):.1f}" x2="{across(keep):.1f}" y1="12" y2="176"/>'
    told = f"kept by trimming: {keep:.0%}" if keep > 0.05 else ""
    words = f'<text class="y" x="{across(keep) - 5:.0f}" y="22">{told}</text>'
    return f'{levels}{ticks}{cut}{words}<text x="190" y="208">largest changes of each tensor</text>'


def changes(found: Histogram, files: Mapping[str, str]) -> str:
    """The changes of one tensor, by model and after the method, on one scale; by what is said of it, where each of its
    files is found."""
    n = len(found.models)
    rows = [(f"c{i % 8 + 1}" if i < n else "merged", *one) for i, one in enumerate(found.rows)]
    highest = max((max(shares, default=0.0) for _, _, shares, _ in rows), default=0.0) or 1.0
    drawn = "".join(bars(kind, name, shares, zeros, highest) for kind, name, shares, zeros in rows)
    end = found.edges[-1]
    axis = f'<p class="axis"><span>{MINUS}{end:.2g}</span><span>0</span><span>{end:.2g}</span></p>'
    if not any(any(shares) for _, _, shares, _ in rows):
        return figure(
            "changes", found.tensor, f"No model changed it: {found.looked:,} entries are those of the base.", ""
        )
    links = "".join(f'<a href="{escape(where)}" download>{escape(said)}</a>' for said, where in files.items())
    drawn = f'<div class="bars">{drawn}{axis}</div><p class="save">{links}</p>'
    return figure("changes", found.tensor, histogram_sentence(found), drawn)


def bars(kind: str, name: str, shares: Sequence[float], zeros: float, highest: float) -> str:
    heights = [100 * share / highest for share in shares]
    drawn = "".join(
        f'<rect x="{i + 0.06:.2f}" y="{100 - height:.1f}" width=".88" height="{height:.1f}"/>'
        for i, height in enumerate(heights)
        if height
    )
    return (
        f'<div class="{kind}"><p><b>{escape(name)}</b> <span>{percent(zeros)} unchanged</span></p>'
        f'<svg viewBox="0 0 {len(shares)} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}: how its changes are spread">{drawn}</svg></div>'
    )


# -- numbers -----------------------------------------------------------------------------------------------------------


def numbers(found: Diagnosis) -> str:
    tables = [models_table(found)] if found.has_base else []
    tables += [pairs_table(found)] if found.whole.pairs else []
    is_told = found.has_base and found.whole.merged is None  # else it stands at the map of it
    why_not = f'<p class="help planned">{escape(merge_sentence(found))}</p>' if is_told else ""
    return f'<section class="group"><h3>The numbers, each over its null value</h3>{"".join(tables)}{why_not}</section>'


def models_table(found: Diagnosis) -> str:
    null = dict(zip(SHARES, energy_null(), strict=True))
    head = ["Fine-tune", "Relative size", "Unchanged", *(f"Energy, top {100 * s:g}{SPACE}%" for s in TOLD)]
    rows = [
        (name, i, [(percent(m.size), percent(nulls.UNRELATED_SIZE)), (percent(m.unchanged), percent(nulls.UNCHANGED)),
                   *((percent(m.energy[SHARES.index(s)]), percent(null[s])) for s in TOLD)])
        for i, (name, m) in enumerate(zip(found.names, found.whole.models, strict=True))
    ]  # fmt: skip
    return table("Task vectors", head, rows)


def pairs_table(found: Diagnosis) -> str:
    keep = f"{100 * found.keep:.3g}{SPACE}%"
    head = ["Pair", "Cosine", "Norm ratio"]
    head += (["Conflict", "By magnitude", f"Both in the top {keep}", f"Conflict in the top {keep}"] if found.has_base
             else ["Distance"])  # fmt: skip
    rows = [(" and ".join(found.names[i] for i in (pair.a, pair.b)), -1, pair_cells(found.whole, pair, found.has_base))
            for pair in found.whole.pairs]  # fmt: skip
    return table("Pairs", head, rows)


def pair_cells(part: Part, pair: Pair, has_base: bool) -> list[tuple[str, str]]:
    spread = f"0 ± {part.cosine_spread:.1g}" if has_base else "near 1"
    cells = [(number(pair.cosine, 4), spread), (number(pair.norm_ratio, 2), "1")]
    if not has_base:
        return [*cells, (percent(pair.distance), "")]
    chance = percent(nulls.CONFLICT)
    return [
        *cells, (percent(pair.conflict), chance), (percent(pair.conflict_weighted), chance),
        (percent(pair.trimmed_both), percent(pair.trimmed_both_null)),
        (percent(pair.trimmed_conflict), percent(pair.trimmed_conflict_null)),
    ]  # fmt: skip


def beside(null: str) -> str:
    return f"<small>null {null}</small>" if null else ""


def table(title: str, head: Sequence[str], rows: Sequence[tuple[str, int, Sequence[tuple[str, str]]]]) -> str:
    """On a phone each line is a list, with the heads beside the numbers."""
    tops = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
    lines = "".join(
        f'<tr><th scope="row" class="{f"c{colour % 8 + 1}" if colour >= 0 else "plain"}">{escape(name)}</th>'
        + "".join(
            f'<td data-head="{escape(one)}">{value}{beside(null)}</td>'
            for one, (value, null) in zip(head[1:], cells, strict=True)
        )
        + "</tr>"
        for name, colour, cells in rows
    )
    return (
        f'<table class="numbers"><caption class="sr-only">{escape(title)}</caption><thead><tr>{tops}</tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )
