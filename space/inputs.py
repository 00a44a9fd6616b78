"""The models a recipe names, opened for one caller."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.hub import Hub, open_models
from merging.recipe import ModelRef, Recipe, all_models
from space.settings import Settings


@contextmanager
def opened(
    recipe: Recipe, hub: Hub, settings: Settings, *, tick: Callable[[], None] = lambda: None, most: int | None = None
) -> Iterator[Mapping[ModelRef, Checkpoint]]:
    """Every model of the recipe, headers read; closed at the end. What `tick` raises stops the opening at once.

    `most` models may be named, if that is not the number of those that can be merged here.
    """
    refs, most = all_models(recipe), most or settings.max_models
    if len(refs) > most:
        raise MergeError(f"The recipe names {len(refs)} models; at most {most} can be merged here.")
    found = open_models(refs, hub, folders=settings.folders, tick=tick)
    try:
        yield found
    finally:
        for checkpoint in found.values():
            checkpoint.source.close()
