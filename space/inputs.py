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
    recipe: Recipe, hub: Hub, settings: Settings, *, tick: Callable[[], None] = lambda: None
) -> Iterator[Mapping[ModelRef, Checkpoint]]:
    """Every model of the recipe, headers read; closed at the end. What `tick` raises stops the opening at once."""
    refs = all_models(recipe)
    if len(refs) > settings.max_models:
        raise MergeError(f"The recipe names {len(refs)} models; at most {settings.max_models} can be merged here.")
    found = open_models(refs, hub, folders=settings.folders, tick=tick)
    try:
        yield found
    finally:
        for checkpoint in found.values():
            checkpoint.source.close()
