"""A merge in memory: made again in place for other lambdas, with the bits that the engine would write.

The models lie in memory as their files have them, and every merge starts from them, never from the last one. What
measures found is remembered, so that another lambda is one pass over the numbers.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from merging.assembly import depth_of
from merging.blocks import Stretch, in_stretches, looked_at
from merging.budget import GRAIN, grain_of, row_of
from merging.checkpoint import Checkpoint
from merging.device import Cpu, Device
from merging.errors import MergeError
from merging.header import DTYPE_BITS
from merging.held import Held, held_bytes, keys_of, steps_of
from merging.methods import METHODS, Method
from merging.methods.arrays import Array, Bytes, Found, Measured
from merging.methods.chance import Chance
from merging.methods.spec import Block, Pass, compute
from merging.methods.stored import plain
from merging.plan import Plan, Step, make_plan
from merging.recall import Recall
from merging.recipe import ModelRef, Recipe, all_models
from merging.schedule import keep_freed_memory
from merging.soundness import Merged, check_output
from merging.totals import Total

UNLIMITED = 2**60  # bytes: all is in memory, and nothing is written
PART_GRAINS = 64  # that a thread takes at a time, at most: every time costs Python, and Python's lock
GPU_THREADS = 4  # enough to keep one busy; each computes a part at once, in the GPU's memory
TOGETHER = 16  # tensors that are measured at the same time: the counts of each take some memory
LEAST_RECALL, RECALL = 64_000_000, 1 / 16  # bytes for what measures found, at least, and as a share of the models
LONGEST = 20.0  # seconds for one merge: who moves a slider does not wait longer
SPEED = 2e9  # numbers a second of one thread, of every model, where a method does little with each
DISK_SPEED = 5e8  # bytes a second, where the models do not fit into memory
SLOW = {"della": 3e7, "della_linear": 3e7, "arcee_fusion": 5e7, "pcb": 1e8, "sce": 2e8}  # where it does more

Shapes = tuple[tuple[str, str, tuple[int, ...]], ...]


class Superseded(Exception):
    """Another merge is wanted by now."""


def plan_live(recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Plan:
    """What a merge is made of. Raises MergeError where the models do not go together, as the engine does."""
    return make_plan(recipe, checkpoints, shard_bytes=UNLIMITED, memory_bytes=UNLIMITED, threads=1)


def why_not_live(recipe: Recipe, plan: Plan, threads: int, *, on_disk: bool = False) -> str:
    """Why a merge cannot be made again at every move of a slider, and what to do; empty where it can.

    `on_disk`: the models are not in memory.
    """
    method, steps = METHODS[recipe.method], steps_of(plan)
    if any(step.granularity == "matrix" for step in steps):
        return (
            f"{method.title} takes every matrix apart into its directions, which is too slow to follow a slider. "
            "Merge it, then chat with the merge; or try another method."
        )
    seconds = seconds_for(method, steps, threads, on_disk=on_disk)
    if seconds > LONGEST:
        return (
            f"{method.title} would take about {seconds:.0f} seconds for these models at every move of a slider. "
            "Merge it, then chat with the merge; or try another method."
        )
    return ""


def seconds_for(method: Method, steps: Sequence[Step], threads: int, *, on_disk: bool = False) -> float:
    """About how long one merge in memory takes."""
    numbers = sum(step.numel * len(step.inputs) for step in steps)
    read = sum(i.nbytes for step in steps for i in step.inputs) if on_disk else 0
    passes = 1 + max((method.passes(step.settings) for step in steps if step.is_merged), default=0)
    return passes * (numbers / SLOW.get(method.name, SPEED) / threads + read / DISK_SPEED)


@dataclass(frozen=True, slots=True)
class Need:
    """The bytes that a merge in memory takes."""

    models: int
    merge: int
    working: int

    @property
    def total(self) -> int:
        return self.models + self.merge + self.working

    @property
    def without_models(self) -> int:
        """Where the models lie on disk."""
        return self.merge + self.working


def need_of(plan: Plan, threads: int) -> Need:
    models = held_bytes(plan)
    merge = sum(step.end - step.start for step in steps_of(plan))
    widest = max((grain_of(step.granularity, step.shape) for step in steps_of(plan)), default=0)
    count = max((len(step.inputs) for step in steps_of(plan)), default=0)
    working = threads * 4 * max(GRAIN, widest) * (4 + 4 * count) + recall_bytes(models)
    return Need(models, merge, working)


def need_of_gpu(plan: Plan) -> int:
    """Bytes of a GPU's memory for models, merge and what is computed of them."""
    need, widest = need_of(plan, GPU_THREADS), max((step.numel for step in steps_of(plan)), default=0)
    count = max((len(step.inputs) for step in steps_of(plan)), default=0)
    return need.models + need.merge + GPU_THREADS * 4 * min(PART_GRAINS * GRAIN, widest) * (8 + 6 * count)


def recall_bytes(models: int) -> int:
    """What measures may keep: hardly anything of a small model."""
    return min(max(LEAST_RECALL, int(models * RECALL)), models)


@dataclass(frozen=True)
class Work:
    """One tensor to merge, with its inputs in memory."""

    step: Step
    key: Hashable  # which tensor of which models, with all else that a measure depends on
    method: Method
    seed: int
    inputs: tuple[Bytes, ...]
    memory: Bytes
    places: tuple[int, ...]  # first byte of each input in there
    device: Device

    @cached_property
    def sizes(self) -> list[int]:
        return [DTYPE_BITS[i.dtype] // 8 for i in self.step.inputs]

    @cached_property
    def grain(self) -> int:
        return grain_of(self.step.granularity, self.step.shape)

    @property
    def depth(self) -> float | None:
        return None if self.step.layer is None else depth_of(self.step.layer, self.step.layers)

    def parts(self) -> list["Part"]:
        """Whole grains, as many as a thread takes at a time."""
        size = self.grain * max(1, PART_GRAINS * GRAIN // self.grain)
        return [Part(self, at, min(size, self.step.numel - at)) for at in range(0, self.step.numel, size)] or [
            Part(self, 0, 0)
        ]

    def block(self, wide: Any, start: int) -> Block:
        step = self.step
        chance = Chance(self.seed, step.name, start)
        return Block(wide, step.has_base, chance, row_of(step.shape), self.depth, step.granularity == "matrix")


@dataclass(frozen=True, slots=True)
class Part:
    """Some grains of a tensor."""

    work: Work
    start: int  # first element
    count: int

    def grains(self) -> list[Stretch]:
        """Where each begins and ends, from the start of the tensor."""
        end, grain = self.start + self.count, self.work.grain
        if self.work.device.name != "cpu":  # all at once, or a GPU is hardly used; its sums may differ in the last bit
            return [(self.start, end)]
        return [(at, min(at + grain, end)) for at in range(self.start, end, grain)] or [(0, 0)]

    def widened(self, begin: int, end: int) -> Block:
        work, step = self.work, self.work.step
        begins = [place + begin * size for place, size in zip(work.places, work.sizes, strict=True)]
        dtypes, by_parts = [i.dtype for i in step.inputs], step.granularity == "element"
        return work.block(work.device.widen(work.memory, begins, end - begin, dtypes, by_parts=by_parts), begin)

    def measure(self, look: Pass) -> Found:
        return look(looked_at(self.grains(), lambda stretches: (self.widened(*stretch) for stretch in stretches)))

    def merge(self, measured: Measured, into: Bytes) -> None:
        """Compute and round into the bytes of the whole tensor."""
        step, size = self.work.step, DTYPE_BITS[self.work.step.dtype] // 8
        if not step.is_merged:
            copy_whole(self.work, into)
            return

        def computed(part: Part, begin: int, end: int) -> Array:
            return compute(self.work.method, part.widened(begin, end), measured, step.settings)

        def again() -> Iterator[Merged]:
            whole = Part(self.work, 0, step.numel)
            return ((begin, plain(computed(whole, begin, end))) for begin, end in whole.grains())

        def merge(stretches: Sequence[Stretch]) -> Iterator[Array]:
            for begin, end in stretches:
                wide = computed(self, begin, end)
                check_output(step, self.work.device.narrow(wide, step.dtype, into[begin * size : end * size]), again)
                yield wide

        in_stretches(self.grains(), merge)


def copy_whole(work: Work, into: Bytes) -> None:
    """Take over a tensor of whole numbers, which must be the same in every model."""
    if any(bool((work.inputs[0] != other).any()) for other in work.inputs[1:]):
        raise MergeError(
            f"{work.step.name!r} holds whole numbers, which are copied and not merged, but they are not the same in "
            "all models. Merge models that agree on them."
        )
    into[:] = work.inputs[0]


@dataclass(slots=True)
class LiveMerge:
    """Makes merges of the models held. For one thread at a time, which `threads` others help. Close it at the end."""

    held: Held
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    recall: Recall = field(init=False)
    pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.recall = Recall(recall_bytes(len(self.held.memory)))
        keep_freed_memory()
        self.pool = ThreadPoolExecutor(self.threads, "live")

    def forget(self) -> None:
        """Give back the memory of what measures found; it is found again when it is needed."""
        self.recall = Recall(self.recall.limit_bytes)

    def leave_gpu(self) -> None:
        """Have the models in the machine's memory, and merge there."""
        if not isinstance(self.held.memory, np.ndarray):
            self.held = replace(self.held, memory=self.held.memory.cpu().numpy(), device=Cpu())

    def plan(self, recipe: Recipe) -> Plan:
        """What a recipe makes of the models held. Raises MergeError where it needs others, or cannot be live."""
        known = self.held.checkpoints
        if missing := [str(model) for model in all_models(recipe) if model not in known]:
            raise MergeError(f"{missing[0]} is not in memory. Load the recipe again to try it.")
        plan = plan_live(recipe, known)
        if any(key not in self.held.places for step in steps_of(plan) for key in keys_of(plan, step)):
            raise MergeError("The recipe reads tensors that are not in memory. Load it again to try it.")
        if reason := why_not_live(recipe, plan, self.threads, on_disk=self.held.on_disk):
            raise MergeError(reason)
        return plan

    def merge(
        self, recipe: Recipe, plan: Plan, into: Mapping[str, Bytes], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Merge into the bytes of every tensor, by its name; `plan` is that of the recipe.

        Raises Superseded as soon as `stopped` says so, and MergeError where a number does not fit its type. The bytes
        are then those of no merge, until the next one.
        """
        works = [self.work(recipe, plan, step) for step in steps_of(plan)]
        measured = self.measure([work for work in works if work.step.is_merged and work.method.measure], stopped)
        parts = [part for work in works for part in work.parts()]
        self.run(lambda part: part.merge(measured.get(part.work.step.name), into[part.work.step.name]), parts, stopped)

    def work(self, recipe: Recipe, plan: Plan, step: Step) -> Work:
        method, keys = METHODS[recipe.method], keys_of(plan, step)
        seed = recipe.seed if method.random else None
        key = (tuple(keys), step.name, step.has_base, step.granularity, seed)
        inputs = tuple(self.held.raw(key, info) for key, info in zip(keys, step.inputs, strict=True))
        places = tuple(self.held.places[key] for key in keys)
        return Work(step, key, method, recipe.seed, inputs, self.held.memory, places, self.held.device)

    def measure(self, works: Sequence[Work], stopped: Callable[[], bool]) -> dict[str, Measured]:
        """What the method must know of each tensor, some tensors at a time: pass after pass over all of these."""
        found: dict[str, Measured] = {}
        for _, some in groupby(enumerate(works), key=lambda numbered: numbered[0] // TOGETHER):
            asking: list[tuple[Work, Generator[Pass, Found, Measured], Found | None]] = [
                (work, self.recall.measuring(work.method, work.step.shape, work.step.settings, work.key), None)
                for _, work in some
            ]
            while asking:
                looks = list(answered(asking, found))
                totals = self.look([(work, look) for work, _, look in looks], stopped)
                asking = [(work, passes, total) for (work, passes, _), total in zip(looks, totals, strict=True)]
        return found

    def look(self, looks: Sequence[tuple[Work, Pass]], stopped: Callable[[], bool]) -> list[Found]:
        """The totals of a pass over each of some tensors."""
        totals = [Total() for _ in looks]
        parts = [
            (part, look, total) for (work, look), total in zip(looks, totals, strict=True) for part in work.parts()
        ]
        self.run(lambda of: of[2].add(of[0].start, of[0].measure(of[1])), parts, stopped)
        return [total.value() for total in totals]

    def run(self, do: Callable[[Any], None], parts: Iterable[Any], stopped: Callable[[], bool]) -> None:
        """Do something with every part, in as many threads as there are, each of which takes the next one."""
        failed, left, device = threading.Event(), deque(parts), self.held.device

        def some() -> None:
            try:
                while (part := taken(left)) is not None:
                    if failed.is_set() or stopped():
                        raise Superseded
                    with device.working():
                        do(part)
            except BaseException:
                failed.set()
                raise

        count = self.threads if device.name == "cpu" else min(self.threads, GPU_THREADS)
        futures = [self.pool.submit(some) for _ in range(count)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, Superseded)):
            raise error
        device.settle()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def taken(left: deque[Any]) -> Any:
    """The next of what is left, for one of several threads; None where there is none."""
    try:
        return left.popleft()
    except IndexError:
        return None


def answered(
    asking: Iterable[tuple[Work, Generator[Pass, Found, Measured], Found | None]], found: dict[str, Measured]
) -> Iterator[tuple[Work, Generator[Pass, Found, Measured], Pass]]:
    """Those that want another pass; what the others found goes to `found`."""
    for work, passes, total in asking:
        try:
            yield work, passes, next(passes) if total is None else passes.send(total)
        except StopIteration as measured:
            found[work.step.name] = measured.value
