"""What an evaluation does in its process: with its owner's access only, and writing down what it finds as it goes."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from evaluation.bench import SHARE, Bench
from evaluation.cache import Cache
from evaluation.dials import turned, values_in
from evaluation.held_out import HeldOut, only, split
from evaluation.marks import Marks, of_task, tasks_of
from evaluation.objective import Objective
from evaluation.path import walk
from evaluation.scores import Scores, scores_of
from evaluation.scoring import Scoring
from evaluation.search import Budget, Found, Search, Trial, pareto, run_search, studied, trials_of
from evaluation.soup import Soup, Tried, greedy_soup
from evaluation.statistics import MEASURES, Measure, compare
from evaluation.subject import Subject, beside, compared, soup_of
from merging.checks.cost import available_memory
from merging.recipe import Recipe, parse_recipe, to_yaml
from space.inputs import opened
from space.jobs import Cancelled, Job
from space.judge import ANSWER, ENOUGH, Ask, most_models, read_ask
from space.judge_shelf import Shelf, tidy
from space.room import Room
from space.settings import Settings, kept_seconds
from space.viewer import HubFor, token_here
from space.worker import Reporter
from space.zero_gpu import own_device

Result = TypeVar("Result")
UNITS = 10_000  # of progress, in all
TOLD = 6  # values of the best trial, at most, in the line that says how far it is
MERGE, GIVEN = "The merge", "The recipe as it was"
COLOURS = {GIVEN: "other", "uniform soup": "other", "ensemble": "ensemble"}


@dataclass(slots=True)
class Teller:
    """Tells how far it is, keeps what is known so far, and knows when it should come to its end."""

    report: Reporter
    answer: dict[str, Any]
    parts: int = 1  # things to be scored
    done: int = 0
    doing: str = ""
    is_over: bool = False

    def follow(self, steps: Generator[Any, None, Result], on: Callable[[Any], None] = lambda step: None) -> Result:
        with closing(steps):
            try:
                while True:
                    step = next(steps)
                    if isinstance(step, Scoring):
                        self.tell(step)
                    else:
                        on(step)
                        self.write()
            except StopIteration as end:
                found: Result = end.value
                return found

    def tell(self, step: Scoring) -> None:
        share = (self.done + step.done / max(step.total, 1)) / max(self.parts, self.done + 1)
        texts = f": {step.done} of {step.total} texts" if step.done else ""
        said = f"{self.doing}{step.label}{texts}"
        self.report.progress(int(UNITS * min(share, 1)), UNITS, said)

    def check(self) -> None:
        self.report.check()

    def write(self) -> None:
        """Whole or not at all: the page may read it at any moment."""
        half = self.report.folder / f"{ANSWER}.half"
        half.write_text(json.dumps(self.answer, allow_nan=False), encoding="utf-8")
        half.rename(self.report.folder / ANSWER)

    @property
    def is_enough(self) -> bool:
        return (self.report.folder / ENOUGH).exists()


@dataclass(frozen=True, slots=True)
class Sitting:
    """One evaluation: the set, the models, and what is asked of them."""

    ask: Ask
    held_out: HeldOut
    recipe: Recipe  # its models at their commits
    typed: Recipe  # as they were typed
    rows: tuple[str, ...]  # models as typed, in the order of their colours
    bench: Bench
    teller: Teller
    shelf: Shelf
    names: Mapping[str, str] = field(default_factory=dict)  # of a model at its commit: as it was typed
    base: str = ""  # of the recipe on the page, as it was typed

    @property
    def objective(self) -> Objective:
        return Objective(self.ask.score, "worst" if self.ask.over == "worst" else "mean")

    def examine(self, subject: Subject, held_out: HeldOut) -> Generator[Scoring, None, Marks]:
        """As the bench does; counts."""
        label = self.as_typed(subject.label)
        yield Scoring(0, 1, label)  # before the models are read
        with self.teller.report.turn():
            marks = yield from self.bench.marks(Subject(label, subject.recipe, subject.kind), held_out)
        self.teller.done += 1
        return marks

    def as_typed(self, label: str) -> str:
        """With the models in it as they were typed, without their commits."""
        for name, typed in self.names.items():
            label = label.replace(name, typed)
        return label

    def colour(self, subject: Subject) -> str:
        """The class of its colour: that of its row in the recipe."""
        if subject.kind != "model":
            return COLOURS.get(subject.label, "merged")
        return self.colour_of(self.names.get(subject.label, subject.label))

    def colour_of(self, name: str) -> str:
        return f"c{1 + self.rows.index(name) % 8}" if name in self.rows else "base"

    def row(self, subject: Subject, scores: Scores) -> dict[str, Any]:
        name = self.names.get(subject.label, subject.label)
        tasks = [asdict(one) for one in scores.tasks]
        return {"label": name[:1].upper() + name[1:] if subject.kind != "model" else name,
                "kind": subject.kind, "colour": self.colour(subject), "tasks": tasks}  # fmt: skip

    def scored(self, subjects: Sequence[Subject], held_out: HeldOut, key: str = "scores") -> None:
        """A row for each of them, told as it comes, and how the first compares with the best parent."""
        rows: list[dict[str, Any]] = []
        self.teller.answer[key] = {"set": set_tree(held_out), "rows": rows, "against": []}
        given: list[tuple[Subject, Marks]] = []
        for subject in subjects:
            marks = self.teller.follow(self.examine(subject, held_out))
            given.append((subject, marks))
            rows.append(self.row(subject, scores_of(subject.label, marks)))
            self.teller.write()
        self.teller.answer[key]["against"] = self.against(given)
        self.teller.write()

    def against(self, given: Sequence[tuple[Subject, Marks]]) -> list[dict[str, Any]]:
        """Task by task, the first beside the best of the models that are merged into it, on the same examples."""
        (first, mine), *others = given
        members = {str(one) for one in first.members}
        parents = [one for one in others if one[0].kind == "model" and one[0].label in members]
        measure = MEASURES[measure_for([marks for _, marks in given])]
        return [self.beside(task, mine, parents, measure) for task in tasks_of(mine)] if parents else []

    def beside(
        self, task: str, mine: Marks, parents: Sequence[tuple[Subject, Marks]], measure: Measure
    ) -> dict[str, Any]:
        sign = 1 if measure.more_is_better else -1

        def value(marks: Marks) -> float:
            return sign * float(scores_of("", of_task(marks, task)).on(task).of(measure.name).value)  # type: ignore[union-attr]

        best, marks = max(parents, key=lambda one: value(one[1]))
        found = compare(of_task(mine, task), of_task(marks, task), measure)
        change = sign * found.change.value
        return {"task": task, "measure": measure.name, "parent": self.names.get(best.label, best.label),
                "change": change, "is_clear": found.is_clear, "value": sign * value(mine),
                "of_parent": sign * value(marks)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judging:
    """Sent to the process as it is."""

    settings: Settings
    hub_for: HubFor

    def run(self, job: Job, report: Reporter) -> Mapping[str, Any]:
        tidy(self.settings.home, kept_seconds(self.settings))
        shelf, ask, room = Shelf(self.settings.home, job.owner), read_ask(job.payload["ask"]), Room(self.settings)
        shelf.touch()
        room.watch()
        recipe, typed = parse_recipe(job.payload["recipe"]), parse_recipe(job.payload["typed"])
        held_out = only(shelf.held_out(job.payload["set"]), ask.tasks)
        (report.folder / ENOUGH).unlink(missing_ok=True)
        teller = Teller(report, {"what": ask.what, "ask": asdict(ask), "set": set_tree(held_out), "is_whole": False})
        teller.write()
        report.progress(0, UNITS, "Opening the models")
        hub = self.hub_for(report.secret or token_here(self.settings))
        most = most_models(self.settings, ask.what)
        with opened(recipe, hub, self.settings, tick=report.check, most=most) as checkpoints:
            memory = min(int(SHARE * available_memory()), self.settings.chat_memory_bytes)
            scratch = report.folder / "scratch"
            scratch.mkdir(exist_ok=True, mode=0o700)
            bench = Bench(
                checkpoints, Cache(shelf.scores), memory, self.settings.threads, scratch=scratch,
                device=own_device(self.settings),
            )  # fmt: skip
            rows, names = tuple(job.payload["rows"]), dict(zip(named(recipe), named(typed), strict=True))
            with closing(bench):
                base = str(job.payload.get("base", ""))
                RUNS[ask.what](Sitting(ask, held_out, recipe, typed, rows, bench, teller, shelf, names, base))
        teller.answer["is_whole"] = True
        teller.write()
        return {"what": ask.what}


def named(recipe: Recipe) -> list[str]:
    """Every place of a recipe that names a model."""
    parts = [source.model for part in recipe.slices for source in part.sources]
    listed = [*([recipe.base] if recipe.base else []), *(one.model for one in recipe.models), *parts]
    return [str(one) for one in listed]


def set_tree(held_out: HeldOut) -> dict[str, Any]:
    counts = {task: sum(one.task == task for one in held_out.examples) for task in held_out.tasks}
    return {"name": held_out.name, "sha256": held_out.sha256, "examples": len(held_out.examples), "tasks": counts}


def measure_for(marks: Sequence[Marks]) -> str:
    """What is compared in words and bars: the choice among options, else answers right to the letter, else the loss."""
    if all(mark.right is not None for mark in marks[0]):
        return "accuracy"
    return "exact" if any(mark.exact for one in marks for mark in one) else "nll"


def score(sitting: Sitting) -> None:
    merge = Subject(MERGE, sitting.recipe)
    subjects = compared(merge)
    sitting.teller.parts = len(subjects)
    sitting.teller.answer["recipe"] = to_yaml(sitting.typed)
    sitting.scored(subjects, sitting.held_out)


def path(sitting: Sitting) -> None:
    first, second = (one.model for one in sitting.recipe.models)
    names = [sitting.names[str(one)] for one in (first, second)]
    sitting.teller.parts, shares = 7, [i / 6 for i in range(7)]
    colours = [sitting.colour_of(name) for name in names]
    answer = sitting.teller.answer
    answer |= {"first": names[0], "second": names[1], "shares": shares, "losses": {}, "barriers": [],
               "colours": colours, "is_from_base": names[0] == sitting.base}  # fmt: skip

    def on(point: Scores) -> None:
        for task in point.tasks:
            answer["losses"].setdefault(task.task, []).append(asdict(task.nll))

    found = sitting.teller.follow(walk(first, second, sitting.held_out, sitting.examine, len(shares)), on)
    answer["barriers"] = [asdict(one) | {"is_clear": one.is_clear} for one in found.barriers]


def soup(sitting: Sitting) -> None:
    parts = split(sitting.held_out)
    models, others = [one.model for one in sitting.recipe.models], beside(sitting.recipe)
    sitting.teller.parts = 2 * len(models) + 1 + len(others)
    with sitting.teller.report.turn():
        sitting.bench.in_memory(soup_of(models))  # all at once, or each would be read again for the next
    answer, objective = sitting.teller.answer, sitting.objective
    answer |= {"objective": str(objective), "tried": [], "parts": parts_tree(parts.validation, parts.report)}

    def on(tried: Tried) -> None:
        row = asdict(tried) | {"model": sitting.names[str(tried.model)], "members": len(tried.members)}
        answer["tried"].append(row | {"colour": sitting.colour_of(row["model"])})

    found: Soup = sitting.teller.follow(greedy_soup(models, parts.validation, sitting.examine, objective), on)
    mine = {str(one) for one in found.members}
    members = [one.model for one in sitting.typed.models if str(one.model) in {sitting.names[name] for name in mine}]
    answer |= {"recipe": to_yaml(soup_of(members)), "value": found.value, "uniform": found.uniform,
               "members": [str(one) for one in members], "pinned": to_yaml(found.recipe)}  # fmt: skip
    sitting.scored([Subject("greedy soup", found.recipe), *others], parts.report, "report")


def parts_tree(validation: HeldOut, report: HeldOut) -> dict[str, int]:
    return {"validation": len(validation.examples), "report": len(report.examples)}


def search(sitting: Sitting) -> None:
    """New trials, after those of the same search before; then the part that was not chosen by reports."""
    ask, teller, parts = sitting.ask, sitting.teller, split(sitting.held_out)
    dials = ask.dials(sitting.recipe)
    asked = Search(sitting.recipe, dials, sitting.objective, ask.sampler, max(2, ask.steps(len(dials))))  # type: ignore[arg-type]
    with studied(asked, parts.validation, sitting.shelf.trials) as study:
        known: list[Trial] = trials_of(study)
    start, others = Subject(GIVEN, sitting.recipe), beside(sitting.recipe)
    earlier, teller.parts = len(known), ask.trials + 2 + len(others)
    colours = [sitting.colour_of(sitting.names[str(dial.model)]) if dial.model else "merged" for dial in dials]
    teller.answer |= {
        "dials": [sitting.as_typed(dial.name) for dial in dials], "colours": colours,
        "objective": str(sitting.objective), "earlier": earlier,
        "more_is_better": sitting.objective.measure.more_is_better, "measure": ask.score,
        "parts": parts_tree(parts.validation, parts.report), "trials": [asdict(one) for one in known],
    }  # fmt: skip
    budget = Budget(earlier + ask.trials, 60 * ask.minutes if ask.minutes else float("inf"))
    steps_of_it = run_search(asked, parts.validation, sitting.examine, sitting.shelf.trials, budget)
    try:
        teller.follow(until_enough(teller, steps_of_it), partial(keep_trial, sitting, asked, known))
    except Enough:
        if not known:
            raise Cancelled from None
    tell_best(sitting, Found(asked, tuple(known), earlier))
    best = Subject("best found", Found(asked, tuple(known), earlier).recipe)
    teller.doing, teller.parts = "On the report part: ", teller.done + 2 + len(others)
    sitting.scored([best, start, *others], parts.report, "report")


class Enough(Exception):
    """The search should end with what it has."""


def until_enough(teller: Teller, steps: Generator[Any, None, Found]) -> Generator[Any, None, Found]:
    with closing(steps):
        try:
            while True:
                if teller.is_enough:
                    raise Enough
                yield next(steps)
        except StopIteration as end:
            found: Found = end.value
            return found


def keep_trial(sitting: Sitting, asked: Search, known: list[Trial], trial: Trial) -> None:
    known.append(trial)
    sitting.teller.answer["trials"].append(asdict(trial))
    tell_best(sitting, Found(asked, tuple(known), sitting.teller.answer["earlier"]))


def tell_best(sitting: Sitting, found: Found) -> None:
    """The best so far, what its recipe is, and what trades one task for another, for every two of them."""
    answer, best = sitting.teller.answer, found.best
    dials = sitting.ask.dials(sitting.typed)
    answer |= {"best": best.number, "recipe": to_yaml(turned(sitting.typed, dials, best.values))}
    at_start = values_in(sitting.recipe, found.search.dials)
    start = next((one for one in found.trials if one.values == at_start), None)
    answer |= {"given": start and start.value, "start": start and start.number, "pinned": to_yaml(found.recipe)}
    tasks = list(best.tasks)
    pairs = [(a, b) for i, a in enumerate(tasks) for b in tasks[i + 1 :]]
    answer["fronts"] = [{"tasks": pair, "trials": [one.number for one in pareto(found, *pair)]} for pair in pairs]
    at = f" at {', '.join(f'{v:g}' for v in best.values)}" if len(best.values) <= TOLD else ""
    sitting.teller.doing = f"Best so far {best.value:.3g}{at}. "


RUNS: Mapping[str, Callable[[Sitting], None]] = {"score": score, "path": path, "soup": soup, "search": search}
