"""Evaluations as the app offers them: what can be asked, what is refused, and the answer. Every call says who asks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from evaluation.dials import Dial, dials_of
from evaluation.held_out import HeldOut, only, parse_held_out, split
from evaluation.path import between
from evaluation.statistics import MEASURES
from evaluation.subject import soup_of
from merging.checkpoint import Checkpoint
from merging.compatibility import Check
from merging.errors import MergeError
from merging.hub import Hub
from merging.hub.data_set import is_data_file, read_data_file
from merging.model_ref import read_model
from merging.naming import pinned
from merging.recipe import MAX_MODELS, ModelRef, Recipe, all_models, merged_inputs, parse_recipe, to_yaml
from space.inputs import opened
from space.jobs import Job, Jobs
from space.judge_shelf import Shelf
from space.publication import suggested_name
from space.room import Room
from space.settings import Settings
from space.viewer import HubFor, Viewer

What = Literal["score", "search", "path", "soup"]
WHATS: Final[Mapping[str, str]] = {
    "score": "Scores", "search": "Search", "path": "Path", "soup": "Greedy soup",
}  # fmt: skip
ANSWER, ENOUGH = "judge.json", "enough"  # in the folder of a job: what is known so far; that it should end with that
SAMPLE = Path(__file__).with_name("demo") / "held_out.jsonl"
MAX_SET_BYTES = 5_000_000
MAX_TRIALS, MAX_MINUTES = 500, 240
SAMPLERS = ("tpe", "cma-es", "grid")


class Submit(Protocol):
    def __call__(self, viewer: Viewer, kind: str, title: str, payload: Mapping[str, Any]) -> Job: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants to know of the recipe as it stands. What is not of this kind of question is not looked at."""

    what: What = "score"
    sampler: str = "tpe"
    score: str = "nll"
    over: str = "mean"
    trials: int = 20
    minutes: float = 0  # 0: no limit
    low: float = 0.0
    high: float = 1.2
    parameter: str = ""  # what a search turns; empty: what the method has for an amount
    groups: tuple[str, ...] = ()  # of layers, each with values of its own; none: one for all tensors
    first: str = ""  # the ends of a path; empty: the base and a fine-tune
    second: str = ""
    candidates: tuple[str, ...] = ()  # of a soup; none: the models of the recipe
    last: int = 0  # so many revisions of the one candidate, the newest first; 0: the candidates themselves
    tasks: tuple[str, ...] = ()  # of the set; none: all

    def dials(self, recipe: Recipe) -> tuple[Dial, ...]:
        """What a search turns of a recipe. Raises MergeError where that is nothing."""
        return dials_of(recipe, self.parameter, self.groups, self.low, self.high)

    def steps(self, dials: int) -> int:
        """Of a grid, for each value: as many as the trials are enough for."""
        return int(self.trials ** (1 / dials) + 1e-9)


@dataclass(frozen=True, slots=True)
class Judge:
    """`look` is the check of a merge, `why_not` says what of it stands in the way of one in memory."""

    settings: Settings
    queue: Jobs
    hub_for: HubFor
    look: Callable[[Recipe, Mapping[ModelRef, Checkpoint]], Check]
    why_not: Callable[[Check], str]
    send: Submit

    # -- the set

    def use_lines(self, text: str, name: str, viewer: Viewer) -> str:
        """Keep a set of this viewer, given as lines or as the name of a file in a data set on the Hub."""
        if is_data_file(text):
            raw: bytes | str = read_data_file(self.hub_for(viewer.token).hurried(), text, MAX_SET_BYTES)
            return self.keep(raw, text.strip().rpartition("/")[2], viewer)
        return self.keep(text, name, viewer)

    def use_sample(self, viewer: Viewer) -> str:
        return self.keep(SAMPLE.read_bytes(), "the demo's sample", viewer)

    def keep(self, raw: bytes | str, name: str, viewer: Viewer) -> str:
        if len(raw) > MAX_SET_BYTES:
            raise MergeError(f"{name} has more than {MAX_SET_BYTES:,} bytes, the limit here. Give a part of it.")
        return self.shelf(viewer).keep(parse_held_out(raw, name))

    def held_out(self, name: str, viewer: Viewer) -> HeldOut:
        return self.shelf(viewer).held_out(name)

    def latest_set(self, viewer: Viewer) -> str:
        """What this viewer chose last; empty where there is none."""
        return next((file.stem for file in self.shelf(viewer).sets()), "")

    def shelf(self, viewer: Viewer) -> Shelf:
        return Shelf(self.settings.home, viewer.owner)

    def hand_over(self, owner: str, to: str) -> None:
        Shelf(self.settings.home, owner).hand_over(Shelf(self.settings.home, to))

    # -- the jobs

    def ask(self, recipe_yaml: str, set_name: str, ask: Ask, viewer: Viewer) -> Job:
        """Refuse what cannot be answered, pin every model to its commit, queue."""
        self.queue.refuse_too_many(viewer.owner)
        if not set_name:
            raise MergeError("Choose a held-out set first: paste lines, upload a file, or take the sample.")
        refuse_odd(ask, only(self.held_out(set_name, viewer), ask.tasks))
        hub = self.hub_for(viewer.token).hurried()
        typed, used = self.recipes(recipe_yaml, ask, hub)
        with opened(used, hub, self.settings, most=most_models(self.settings, ask.what)) as checkpoints:
            self.refuse(used, checkpoints, ask.what)
            exact = pinned(used, checkpoints)
        payload = {
            "ask": asdict(ask), "set": set_name, "recipe": to_yaml(exact), "typed": to_yaml(used),
            "rows": [str(one) for one in rows_of(typed)], "base": str(typed.base or ""),
        }  # fmt: skip
        return self.send(viewer, "judge", f"{WHATS[ask.what]}: {title_of(used, ask)}", payload)

    def recipes(self, text: str, ask: Ask, hub: Hub) -> tuple[Recipe, Recipe]:
        """The recipe that lists the models, each with its colour; and what is merged, which names all that are needed.

        A soup of candidates that are named asks nothing of the recipe on the page.
        """
        if ask.what == "soup":
            used = soup_of(self.candidates(text, ask, hub))
            return used if ask.candidates or ask.last else parse_recipe(text), used
        typed = parse_recipe(text)
        if ask.what == "search":
            refuse_search(ask, len(ask.dials(typed)))
        return typed, between(*ends_of(typed, ask), 0.5) if ask.what == "path" else typed

    def candidates(self, text: str, ask: Ask, hub: Hub) -> list[ModelRef]:
        """The models that a soup is chosen from: those that are named or those of the recipe, or the last revisions of
        the one that is."""
        named = [read_model(one, f"Candidate {i}") for i, one in enumerate(ask.candidates, 1)]
        found = list(dict.fromkeys(named or (one.model for one in merged_inputs(parse_recipe(text)))))
        most = self.settings.max_candidates
        if ask.last and len(found) != 1:
            raise MergeError(f"The last revisions are those of one model; here are {len(found)}. Name one candidate.")
        if not 2 <= (count := ask.last or len(found)) <= most:
            raise MergeError(f"A soup is chosen from 2 to {most} models here, not {count}. Name others, or so many of "
                             f"the last revisions of one; the command line takes up to {MAX_MODELS}.")  # fmt: skip
        if not ask.last:
            return found
        return [ModelRef(found[0].path, sha) for sha in hub.revisions(found[0], ask.last)]

    def refuse(self, recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], what: What) -> None:
        """Of a path one wants to see whether its ends belong together; the others need it."""
        found = self.look(recipe, checkpoints)
        if (what != "path" or found.plan is None) and (reasons := self.why_not(found)):
            raise MergeError(f"These models cannot be merged: {reasons}")
        if found.plan is not None:
            Room(self.settings).refuse_too_large(found.plan)

    def job(self, id: str, viewer: Viewer) -> Job | None:
        """An evaluation of this viewer; None where there is none by this id."""
        try:
            job = self.queue.get(id, viewer.owner) if id else None
        except MergeError:
            return None
        return job if job is not None and job.kind == "judge" else None

    def latest(self, viewer: Viewer, what: str = "") -> Job | None:
        mine = (job for job in self.queue.list(viewer.owner) if job.kind == "judge")
        return next((job for job in mine if what in ("", job.payload["ask"]["what"])), None)

    def answer(self, job: Job) -> dict[str, Any] | None:
        """What a job has found so far. The job must have been asked for by its owner."""
        try:
            found: dict[str, Any] = json.loads((self.queue.folder(job.id) / ANSWER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def stop(self, id: str, viewer: Viewer) -> None:
        """A search ends with what it has found, unless that was said before; whatever else is cancelled."""
        job, enough = self.queue.get(id, viewer.owner), self.queue.folder(id) / ENOUGH
        is_search = job.kind == "judge" and job.payload["ask"]["what"] == "search"
        if is_search and job.state == "running" and not enough.exists():
            enough.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            enough.touch()
        else:
            self.queue.cancel(id, viewer.owner)

    def scores_of_merge(self, merge: Job, viewer: Viewer) -> dict[str, Any] | None:
        """The newest scores of just the recipe that a merge was made from.

        Where a search or a soup has found it, they are those of the part that it was not chosen by.
        """
        recipe = merge.payload["recipe"]
        done = [job for job in self.queue.list(viewer.owner) if job.kind == "judge" and job.state == "done"]
        for job in done:
            if job.payload["ask"]["what"] in ("search", "soup"):
                found = self.answer(job)
                if found and found.get("pinned") == recipe and found.get("report"):
                    return found | {"scores": found["report"]}
        for job in done:
            if job.payload["ask"]["what"] == "score" and job.payload["recipe"] == recipe:
                return self.answer(job)
        return None


def read_ask(raw: Mapping[str, Any]) -> Ask:
    """From JSON; a question from another version of the app has what it has."""
    known = {one.name for one in fields(Ask)}
    given = {name: value for name, value in raw.items() if name in known}
    listed = {name: tuple(given.get(name, ())) for name in ("tasks", "candidates", "groups")}
    return Ask(**{**given, **listed})


def refuse_odd(ask: Ask, held_out: HeldOut) -> None:
    """What can be said before anything is opened."""
    if ask.what not in WHATS or ask.score not in MEASURES or ask.sampler not in SAMPLERS:
        raise MergeError(f"There is no {ask.what!r} by {ask.score!r} with {ask.sampler!r}. Choose from the lists.")
    if ask.what in ("search", "soup"):
        split(held_out)
        if MEASURES[ask.score].needs_options and any(not one.options for one in held_out.examples):
            raise MergeError("Accuracy needs options in every line of the set. Choose another score.")
    if ask.what == "search":
        if not 1 <= ask.trials <= MAX_TRIALS:
            raise MergeError(f"{ask.trials} trials were asked for; 1 to {MAX_TRIALS} can be made at a time.")
        if not 0 <= ask.minutes <= MAX_MINUTES:
            raise MergeError(f"{ask.minutes:g} minutes were given; a search may take up to {MAX_MINUTES}.")


def refuse_search(ask: Ask, dials: int) -> None:
    """What the samplers cannot do with so many values."""
    if ask.sampler == "cma-es" and dials < 2:
        raise MergeError("CMA-ES searches two values or more; here is one. Take TPE or a grid.")
    if ask.sampler == "grid" and ask.steps(dials) < 2:
        raise MergeError(f"The coarsest grid of {dials} values has {2**dials:,} points, and {ask.trials} "
                         "trials were asked for. Take TPE, fewer values, or so many trials.")  # fmt: skip


def most_models(settings: Settings, what: str) -> int:
    """What one question may read."""
    return settings.max_candidates if what == "soup" else settings.max_models


def ends_of(recipe: Recipe, ask: Ask) -> tuple[ModelRef, ModelRef]:
    """The ends of a path: as chosen, else the base and the first fine-tune, or the first two."""
    known = all_models(recipe)
    ordered = [recipe.base, *(one for one in known if one != recipe.base)] if recipe.base else list(known)
    first = read_model(ask.first, "The first model") if ask.first.strip() else ordered[0]
    rest = [one for one in ordered if one != first]
    if not ask.second.strip() and not rest:
        raise MergeError("A path needs two models. Add one to the recipe, or name its ends.")
    second = read_model(ask.second, "The second model") if ask.second.strip() else rest[0]
    if first == second:
        raise MergeError(f"Both ends of the path are {first}. Choose two models.")
    return first, second


def rows_of(recipe: Recipe) -> list[ModelRef]:
    """The models as the recipe column lists them: the base, or nothing, then the rows."""
    return [one for one in all_models(recipe) if one != recipe.base]


def title_of(recipe: Recipe, ask: Ask) -> str:
    if ask.what == "soup" and ask.last:
        return f"{recipe.models[0].model.path.rpartition('/')[2]}, last {ask.last}"
    if ask.what == "path":
        return " to ".join(one.model.path.rpartition("/")[2] for one in recipe.models)
    return suggested_name(recipe)
