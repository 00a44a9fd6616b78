"""The models a recipe names: opened for one caller, and pinned to what was opened."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.hub import Hub, open_model
from merging.recipe import ModelRef, Recipe, all_models
from space.settings import Settings


@contextmanager
def opened(recipe: Recipe, hub: Hub, settings: Settings) -> Iterator[Mapping[ModelRef, Checkpoint]]:
    """Every model of the recipe, headers read; closed at the end."""
    refs = all_models(recipe)
    if len(refs) > settings.max_models:
        raise MergeError(f"The recipe names {len(refs)} models; at most {settings.max_models} can be merged here.")
    with ExitStack() as stack, ThreadPoolExecutor(len(refs)) as pool:
        waiting = [pool.submit(open_model, ref, hub, folders=settings.folders) for ref in refs]
        found = {}
        for ref, opening in zip(refs, waiting, strict=True):
            found[ref] = opening.result()
            stack.callback(found[ref].source.close)
        yield found


def pinned(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Recipe:
    """The recipe with every Hub model at the commit that was opened: what is checked is what is merged."""

    def pin(ref: ModelRef) -> ModelRef:
        return replace(ref, revision=checkpoints[ref].source.revision)

    models = tuple(replace(one, model=pin(one.model)) for one in recipe.models)
    return replace(recipe, models=models, base=pin(recipe.base) if recipe.base else None)
