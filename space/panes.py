"""What can have a pane in chat: a finished merge, the one that is tried in memory, their bases and parents, the owner's
other merges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from merging.recipe import ModelRef, Recipe, all_models, merged_inputs
from space.chat import Pane, Speaking, alone
from space.ensemble import ensemble
from space.fetch import Parents
from space.tried import Tried, lambdas_in
from space.viewer import Viewer

MERGE = "Merge"
LIVE = "Live merge"
ENSEMBLE = "Ensemble of the parents: the expensive yardstick"
WEIGHTED = "Ensemble of the parents, weighted as in the recipe"

Kind = Literal["merge", "live", "base", "parent", "other", "ensemble"]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """One that can have a pane. Read from `folder` where it is a merge of this machine, else from the Hub; the merge
    that is tried has been read."""

    label: str
    kind: Kind
    key: str  # who it is, whatever it is called: the job of a merge, the pinned name of a parent
    refs: tuple[ModelRef, ...] = ()
    folder: Path | None = None
    row: int = 0  # its row in the recipe, from 1; 0 for what is not in a row
    weights: tuple[float, ...] = ()  # of an ensemble
    lambdas: str = ""  # of the merge that is tried, as they are by now
    speaking: Speaking | None = None  # the same

    @property
    def title(self) -> str:
        """What its pane is headed with. `label` stays the same when lambdas move."""
        return f"{self.label}, λ {self.lambdas}" if self.lambdas else self.label

    @property
    def column(self) -> str:
        """What its answers are headed with where they are kept beside those of other merges."""
        return f"{self.title} ({self.key})" if self.kind == "live" else self.label

    def pane(self, parents: Parents, viewer: Viewer) -> Pane:
        def files(tell: Tell) -> list[Path]:
            if self.folder is not None:
                return [self.folder]
            return [parents.folder(ref, viewer, tell) for ref in self.refs]

        join = partial(ensemble, weights=self.weights) if self.weights else alone
        return Pane(self.label, files, join, self.speaking)


@dataclass(frozen=True, slots=True)
class Finished:
    """A merge on this machine."""

    job: str
    title: str
    folder: Path


def merge_choice(merge: Finished) -> Choice:
    return Choice(MERGE, "merge", f"merge:{merge.job}", folder=merge.folder)


def live_choice(tried: Tried, speaking: Speaking | None = None) -> Choice:
    return Choice(LIVE, "live", tried.key, lambdas=lambdas_in(tried.recipe, named=False), speaking=speaking)


def choices(merges: Sequence[Choice], recipes: Sequence[Recipe], others: Sequence[Finished] = ()) -> list[Choice]:
    """The merges first, then the models of their recipes, each once, and the owner's other merges."""
    means = [one for recipe in recipes for one in ensembles(recipe)]
    beside = [Choice(one.title, "other", f"merge:{one.job}", folder=one.folder) for one in others]
    found = {one.key: one for one in [*merges, *parents_of(recipes), *means, *beside]}
    return told_apart(list(found.values()))


def ensembles(recipe: Recipe) -> list[Choice]:
    """The parents' mean, each alike; and as the recipe weighs them, where that is another mean. Not of stacked layers,
    where the merge stands for no mean of its parents."""
    merged = merged_inputs(recipe)
    if recipe.slices or len(merged) < 2:
        return []
    refs = tuple(one.model for one in merged)
    key = "ensemble of " + ", ".join(map(str, refs))
    alike = Choice(ENSEMBLE, "ensemble", key, refs, weights=(1.0,) * len(refs))
    given = [one.parameters.get("weight", 1.0) for one in merged]
    numbers = tuple(float(one) for one in given if isinstance(one, int | float) and one > 0)
    if len(numbers) < len(refs) or len(set(numbers)) == 1:
        return [alike]
    return [alike, Choice(WEIGHTED, "ensemble", f"{key} by {numbers}", refs, weights=numbers)]


def parents_of(recipes: Sequence[Recipe]) -> list[Choice]:
    """The base, then the parents. Labels are repo IDs where those tell the models apart, else with their revisions.

    Rows are those of the first recipe; the models of another come after them.
    """
    refs = list(dict.fromkeys(ref for recipe in recipes for ref in all_models(recipe)))
    paths = [ref.path for ref in refs]
    merged = dict.fromkeys(one.model for recipe in recipes for one in merged_inputs(recipe))
    rows = {ref: row for row, ref in enumerate(merged, 1)}
    return [
        Choice(
            ref.path if paths.count(ref.path) == 1 else str(ref), "parent" if ref in rows else "base", str(ref), (ref,),
            row=rows.get(ref, 0),
        )
        for ref in refs
    ]  # fmt: skip


def told_apart(found: Sequence[Choice]) -> list[Choice]:
    """Two of one name are numbered."""
    seen: dict[str, int] = {}
    apart = []
    for one in found:
        seen[one.label] = count = seen.get(one.label, 0) + 1
        apart.append(replace(one, label=f"{one.label} ({count})") if count > 1 else one)
    return apart


def first_chosen(found: Sequence[Choice], most: int) -> list[str]:
    """The merge and the last of its parents: what one looks at first."""
    parents = [one.label for one in found if one.kind in ("base", "parent")]
    return [found[0].label, *parents[-(most - 1) :]]
