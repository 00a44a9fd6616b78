"""Pictures of a diagnosis, each with the sentence that says what it shows and which choice that informs.

Colours are told apart without red and green, labels stand where the eye is, null values are thin lines. matplotlib is
imported when something is drawn, and without pyplot: there is no global state.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merging.diagnostics import nulls
from merging.diagnostics.diagnosis import AROUND, Diagnosis
from merging.diagnostics.entries import Histogram
from merging.diagnostics.numbers import Part, energy_null
from merging.diagnostics.sums import SHARES
from merging.diagnostics.tables import merge_sentence
from merging.roles import ROLES, Role

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
WRITTEN = 14  # layers up to which each cell of a heat map has its number
COLUMNS = 3  # of small pictures side by side
ROLE_NAMES = {"mlp": "MLP"}
RIGHT = 0.1  # of a cosine: the angle is then within 6 degrees of a right one


@dataclass(frozen=True, slots=True)
class Ink:
    """The colours of a picture, by what they are for."""

    paper: str
    text: str
    quiet: str
    low: str
    high: str
    cold: str  # below the null value
    series: tuple[str, ...]  # of the models, after Okabe and Ito

    def of(self, model: int) -> str:
        return self.series[model % len(self.series)]


LIGHT = Ink("#ffffff", "#2b2927", "#777169", "#f7f1ea", "#8a3f1b", "#1f5f8b",
            ("#0072b2", "#b87900", "#00805e", "#b0508a", "#2a8fc4", "#c24e00", "#6b6b6b", "#7d7300"))  # fmt: skip
DARK = Ink("#1e1c1b", "#f3f1ed", "#a39d94", "#2f2a27", "#f0a36f", "#6db6e8",
           ("#56b4e9", "#e69f00", "#2fc79a", "#e39ac6", "#9ad0f5", "#f58549", "#b5b5b5", "#e0d24a"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and its sentence."""

    name: str  # of its file, without the ending
    title: str
    sentence: str
    figure: "Figure"

    def png(self) -> bytes:
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=DPI, metadata={"Description": self.sentence, "Software": None})
        return out.getvalue()


def pictures(diagnosis: Diagnosis, *, dark: bool = False) -> list[Picture]:
    """All that a diagnosis has the numbers for."""
    drawn: list[Callable[..., Picture]] = [cosine_matrix] if len(diagnosis.models) > 1 else []
    if diagnosis.has_base:
        drawn += [size_map, energy_curve]
        drawn += [conflict_map] if len(diagnosis.models) > 1 else []
        drawn += [merge_map] if diagnosis.whole.merged is not None else []
    return [draw(diagnosis, dark=dark) for draw in drawn]


def write_pictures(found: Sequence[Picture], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{picture.name}.png" for picture in found]
    for path, picture in zip(paths, found, strict=True):
        path.write_bytes(picture.png())
    return paths


# Layer by role.


def size_map(diagnosis: Diagnosis, *, dark: bool = False) -> Picture:
    """How far each model moved, for every role in every layer."""
    grids = [(name, grid(diagnosis, partial(size_in, model=i))) for i, name in names_of(diagnosis)]
    title = "How far each fine-tune moved, as a share of the base's norm"
    return Picture("size-by-layer-and-role", title, size_sentence(diagnosis),
                   heat_maps(diagnosis, grids, title, ink_of(dark), middle=None))  # fmt: skip


def size_in(part: Part, model: int) -> float | None:
    return part.models[model].size


def size_sentence(diagnosis: Diagnosis) -> str:
    cells = [(part.models[i].size or 0.0, name, part) for part in diagnosis.cells for i, name in names_of(diagnosis)]
    size, name, part = max(cells, key=lambda cell: cell[0])
    still = [role.name for role in diagnosis.roles if not any(m.size for m in role.models)]
    rest = f" No model changed its {' or '.join(still)}." if still else ""
    return (
        f"{name} changed most in {place_of(part)}: {size:.1%} of the base's norm there.{rest} "
        "Ratios of their own per layer and role act where the colour is strong."
    )


def conflict_map(diagnosis: Diagnosis, *, dark: bool = False) -> Picture:
    """How often models go against each other, for every role in every layer: all pairs together."""
    grids = [("all pairs" if len(diagnosis.whole.pairs) > 1 else " and ".join(diagnosis.names),
              grid(diagnosis, mean_conflict))]  # fmt: skip
    title = "How often two fine-tunes pull an entry in opposite directions"
    return Picture("conflict-by-layer-and-role", title, conflict_sentence(diagnosis),
                   heat_maps(diagnosis, grids, title, ink_of(dark), middle=nulls.CONFLICT))  # fmt: skip


def mean_conflict(part: Part) -> float | None:
    """Weighted by magnitude, over the pairs that have any."""
    found = [pair.conflict_weighted for pair in part.pairs if pair.conflict_weighted is not None]
    return sum(found) / len(found) if found else None


def conflict_sentence(diagnosis: Diagnosis) -> str:
    whole = mean_conflict(diagnosis.whole)
    if whole is None:
        return "No entry was changed by two models, so there is nothing for a vote on signs to decide."
    if whole < nulls.CONFLICT - 0.05:
        meaning = "they partly learned the same, so that their sum grows faster than that of unrelated ones"
    elif whole > nulls.CONFLICT + 0.05:
        meaning = "they undo part of each other where both are added; a vote on signs (TIES) leaves one side out there"
    else:
        meaning = "as unrelated task vectors do, which by itself is no reason to choose a method that votes on signs"
    return f"Weighted by magnitude {whole:.1%} goes against each other, beside 50 % by chance: {meaning}."


def merge_map(diagnosis: Diagnosis, *, dark: bool = False) -> Picture:
    """How far the planned merge lies from the base, for every role in every layer, beside unrelated parents."""
    grids = [(f"planned merge ({diagnosis.method})", grid(diagnosis, merged_in))]
    if diagnosis.whole.merged_null is not None:
        grids.append(("if its parents were unrelated", grid(diagnosis, merged_null_in)))
    title = "How far the planned merge lies from the base, as a share of its norm"
    return Picture("merge-by-layer-and-role", title, merge_sentence(diagnosis),
                   heat_maps(diagnosis, grids, title, ink_of(dark), middle=None))  # fmt: skip


def merged_in(part: Part) -> float | None:
    return part.merged


def merged_null_in(part: Part) -> float | None:
    return part.merged_null


def grid(diagnosis: Diagnosis, value: Callable[[Part], float | None]) -> list[list[float | None]]:
    """A row for each layer, a column for each role that the model has."""
    cells = {(part.layer, part.role): value(part) for part in diagnosis.cells}
    return [[cells.get((layer.layer, role)) for role in roles_of(diagnosis)] for layer in diagnosis.layers]


def heat_maps(
    diagnosis: Diagnosis, grids: Sequence[tuple[str, list[list[float | None]]]], title: str, ink: Ink,
    *, middle: float | None,
) -> "Figure":  # fmt: skip
    rows, roles = len(diagnosis.layers), roles_of(diagnosis)
    columns = min(COLUMNS, len(grids))
    down = -(-len(grids) // columns)
    height = max(1.6, min(9.0, 0.34 * rows if rows <= WRITTEN else 0.16 * rows))
    figure = new_figure(2.2 + max(3.4, 0.95 * len(roles)) * columns, 1.5 + (height + 0.75) * down, ink, title)
    axes = figure.subplots(down, columns, squeeze=False)
    known = [value for _, one in grids for row in one for value in row if value is not None]
    colours, limits = colours_of(ink, middle), limits_of(known, middle)
    drawn = None
    for number, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if number < len(grids):
            name, values = grids[number]
            drawn = draw_grid(ax, values, diagnosis, ink, colours, limits)
            ax.set_title(name, fontsize=10, color=ink.text, loc="left")
            show_layers(ax, diagnosis, ink, is_first=number % columns == 0)
    if drawn is not None:
        add_scale(figure, drawn, axes, ink, middle)
    return figure


def draw_grid(
    ax: "Axes", values: list[list[float | None]], diagnosis: Diagnosis, ink: Ink, colours: Any,
    limits: tuple[float, float],
) -> Any:  # fmt: skip
    import numpy as np

    table = np.array([[np.nan if v is None else v for v in row] for row in values], np.float64)
    drawn = ax.imshow(np.ma.masked_invalid(table), cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto",
                      interpolation="nearest")  # fmt: skip
    if len(values) <= WRITTEN:
        for (y, x), value in np.ndenumerate(table):
            ax.text(x, y, "·" if np.isnan(value) else percent(value), ha="center", va="center", fontsize=9,
                    color=ink.quiet if np.isnan(value) else readable_on(drawn, value, ink))  # fmt: skip
    return drawn


def show_layers(ax: "Axes", diagnosis: Diagnosis, ink: Ink, *, is_first: bool) -> None:
    ax.set_axis_on()
    names = [part.name.removeprefix("layer ") if part.layer is not None else "outside" for part in diagnosis.layers]
    every = 1 if len(names) <= WRITTEN else max(1, len(names) // 8)
    shown = [i for i, name in enumerate(names) if i % every == 0 or name == "outside"]
    ax.set_yticks(shown, [names[i] for i in shown], fontsize=8, color=ink.text)
    roles = [ROLE_NAMES.get(role, str(role)) for role in roles_of(diagnosis)]
    ax.set_xticks(range(len(roles)), roles, fontsize=8, color=ink.text)
    ax.tick_params(length=0)
    if is_first:
        ax.set_ylabel("layer", fontsize=9, color=ink.quiet)
    for edge in ax.spines.values():
        edge.set_visible(False)


def add_scale(figure: "Figure", drawn: Any, axes: Any, ink: Ink, middle: float | None) -> None:
    scale = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, aspect=30,
                            format=lambda value, _: percent(value))  # fmt: skip
    scale.outline.set_visible(False)
    if middle is not None:
        low, high = drawn.get_clim()
        scale.set_ticks([low, middle, high], labels=[percent(low), f"{percent(middle)}\nby chance", percent(high)])
        scale.ax.axhline(middle, color=ink.text, linewidth=0.8)
    scale.ax.tick_params(labelsize=8, labelcolor=ink.text, length=0)


def colours_of(ink: Ink, middle: float | None) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    steps = [ink.low, ink.high] if middle is None else [ink.cold, ink.low, ink.high]
    return LinearSegmentedColormap.from_list("alloy", steps).with_extremes(bad=ink.paper)


def limits_of(known: Sequence[float], middle: float | None) -> tuple[float, float]:
    if middle is None:
        return 0.0, max([*known, 1e-12])
    apart = max([abs(value - middle) for value in known] + [0.05])
    return middle - apart, middle + apart


def readable_on(drawn: Any, value: float, ink: Ink) -> str:
    red, green, blue, _ = drawn.cmap(drawn.norm(value))
    return "#1e1c1b" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#faf9f7"


# Cosines.


def cosine_matrix(diagnosis: Diagnosis, *, dark: bool = False) -> Picture:
    """Of the task vectors, or of the models where there is no base."""
    import numpy as np

    ink, labels = ink_of(dark), diagnosis.names
    table = np.full((len(labels), len(labels)), np.nan)
    for pair in diagnosis.whole.pairs:
        table[pair.a, pair.b] = table[pair.b, pair.a] = np.nan if pair.cosine is None else pair.cosine
    what = "task vectors" if diagnosis.has_base else "the models themselves"
    title = f"Cosine between {what}"
    side = max(2.6, 0.7 * len(labels))
    figure = new_figure(side + 2.6, side + 1.6, ink, title)
    ax = figure.subplots()
    drawn = ax.imshow(np.ma.masked_invalid(table), cmap=colours_of(ink, 0.0), vmin=-1, vmax=1)
    for (y, x), value in np.ndenumerate(table):
        told = "1" if x == y else "·" if np.isnan(value) else f"{value:.4f}" if abs(value) > 0.99 else f"{value:.3f}"
        colour = ink.quiet if np.isnan(value) else readable_on(drawn, value, ink)
        ax.text(x, y, told, ha="center", va="center", fontsize=10, color=colour)
    ax.set_xticks(range(len(labels)), labels, fontsize=8, color=ink.text, rotation=30, ha="right")
    ax.set_yticks(range(len(labels)), labels, fontsize=8, color=ink.text)
    plain(ax)
    return Picture("cosine", title, cosine_sentence(diagnosis), figure)


def cosine_sentence(diagnosis: Diagnosis) -> str:
    known = [pair for pair in diagnosis.whole.pairs if pair.cosine is not None]
    if not known:
        return "A model changed nothing, so it has no direction."
    most = max(known, key=lambda pair: abs(pair.cosine or 0))
    a, b = (diagnosis.names[i] for i in (most.a, most.b))
    told = f"{a} and {b} have the largest cosine, {most.cosine:.3f}"
    if not diagnosis.has_base:
        return f"{told}; models of one base have nearly 1, so with a base this would say more: give a base_model."
    spread = diagnosis.whole.cosine_spread
    told += f", beside 0 ± {spread:.1g} for unrelated vectors"
    if (most.cosine or 0) > RIGHT:
        return f"{told}: they learned partly the same, so that a sum of the two goes farther than its lambdas say."
    if (most.cosine or 0) < -RIGHT:
        return f"{told}: a sum of the two takes back part of each, so that their lambdas are not chosen one by one."
    return f"{told}: the task vectors are nearly at right angles, so each can have its own lambda."


# Energy.


def energy_curve(diagnosis: Diagnosis, *, dark: bool = False) -> Picture:
    """How much of the squared norm the largest changes hold."""
    ink, title = ink_of(dark), "How much of each task vector its largest changes hold"
    figure = new_figure(7.2, 4.6, ink, title)
    ax = figure.subplots()
    null = energy_null()
    ax.plot([100 * s for s in SHARES], [100 * e for e in null], color=ink.quiet, linewidth=0.9, zorder=3)
    labels = [(null[AT], "a Gaussian", ink.quiet)]
    for i, name in names_of(diagnosis):
        curve = [energy or 0.0 for energy in diagnosis.whole.models[i].energy]
        if curve[-1]:
            ax.plot([100 * s for s in SHARES], [100 * e for e in curve], color=ink.of(i), linewidth=1.8)
            labels.append((curve[AT], name, ink.of(i)))
    label_curves(ax, labels)
    ax.axvline(100 * diagnosis.keep, color=ink.quiet, linewidth=0.6, linestyle=(0, (2, 3)))
    ax.text(100 * diagnosis.keep, 1, f"kept by trimming: {percent(diagnosis.keep)} ", fontsize=8, color=ink.quiet,
            ha="right")  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([0.1, 1, 5, 10, 20, 50, 100], ["0.1 %", "1 %", "5 %", "10 %", "20 %", "50 %", "100 %"])
    ax.minorticks_off()
    ax.set_ylim(0, 103)
    ax.set_xlabel("largest changes of each tensor", fontsize=9, color=ink.quiet)
    ax.set_ylabel("share of the squared norm, %", fontsize=9, color=ink.quiet)
    axis_ink(ax, ink)
    return Picture("energy", title, energy_sentence(diagnosis), figure)


AT = SHARES.index(0.2)  # where curves are told apart


def energy_sentence(diagnosis: Diagnosis) -> str:
    at, null = SHARES.index(0.2), energy_null()[SHARES.index(0.2)]
    held = [(m.energy[at], name) for m, (_, name) in zip(diagnosis.whole.models, names_of(diagnosis), strict=True)]
    known = [(energy, name) for energy, name in held if energy is not None]
    if not known:
        return "No model changed anything."
    energy, name = max(known)
    if energy > null + 0.1:
        meaning = "few entries carry it, so trimming (TIES, Breadcrumbs) leaves most of it"
    else:
        meaning = "it is spread like noise, so trimming takes away a share of it with nothing to say which is redundant"
    held_by = f"The largest 20 % of the changes of {name} hold {energy:.0%} of its squared norm"
    return f"{held_by}, a Gaussian's {null:.0%}: {meaning}."


def label_curves(ax: "Axes", labels: Sequence[tuple[float, str, str]]) -> None:
    """Names in the colours of their curves, in the order in which these lie above each other."""
    for place, (energy, name, colour) in enumerate(sorted(labels, reverse=True)):
        ax.text(0.03, 0.93 - 0.06 * place, f"{name}: {percent(energy)} in the largest 20 %", transform=ax.transAxes,
                fontsize=9, color=colour)  # fmt: skip


# The changes of one tensor.


def delta_histogram(found: Histogram, *, dark: bool = False) -> Picture:
    """The changes of one tensor before the method, by model, and after it."""
    import numpy as np

    ink, title = ink_of(dark), f"Changes in {found.tensor}"
    figure = new_figure(7.2, 1.4 + 1.15 * len(found.rows), ink, title)
    axes = figure.subplots(len(found.rows), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.array(found.edges)
    for number, (ax, (name, row, zero)) in enumerate(zip(axes, found.rows, strict=True)):
        colour = ink.of(number) if number < len(found.models) else ink.high
        ax.bar((edges[:-1] + edges[1:]) / 2, 100 * np.array(row), width=np.diff(edges), color=colour)
        ax.text(0.01, 0.82, name, transform=ax.transAxes, fontsize=9, color=colour, weight="bold")
        ax.text(0.99, 0.82, f"{zero:.1%} unchanged", transform=ax.transAxes, fontsize=8, color=ink.quiet, ha="right")
        ax.axvline(0, color=ink.quiet, linewidth=0.6)
        axis_ink(ax, ink)
    axes[-1].set_xlabel(
        "difference from the base; the outermost bars hold what lies beyond", fontsize=9, color=ink.quiet
    )
    axes[len(axes) // 2].set_ylabel("share of the entries, %", fontsize=9, color=ink.quiet)
    return Picture(changes_name(found.tensor), title, histogram_sentence(found), figure)


def changes_name(tensor: str) -> str:
    """Of its file, without the ending: a name of a tensor may hold anything."""
    return f"changes-{re.sub(r'[^A-Za-z0-9_.-]', '_', tensor)[:150]}"


def histogram_sentence(found: Histogram) -> str:
    part = "" if found.looked == found.entries else f" (of {found.looked:,} of {found.entries:,} entries)"
    if found.after is None:
        return f"{found.method} needs the whole matrix at once, so only what the models changed is shown{part}."
    before, after = found.untouched, found.zeros_after or 0.0
    if after > before + 0.001:
        did = f"leaves {after:.1%} of the entries as the base has them, where no model changed {before:.1%}"
    else:
        did = "moves every entry that a model moved"
    return f"{found.method} {did}{part}; a lambda makes its bars wider or narrower, and leaves their shape."


# What all pictures have in common.


def new_figure(width: float, height: float, ink: Ink, title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure((width, height), facecolor=ink.paper, layout="constrained")
    figure.suptitle(title, fontsize=12, color=ink.text, x=0.02, ha="left", weight="bold")
    return figure


def axis_ink(ax: "Axes", ink: Ink) -> None:
    ax.set_facecolor(ink.paper)
    ax.tick_params(labelsize=8, labelcolor=ink.text, color=ink.quiet, length=3)
    for side, edge in ax.spines.items():
        edge.set_visible(side in ("left", "bottom"))
        edge.set_color(ink.quiet)
        edge.set_linewidth(0.6)


def plain(ax: "Axes") -> None:
    ax.tick_params(length=0)
    for edge in ax.spines.values():
        edge.set_visible(False)


def ink_of(dark: bool) -> Ink:
    return DARK if dark else LIGHT


def roles_of(diagnosis: Diagnosis) -> list[Role]:
    found = {part.role for part in diagnosis.roles}
    return [role for role in ROLES if role in found]


def names_of(diagnosis: Diagnosis) -> list[tuple[int, str]]:
    return list(enumerate(diagnosis.names))


def place_of(part: Part) -> str:
    return part.name if part.layer is not None else f"the {part.role} ({AROUND})"


def percent(value: float) -> str:
    shown = 100 * value
    return (
        f"{shown:.0f} %"
        if shown >= 99.95 or shown == 0
        else f"{shown:.3g} %"
        if shown >= 9.95
        else f"{shown:.1f} %"
        if shown >= 0.95
        else f"{shown:.2g} %"
    )
