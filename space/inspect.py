"""Looks at the weights of a recipe: the job, what it found, and entries of one tensor. Every call says who asks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from merging.checkpoint import Checkpoint
from merging.diagnostics import Diagnosis
from merging.diagnostics.diagnosis import compare
from merging.diagnostics.entries import Entries, Histogram, histogram, read_entries
from merging.errors import MergeError
from merging.findings import listed
from merging.naming import pinned
from merging.plan import Plan
from merging.recipe import ModelRef, Recipe, parse_recipe, to_yaml
from space.inputs import opened
from space.inspected import CHANGES, files_in, read_diagnosis, without_commits
from space.jobs import Job, Jobs
from space.publication import suggested_name
from space.settings import Settings
from space.tasks import engine_options
from space.viewer import HubFor, Viewer
from space.words import size

KIND = "diagnose"
PATCH = 8  # entries of a tensor that a walkthrough shows side by side
LOOKED_AT = 262_144  # entries of a tensor that a histogram is made of: 1 MB of each model in float32


class Asked(NamedTuple):
    """The models of an inspection, opened again for its owner."""

    recipe: Recipe
    checkpoints: Mapping[ModelRef, Checkpoint]


@dataclass(frozen=True, slots=True)
class Inspections:
    """`submit` is that of the service. An inspection of somebody else does not exist."""

    settings: Settings
    queue: Jobs
    hub_for: HubFor
    submit: Callable[..., Job]

    def begin(self, recipe_yaml: str, viewer: Viewer, *, sample: bool) -> Job:
        """Refuse what cannot be compared, pin every model to its commit, queue."""
        self.queue.refuse_too_many(viewer.owner)
        recipe = parse_recipe(recipe_yaml)
        with self.opened(recipe, viewer) as checkpoints:
            plan = compare(recipe, checkpoints, engine_options(self.settings), None).plan
            if not sample:
                self.refuse_too_large(plan)
            recipe = pinned(recipe, checkpoints)
        payload = {"recipe": to_yaml(recipe), "sample": sample}
        return self.submit(viewer, KIND, suggested_name(recipe), payload)

    def refuse_too_large(self, plan: Plan) -> None:
        if plan.read_bytes > (most := self.settings.merge_bytes):
            raise MergeError(
                f"The models have {size(plan.read_bytes)}, and {size(most)} can be read at once here. Look at a sample."
            )

    def get(self, id: str, viewer: Viewer) -> Job:
        job = self.queue.get(id, viewer.owner)
        if job.kind != KIND:
            raise MergeError(f"This job is a {job.kind}; an inspection is needed.")
        return job

    def done(self, id: str, viewer: Viewer) -> Job:
        job = self.get(id, viewer)
        if job.state != "done":
            raise MergeError(f"This inspection is {job.state}; one that is done is needed.")
        return job

    def diagnosis(self, id: str, viewer: Viewer) -> Diagnosis:
        return read_diagnosis(self.queue.folder(self.done(id, viewer).id))

    def files(self, id: str, viewer: Viewer) -> Mapping[str, Path]:
        return files_in(self.queue.folder(self.done(id, viewer).id))

    def histogram(self, id: str, tensor: str, viewer: Viewer) -> Histogram:
        """How the changes of one tensor are spread, before the method of the recipe and after it."""
        with self.asked(id, viewer) as asked:
            return histogram(entries_of(asked, tensor, LOOKED_AT), asked.recipe.method)

    def changes(self, id: str, tensor: str, kind: str, viewer: Viewer) -> bytes:
        """The same as a file: csv or png."""
        if kind not in CHANGES:
            raise MergeError(f"A histogram can be had as {listed(CHANGES)}, not as {kind!r}.")
        return CHANGES[kind](self.histogram(id, tensor, viewer))

    def patch(self, id: str, tensor: str, viewer: Viewer) -> Entries:
        """A few numbers from the middle of a tensor, of every model."""
        with self.asked(id, viewer) as asked:
            return entries_of(asked, tensor, PATCH)

    @contextmanager
    def asked(self, id: str, viewer: Viewer) -> Iterator[Asked]:
        """With the token of who asks now: that somebody could read a model once does not mean that they still may."""
        recipe = parse_recipe(self.done(id, viewer).payload["recipe"])
        with self.opened(recipe, viewer) as checkpoints:
            yield Asked(recipe, checkpoints)

    def opened(self, recipe: Recipe, viewer: Viewer) -> AbstractContextManager[Mapping[ModelRef, Checkpoint]]:
        return opened(recipe, self.hub_for(viewer.token).hurried(), self.settings)


def entries_of(asked: Asked, tensor: str, count: int) -> Entries:
    found = read_entries(asked.recipe, asked.checkpoints, tensor, count)
    return replace(found, models=without_commits(found.models))
