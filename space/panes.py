"""What a finished merge can be compared with in chat: itself, its base, each of its parents."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from merging.recipe import ModelRef, Recipe, all_models, merged_inputs
from space.chat import Pane
from space.fetch import Parents
from space.viewer import Viewer

MERGE = "Merge"


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that can have a pane; `ref` is None for the merge itself."""

    label: str
    ref: ModelRef | None
    row: int = 0  # its row in the recipe, from 1; 0 for the base and for the merge

    def pane(self, merged: Path, parents: Parents, viewer: Viewer) -> Pane:
        if self.ref is None:
            return Pane(self.label, lambda tell: merged)
        return Pane(self.label, finder(self.ref, parents, viewer))


def finder(ref: ModelRef, parents: Parents, viewer: Viewer) -> Callable[[Callable[[str], None]], Path]:
    return lambda tell: parents.folder(ref, viewer, tell)


def choices(recipe: Recipe) -> list[Choice]:
    """The merge first, then the base, then the others in the recipe's order. Labels are repo IDs where those tell the
    models apart, else with their revisions."""
    refs = all_models(recipe)
    paths = [ref.path for ref in refs]
    labels = [ref.path if paths.count(ref.path) == 1 else str(ref) for ref in refs]
    rows = {one.model: row for row, one in enumerate(merged_inputs(recipe), 1)}
    parents = (Choice(label, ref, rows.get(ref, 0)) for label, ref in zip(labels, refs, strict=True))
    return [Choice(MERGE, None), *parents]
