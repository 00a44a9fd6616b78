"""Run a merge: read, compute and write in blocks, within a memory budget. The one way in, for command line and app."""

import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from merging.blocks import Job, copy_block, measure_block, merge_block
from merging.checkpoint import INDEX, Checkpoint
from merging.delivery import Delivery, delivering
from merging.device import Device, choose_device
from merging.donor import donated_files
from merging.earlier import recall, write_down
from merging.errors import Kept, MergeError
from merging.heads import compare_heads
from merging.identity import digest_of
from merging.layer_config import stacked_config
from merging.methods import METHODS, Method
from merging.plan import Plan, Shard, index_of, make_plan, reads
from merging.progress import WORD, Progress
from merging.reading import Range
from merging.recipe import ModelRef, Recipe, to_yaml
from merging.report import RECIPE, Record, now, read_cards, written_dtype
from merging.schedule import Finished, Schedule, Stages, threads
from merging.staging import Stage, found_again, staged
from merging.writer import ShardFile, check_place, check_space, write_files

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run, never what comes out: the bits do not depend on any of these but `shard_bytes` (file layout)."""

    memory_bytes: int = 1_000_000_000
    shard_bytes: int = 5_000_000_000
    threads: int | None = None  # None: all cores
    device: str = "auto"  # auto, cpu, cuda

    @property
    def cores(self) -> int:
        """The threads to use; by default all cores that this process may run on."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(slots=True)
class Run:
    """A merge under way."""

    recipe: Recipe
    checkpoints: Sequence[Checkpoint]  # in the order of Plan.models
    plan: Plan
    device: Device
    stage: Stage
    stopped: threading.Event
    delivery: Delivery | None = None
    done_bytes: int = 0
    tensors_done: int = 0
    tensor: str = ""  # the last one that was worked on
    said: float = 0.0  # when the last word on progress was

    def stop(self) -> None:
        """Have what is under way in threads end soon."""
        self.stopped.set()
        for checkpoint in self.checkpoints:
            checkpoint.source.stop()


def merge(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], out: Path, options: Options | None = None,
    *, findings: tuple[object, ...] = (), delivery: Delivery | None = None,
) -> Generator[Progress, None, None]:  # fmt: skip
    """Merge into the folder `out`, which must not exist; it appears whole at the end, or not at all.

    Yields progress. Leaving the loop (closing the iterator) cancels the merge and removes what was staged; but what a
    kill left of the same merge is found again, and only the shards that are missing are made. In the folder: shards
    and index, config, generation config and tokenizer files whole, README.md, merge_recipe.yaml, merge_report.json.
    With a delivery, shards go there as they are finished; where it keeps no files, `out` only says where to stage.
    """
    options, started = options or Options(), now()
    check_place(out)
    device = choose_device(options.device)
    memory_bytes = min(options.memory_bytes, device.room or options.memory_bytes)
    plan = make_plan(
        recipe, checkpoints, shard_bytes=options.shard_bytes, memory_bytes=memory_bytes, threads=options.cores,
        gpu=device.name != "cpu",
    )  # fmt: skip
    used = {model: checkpoints[model] for model in plan.models}
    models = list(used.values())
    stays = delivery is None or delivery.keeps_files
    commits = {str(ref): one.source.revision for ref, one in used.items() if one.source.revision}
    asked = {"recipe": to_yaml(recipe), "commits": commits}
    with staged(out, digest_of(recipe, used, plan, device.name), started, asked=asked, stays=stays) as stage:
        run = Run(recipe, models, plan, device, stage, threading.Event(), delivery)
        record = partial(Record, recipe, used, plan, findings, device=device.name, shard_bytes=options.shard_bytes)
        with delivering(delivery):
            try:
                yield from make(run, used, record)
            except Kept:
                refuse_broken(run)  # first: of what arrived broken nothing may be gone on with
                yield from arrived(run)
                raise
    yield progress(run, len(plan.shards), whole(run))


def refuse_broken(run: Run) -> None:
    """Raise MergeError where a file of a model is known by now to have arrived broken."""
    for checkpoint in run.checkpoints:
        checkpoint.source.checked()


def make(run: Run, used: Mapping[ModelRef, Checkpoint], record_of: Callable[..., Record]) -> Iterator[Progress]:
    """All of a merge inside its stage: what may fail early first, then the weights, then what is told of them."""
    stage, plan, delivery = run.stage, run.plan, run.delivery
    cards = yield from in_background(run, lambda: begin(run, used))
    record = record_of(cards=cards, repo_id=delivery.repo_id if delivery else None)
    if delivery:
        yield from delivered(run, delivery.begin(stage, record.draft()))
    yield from in_background(run, lambda: stage.recover(plan, delivery.has if delivery else lambda file, sha256: False))
    yield from tell_what_was_found(run)
    check_space(stage.out, needed_bytes(run))
    expect(run)
    yield from write_shards(run)
    yield from in_background(run, lambda: [c.source.verified() for c in run.checkpoints], len(plan.shards))
    if (index := index_of(plan)) is not None:
        write_files(stage.folder, [(INDEX, json.dumps(index, indent=2, ensure_ascii=False).encode())])
    write_files(stage.folder, record.files(stage.started, stage.finished(now()), stage.complete).items())
    if delivery:
        yield from sent(run, 0)
        yield from delivered(run, delivery.finish(stage.small_files() | {RECIPE: record.public_recipe()}))


def needed_bytes(run: Run) -> int:
    """Free space for what is still to be written: all of it, or two shards at a time where they leave again."""
    others = run.plan.disk_bytes - run.plan.write_bytes
    missing = sorted(s.nbytes for s in run.plan.shards if s.file not in run.stage.complete)
    return others + sum(missing if run.delivery is None or run.delivery.keeps_files else missing[-2:])


def delivered(run: Run, future: "Future[Any]") -> Iterator[Progress]:
    """Wait for the delivery. When it fails, the merge can go on later."""
    while not wait([future], timeout=WORD).done:
        yield progress(run, 1, run.done_bytes)
    kept(future.result)


def sent(run: Run, most: int) -> Iterator[Progress]:
    """Wait until no more than so many shards are on their way."""
    while run.delivery and kept(run.delivery.waiting) > most:
        run.tensor = "sending finished shards"
        yield progress(run, len(run.stage.complete), run.done_bytes)
        time.sleep(WORD / 4)


def arrived(run: Run) -> Iterator[Progress]:
    """Let what is being sent arrive, or fail, lest the next attempt send it at the same time."""
    while run.delivery:
        with suppress(MergeError):
            return (yield from sent(run, 0))


def kept(ask: Callable[[], Result]) -> Result:
    try:
        return ask()
    except Kept:
        raise
    except MergeError as error:
        raise Kept(str(error)) from None


def tell_what_was_found(run: Run) -> Iterator[Progress]:
    """Count what is complete already."""
    for shard in run.plan.shards:
        if shard.file in run.stage.complete:
            run.done_bytes += shard.nbytes + run.plan.read_bytes * shard.nbytes // run.plan.write_bytes
            run.tensors_done += len(shard.steps)
    for note in found_again(run.stage, run.plan):
        yield replace(progress(run, 1, run.done_bytes), note=note)


def begin(run: Run, checkpoints: Mapping[ModelRef, Checkpoint]) -> dict[str, Any]:
    """All that may fail before the weights are read: the heads that are left out, small files. Returns the cards."""
    steps = [step for shard in run.plan.shards for step in shard.steps]
    around = {i for step in steps if step.layer is None for i in step.sources}  # in a stack, only the ends have heads
    compare_heads([run.checkpoints[i] for i in sorted(around)], frozenset(step.name for step in steps))
    config = stacked_config(run.plan.stack, run.checkpoints)
    write_files(run.stage.folder, donated_files(run.checkpoints[0], config, written_dtype(run.plan)))
    return read_cards(checkpoints)


def expect(run: Run) -> None:
    """Tell the models from the Hub what will be read of them, in which order, so that they can fetch it ahead."""
    steps = [s for shard in run.plan.shards if shard.file not in run.stage.complete for s in shard.steps]
    remote = [i for i, checkpoint in enumerate(run.checkpoints) if checkpoint.source.repo_id]
    for i in remote:
        ranges = [
            Range(info.file, info.start, info.end)
            for step in steps if i in step.sources
            for _ in range(reads(METHODS[run.recipe.method], step, run.plan.budget))
            for info, source in zip(step.inputs, step.sources, strict=True) if source == i
        ]  # fmt: skip
        run.checkpoints[i].source.expect(ranges, run.plan.budget.ahead_bytes // len(remote))
    recall(run.stage, run.plan, [checkpoint.source for checkpoint in run.checkpoints])


def in_background(run: Run, work: Callable[[], Result], shard: int = 1) -> Generator[Progress, None, Result]:
    """Do something slow in a thread, so that one can leave meanwhile."""
    with ThreadPoolExecutor(1, "begin") as pool:
        doing = pool.submit(work)
        try:
            while not wait([doing], timeout=WORD).done:
                yield progress(run, shard, run.done_bytes)
            return doing.result()
        except BaseException:
            run.stop()
            raise


def write_shards(run: Run) -> Iterator[Progress]:
    """Write every shard that is not complete, one after the other."""
    with threads(run.plan.budget.workers) as pool:
        try:
            for number, shard in enumerate(run.plan.shards, 1):
                yield from sent(run, 1 if run.delivery and not run.delivery.keeps_files else len(run.plan.shards))
                if shard.file not in run.stage.complete:
                    file = ShardFile(run.stage.part(shard), shard.header, shard.nbytes)
                    with closing(file):
                        file.open()
                        yield from write_shard(run, number, shard, file, pool)
                        sha256 = file.finish()
                    refuse_broken(run)
                    run.stage.keep(shard, sha256)
                    write_down(run.stage, [checkpoint.source for checkpoint in run.checkpoints])
                if run.delivery:
                    run.delivery.take(shard.file, run.stage.complete[shard.file])
        except BaseException:
            run.stop()
            raise


def write_shard(run: Run, number: int, shard: Shard, file: ShardFile, pool: ThreadPoolExecutor) -> Iterator[Progress]:
    method = METHODS[run.recipe.method]
    tensors = ((job, stages(job, method)) for job in jobs(run, shard, method))
    for finished in Schedule(tensors, run.plan.budget, run.device, pool):
        if finished is not None:
            note(run, finished, file)
        if (at := time.monotonic()) - run.said >= WORD:
            run.said = at
            yield progress(run, number, run.done_bytes)


def jobs(run: Run, shard: Shard, method: Method) -> Iterator[Job]:
    for step in shard.steps:
        inputs = [run.checkpoints[i] for i in step.sources]
        passes = method.passes(step.settings) if step.is_merged else 0
        grain = run.plan.budget.grain(step.shape, step.granularity)
        yield Job(step, inputs, passes, step.has_base, run.recipe.seed, grain, run.device, run.stopped)


def stages(job: Job, method: Method) -> Stages:
    """What is done with every block of a tensor: measured, pass after pass, then merged and written; or copied."""
    if not job.step.is_merged:
        yield copy_block
        return
    measured = None
    if method.measure:
        passes = method.measure(job.step.shape, job.step.settings)
        try:
            look = next(passes)
            while True:
                total = yield partial(measure_block, look=look)
                look = passes.send(total.value())
        except StopIteration as found:
            measured = found.value
    yield partial(merge_block, method=method, measured=measured)


def note(run: Run, finished: Finished, file: ShardFile) -> None:
    """Count what a block moved; hand on what it made to the file."""
    piece, step = finished.piece, finished.piece.job.step
    run.done_bytes += piece.count * sum(piece.job.sizes) if finished.was_read else 0
    if finished.output:
        file.put(finished.output.start, finished.output.data)
        run.done_bytes += len(finished.output.data)
    run.tensors_done += finished.task_done
    run.tensor = step.name


def progress(run: Run, shard: int, done_bytes: int) -> Progress:
    tensors = sum(len(s.steps) for s in run.plan.shards)
    done = min(whole(run), done_bytes + (run.delivery.sent_bytes if run.delivery else 0))
    return Progress(done, whole(run), run.tensor, run.tensors_done, tensors, shard, len(run.plan.shards))


def whole(run: Run) -> int:
    """The bytes to move in all: in, out, and away."""
    return run.plan.read_bytes + run.plan.write_bytes * (2 if run.delivery else 1)
