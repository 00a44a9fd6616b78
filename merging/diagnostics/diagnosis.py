"""A diagnosis of the models of a recipe: one run over their weights, or over a sample of them, within a budget."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from merging.assembly import depth_of
from merging.blocks import Job
from merging.budget import Budget, make_budget
from merging.checkpoint import Checkpoint
from merging.device import Cpu
from merging.diagnostics.look import Look
from merging.diagnostics.numbers import Part, numbers_of
from merging.diagnostics.patch import Planned
from merging.diagnostics.sampling import SAMPLE_BYTES, Gathered, gather, share_out
from merging.diagnostics.sums import Sums, added
from merging.engine import Options
from merging.errors import MergeError
from merging.heads import compare_heads
from merging.held import keys_of, steps_of
from merging.methods import METHODS
from merging.plan import Plan, Step, make_plan
from merging.progress import WORD, Progress
from merging.reading import Range
from merging.recipe import Input, ModelRef, Recipe, all_models
from merging.roles import ROLES, Role, role_of
from merging.schedule import Schedule, threads

KEEP = 0.2  # of the changes, in TIES as its paper has it
MOST = 32  # models beside the base: their pairs are compared, and there would be too many
PASSES = 1  # a second look needs what the first one found
WHOLE = "all tensors"
AROUND = "outside of layers"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, by tensor, by layer, by role, by role in each layer, and of all."""

    method: str
    reference: str  # the base; without one the first model
    has_base: bool
    models: tuple[str, ...]  # what is compared: the fine-tunes; without a base all models
    keep: float  # the share of changes that trimming keeps, of each tensor
    is_sample: bool
    read_bytes: int  # of all models
    why_not_merged: str  # why there is no distance of the planned merge; empty where there is
    tensors: tuple[Part, ...]
    layers: tuple[Part, ...]
    roles: tuple[Part, ...]
    cells: tuple[Part, ...]
    whole: Part

    @property
    def looked_share(self) -> float:
        """How many of the entries were read."""
        return self.whole.looked / self.whole.entries if self.whole.entries else 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Short names of the models."""
        return last_parts(self.models)

    def tensor(self, name: str) -> Part | None:
        return next((part for part in self.tensors if part.name == name), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a diagnosis compares, and how the recipe merges each tensor."""

    plan: Plan  # the reference first, and each model's tensors
    steps: tuple[Step, ...]  # of floats
    planned: Mapping[str, Planned]  # by tensor; empty where the recipe's merge is not looked at
    keep: float
    has_base: bool
    why_not_merged: str


def diagnose(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], options: Options | None = None,
    *, sample: bool = False, keep: float | None = None,
) -> Generator[Progress, None, Diagnosis]:  # fmt: skip
    """Compare the models of a recipe; yields progress, returns what was found. Leaving the loop stops the reading.

    With `sample` at most 64 MB of each model are read, the same entries every time. `keep` is the share of changes
    that trimming keeps, by default the recipe's density, or 0.2. The numbers do not depend on threads and memory.
    """
    options = options or Options()
    compared = compare(recipe, checkpoints, options, keep)
    models = [checkpoints[ref] for ref in compared.plan.models]
    try:
        if sample:
            found, read_bytes = yield from look_at_sample(compared, models, options)
        else:
            found, read_bytes = yield from look_at_all(compared, models)
    except BaseException:
        for model in models:
            model.source.stop()
        raise
    return diagnosis(recipe, compared, [m.label for m in models], found, is_sample=sample, read_bytes=read_bytes)


def compare(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], options: Options, keep: float | None
) -> Comparison:
    """Raises MergeError where the models cannot be compared tensor by tensor."""
    others = [ref for ref in all_models(recipe) if ref != recipe.base]
    if not others or (recipe.base is None and len(others) < 2):
        raise MergeError("There is nothing to compare: the recipe has one model. Add a base_model or another model.")
    if len(others) > MOST:
        raise MergeError(
            f"The recipe has {len(others)} models beside the base; at most {MOST} can be compared at once."
        )
    method = "task_arithmetic" if recipe.base else "linear"
    inputs = tuple(Input(ref, {"weight": 1.0}) for ref in others)
    plan = plan_of(Recipe(method, inputs, recipe.base), checkpoints, options)
    steps = tuple(step for step in steps_of(plan) if step.is_merged)
    if not steps:
        raise MergeError("There is nothing to compare: the models have no tensors of floating-point numbers.")
    why_not = why_not_merged(recipe)
    planned = {} if why_not else planned_merge(recipe, plan_of(recipe, checkpoints, options), plan)
    return Comparison(replace(plan, budget=budget_of(steps, plan, checkpoints, options)), steps, planned,
                      share_kept(keep, planned), recipe.base is not None, why_not)  # fmt: skip


def plan_of(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], options: Options) -> Plan:
    return make_plan(recipe, checkpoints, shard_bytes=options.shard_bytes, memory_bytes=options.memory_bytes,
                     threads=options.cores)  # fmt: skip


def budget_of(
    steps: Sequence[Step], plan: Plan, checkpoints: Mapping[ModelRef, Checkpoint], options: Options
) -> Budget:
    remote = sum(bool(checkpoints[ref].source.repo_id) for ref in plan.models)
    return looking_budget(steps, options, remote)


def looking_budget(steps: Sequence[Step], options: Options, remote: int) -> Budget:
    tensors = {step.name: step.inputs for step in steps}
    return make_budget("a diagnosis", tensors, options.memory_bytes, options.cores, measures=True, remote=remote)


def why_not_merged(recipe: Recipe) -> str:
    if recipe.base is None:
        return "The recipe has no base_model, so there is nothing that the merge moves away from."
    if recipe.slices:
        return "The recipe stacks layers anew, so its tensors have no counterparts in the base."
    return ""


def planned_merge(recipe: Recipe, plan: Plan, compared: Plan) -> dict[str, Planned]:
    """How each tensor is merged, in terms of the rows that are compared."""
    rows = {ref: i for i, ref in enumerate(compared.models)}
    method = METHODS[recipe.method]
    return {
        step.name: Planned(
            method, step.settings, tuple(rows[ref] for ref, _ in keys_of(plan, step)), step.has_base, step.name,
            step.granularity, recipe.seed, None if step.layer is None else depth_of(step.layer, step.layers),
        )
        for step in steps_of(plan) if step.is_merged
    }  # fmt: skip


def share_kept(asked: float | None, planned: Mapping[str, Planned]) -> float:
    """What was asked for; else the density of the recipe, where that is one number below 1; else 0.2."""
    densities = {density for p in planned.values() for density in p.settings.get("density", ())}
    density = densities.pop() if len(densities) == 1 else 1.0
    return asked if asked is not None else density if 0 < density < 1 else KEEP


# Looking.


Found = tuple[dict[str, Sums], int]  # by tensor, and the bytes that were read


def look_at_all(compared: Comparison, models: Sequence[Checkpoint]) -> Generator[Progress, None, Found]:
    names = frozenset(step.name for step in steps_of(compared.plan))
    compare_heads(models, names)
    budget = compared.plan.budget
    for i, model in enumerate(models):
        if model.source.repo_id:
            remote = sum(bool(m.source.repo_id) for m in models)
            model.source.expect(ranges_of(compared.steps, i, budget), budget.ahead_bytes // remote)
    looks = {s.name: Look(s, s.numel, compared.keep, compared.planned.get(s.name)) for s in compared.steps}
    read_bytes = yield from follow(list(looks.values()), models, budget)
    for model in models:
        model.source.verified()
    return {name: look.found for name, look in looks.items()}, read_bytes


def ranges_of(steps: Sequence[Step], source: int, budget: Budget) -> list[Range]:
    """What is read of a model, in order: twice where a tensor does not stay in memory between the looks."""
    return [
        Range(info.file, info.start, info.end)
        for step in steps for _ in range(times(step, budget))
        for info, i in zip(step.inputs, step.sources, strict=True) if i == source
    ]  # fmt: skip


def times(step: Step, budget: Budget) -> int:
    return 1 if budget.holds(step.shape) else 2


def look_at_sample(
    compared: Comparison, models: Sequence[Checkpoint], options: Options
) -> Generator[Progress, None, Found]:
    steps = compared.steps
    room = min(SAMPLE_BYTES, options.memory_bytes // (2 * len(models)))
    samples = share_out(steps, room)
    total = sum(sample.count * i.nbytes // max(1, i.numel)
                for step, sample in zip(steps, samples, strict=True) for i in step.inputs)  # fmt: skip
    gathering = gather(steps, samples, models)
    gathered = yield from told(gathering, total, len(steps))
    planned = compared.planned
    looks = [Look(small, step.numel, compared.keep, planned.get(step.name))
             for small, step in zip(gathered.steps, steps, strict=True)]  # fmt: skip
    left = Options(options.memory_bytes // 2, threads=options.threads)
    budget = looking_budget(gathered.steps, left, remote=0)
    yield from follow(looks, gathered.checkpoints, budget)
    return {look.step.name: look.found for look in looks}, total


def told(
    gathering: Generator[tuple[int, str], None, Gathered], total: int, tensors: int
) -> Generator[Progress, None, Gathered]:
    """Progress of the reading of a sample, and what was read."""
    said = 0.0
    while True:
        try:
            done, name = next(gathering)
        except StopIteration as end:
            found: Gathered = end.value
            return found
        if (at := time.monotonic()) - said >= WORD and done < total:
            said = at
            yield Progress(done, total, name, 0, tensors, 1, 1)


def follow(looks: Sequence[Look], models: Sequence[Checkpoint], budget: Budget) -> Generator[Progress, None, int]:
    """Look at every tensor; the bytes that were read. Yields a few times a second, and at the end."""
    stopped, done, tensors, said, name = threading.Event(), 0, 0, 0.0, ""
    total = sum(look.step.read_bytes * times(look.step, budget) for look in looks)
    work = ((job_of(look.step, models, budget, stopped), look.stages()) for look in looks)
    with threads(budget.workers) as pool:
        try:
            for finished in Schedule(work, budget, Cpu(), pool):
                if finished is not None:
                    piece, name = finished.piece, finished.piece.job.step.name
                    done += piece.count * sum(piece.job.sizes) if finished.was_read else 0
                    tensors += finished.task_done
                if (at := time.monotonic()) - said >= WORD and done < total:
                    said = at
                    yield Progress(done, total, name, tensors, len(looks), 1, 1)
        except BaseException:
            stopped.set()
            for model in models:
                model.source.stop()
            raise
    yield Progress(total, total, name, tensors, len(looks), 1, 1)
    return done


def job_of(step: Step, models: Sequence[Checkpoint], budget: Budget, stopped: threading.Event) -> Job:
    inputs = [models[i] for i in step.sources]
    return Job(step, inputs, PASSES, True, 0, budget.grain(step.shape), Cpu(), stopped)


# Summing up.


def diagnosis(
    recipe: Recipe, compared: Comparison, labels: Sequence[str], found: Mapping[str, Sums],
    *, is_sample: bool, read_bytes: int,
) -> Diagnosis:  # fmt: skip
    layer = {step.name: step.layer for step in compared.steps}
    has_base = compared.has_base

    def part(name: str, at: int | None, role: Role | None, names: Sequence[str]) -> Part:
        return numbers_of(name, at, role, added(found[n] for n in names), has_base=has_base)

    def grouped(key: Callable[[str], object]) -> dict[object, list[str]]:
        groups: defaultdict[object, list[str]] = defaultdict(list)
        for name in found:
            groups[key(name)].append(name)
        return groups

    by_layer, by_role = grouped(layer.__getitem__), grouped(role_of)
    layers = sorted({at for at in layer.values() if at is not None})
    order: list[int | None] = [*layers, *([None] if None in by_layer else [])]
    roles = [role for role in ROLES if role in by_role]
    by_cell = grouped(lambda name: (layer[name], role_of(name)))
    whole = part(WHOLE, None, None, list(found))
    return Diagnosis(
        method=recipe.method, reference=labels[0], has_base=has_base,
        models=tuple(labels[1:] if has_base else labels), keep=compared.keep, is_sample=is_sample,
        read_bytes=read_bytes, why_not_merged=compared.why_not_merged or why_not_computed(recipe, whole),
        tensors=tuple(part(name, layer[name], role_of(name), [name]) for name in found),
        layers=tuple(part(layer_name(at), at, None, by_layer[at]) for at in order),
        roles=tuple(part(role, None, role, by_role[role]) for role in roles),
        cells=tuple(part(f"{layer_name(at)}, {role}", at, role, by_cell[at, role])
                    for at in order for role in roles if (at, role) in by_cell),
        whole=whole,
    )  # fmt: skip


def why_not_computed(recipe: Recipe, whole: Part) -> str:
    if whole.merged is not None:
        return ""
    return f"{recipe.method} needs whole matrices at once, which a diagnosis does not compute."


def last_parts(models: tuple[str, ...]) -> tuple[str, ...]:
    """The last parts of names, where these tell models apart."""
    lasts = tuple(model.rstrip("/").rsplit("/", 1)[-1] for model in models)
    return lasts if len(set(lasts)) == len(lasts) else models


def layer_name(layer: int | None) -> str:
    return AROUND if layer is None else f"layer {layer}"
