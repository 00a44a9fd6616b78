"""Which block is worked on when: tensors in order, their blocks on several threads, within a number of buffers."""

import queue
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from merging.blocks import Job, Output, Piece, Stage
from merging.budget import Budget
from merging.device import Device
from merging.methods.arrays import Bytes
from merging.totals import Total

Stages = Generator[Stage, Total, None]  # yields what to do with every block, gets the total of what that found
TICK = 0.1  # seconds without a finished block after which the caller gets a word


@dataclass(slots=True)
class Task:
    """A tensor in progress: where it stands in its stages, and which buffers it holds."""

    job: Job
    stages: Stages
    stage: Stage
    blocks: int
    held: list[Bytes]  # buffers for every block, where the inputs stay in memory between stages; else empty
    first: bool = True  # in the first stage
    started: int = 0  # blocks of this stage
    finished: int = 0
    total: Total = field(default_factory=Total)

    @property
    def reads(self) -> bool:
        return self.first or not self.held


@dataclass(frozen=True, slots=True)
class Done:
    """A thread is through with a block."""

    output: Output | None  # None where it was measured


@dataclass(frozen=True, slots=True)
class Finished:
    """A block that went through a stage."""

    piece: Piece
    was_read: bool
    output: Output | None
    task_done: bool  # it was the last of its tensor


class Schedule:
    """Iterate to work: yields each finished block, and None now and then when there is none. The first error ends it.

    A block is started as soon as there are buffers for it; the oldest tensor goes first, and the next one begins when
    all blocks of those before it are under way, so that no thread waits at the end of a tensor or of a pass over it.
    """

    def __init__(
        self, tensors: Iterable[tuple[Job, Stages]], budget: Budget, device: Device, pool: ThreadPoolExecutor
    ) -> None:
        self.coming, self.budget, self.device, self.pool = iter(tensors), budget, device, pool
        self.upcoming = next(self.coming, None)
        self.active: list[Task] = []
        self.free: list[Bytes] = []
        self.unmade = budget.sets  # buffers are made when they are first needed
        self.done: queue.SimpleQueue[tuple[Task, Piece, Future[Done | None]]] = queue.SimpleQueue()
        self.in_flight = 0
        self.ahead = 0  # blocks made before their turn in the file, for which one of an older tensor is missing

    def __iter__(self) -> Iterator[Finished | None]:
        while self.start_blocks():
            try:
                task, piece, future = self.done.get(timeout=TICK)
            except queue.Empty:
                yield None
            else:
                self.in_flight -= 1
                if (done := future.result()) is not None:
                    yield self.finish(task, piece, done.output)
        assert not self.active and self.upcoming is None, "there were no buffers for a block, and none in use"

    def start_blocks(self) -> bool:
        """Keep every thread busy; False when all is done."""
        while self.in_flight < self.budget.in_flight * self.budget.workers and (task := self.next_task()):
            self.start_block(task)
        return self.in_flight > 0

    def next_task(self) -> Task | None:
        """The oldest tensor with a block that can be started now."""
        for task in self.active:
            if task.started < task.blocks and (task.held or self.room()):
                return task
        return self.admit()

    def room(self) -> int:
        return len(self.free) + self.unmade

    def admit(self) -> Task | None:
        """Begin with the next tensor, if there are buffers for it, and not too much waits for the older ones."""
        if self.upcoming is None or self.ahead > self.budget.in_flight * self.budget.workers:
            return None
        job, stages = self.upcoming
        shape, granularity = job.step.shape, job.step.granularity
        blocks = self.budget.blocks(shape, granularity)
        holds = job.passes > 0 and self.budget.holds(shape, granularity)
        if self.room() < (blocks if holds else 1):
            return None
        task = Task(job, stages, next(stages), blocks, [self.take() for _ in range(blocks)] if holds else [])
        self.active.append(task)
        self.upcoming = next(self.coming, None)
        return task

    def take(self) -> Bytes:
        if self.free:
            return self.free.pop()
        self.unmade -= 1
        return self.device.buffer(self.budget.set_bytes)

    def start_block(self, task: Task) -> None:
        step, block = task.job.step, task.started
        size = self.budget.block(step.shape, step.granularity)
        count = min(size, step.numel - block * size)
        buffers = task.held[block] if task.held else self.take()
        piece = Piece(task.job, block * size, count, buffers, unchecked=task.first)
        future = self.pool.submit(work, piece, task.stage, task.total, read=task.reads)
        future.add_done_callback(lambda f: self.done.put((task, piece, f)))
        task.started += 1
        self.in_flight += 1

    def finish(self, task: Task, piece: Piece, output: Output | None) -> Finished:
        was_read = task.reads
        task.finished += 1
        if not task.held:
            self.free.append(piece.buffers)
        if output is not None and task is not self.active[0]:
            self.ahead += 1
        return Finished(piece, was_read, output, task.finished == task.blocks and not self.go_on(task))

    def go_on(self, task: Task) -> bool:
        """Begin the next stage of a tensor; False when there is none."""
        try:
            task.stage = task.stages.send(task.total)
        except StopIteration:
            if task is self.active[0]:
                self.ahead = 0
            self.active.remove(task)
            self.free.extend(task.held)
            return False
        task.first, task.started, task.finished, task.total = False, 0, 0, Total()
        return True


def work(piece: Piece, stage: Stage, total: Total, *, read: bool) -> Done | None:
    """What a thread does with a block; None when all has stopped. An error stops all."""
    stopped = piece.job.stopped
    try:
        if read:
            piece.read()
        if stopped.is_set():  # perhaps before all was read
            return None
        with piece.job.device.working():
            found = stage(piece)
    except BaseException:
        stopped.set()
        raise
    if isinstance(found, Output):
        return Done(found)
    total.add(piece.start, found)
    return Done(None)


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """The threads that work on blocks, and end at once when the block of code that uses them does."""
    keep_freed_memory()
    # With another number of threads BLAS rounds otherwise; whoever imported numpy before us may have given it more.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(count, "merge") as pool:  # type: ignore[no-untyped-call]
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next grain, instead of giving it to the system and zeroing it again.

    It raises its thresholds to the largest block that was freed, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD).
    """
    np.empty(31 * 2**20, np.uint8)
