"""What a job does: merge into its folder or look at weights, each in a process of its own; publish; or verify."""

import json
import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from merging.compatibility import Finding
from merging.diagnostics import Diagnosis, diagnose
from merging.engine import Options, merge
from merging.errors import Kept, MergeError, Passing
from merging.hub import Delivery, Verified, publish, verify
from merging.perseverance import persevere
from merging.progress import Progress
from merging.recipe import ModelRef, parse_recipe
from merging.report import CARD, RECIPE, REPORT
from merging.staging import left_stage
from merging.waiting import TICK, in_thread
from space.inputs import opened
from space.inspected import write_files
from space.jobs import Cancelled, Interrupted, Job, Report
from space.room import Room, unwritten
from space.settings import Settings
from space.turns import Turn, no_turn
from space.viewer import HubFor, token_here
from space.worker import Reporter, run_apart

Step = TypeVar("Step")
RECEIPT = "published"  # in the job's folder: the address, as soon as it is published
SENT = "sent.journal"  # what a publication has made and sent, in the job's folder


class Tasks:
    def __init__(self, settings: Settings, hub_for: HubFor) -> None:
        self.settings = settings
        self.hub_for = hub_for
        self.room = Room(settings)

    def run(self, job: Job, report: Report, *, turn: Turn = no_turn) -> Mapping[str, Any]:
        """What computes does so in a process of its own; the others only wait for the network.

        `turn` is that of the accelerator. What is scored takes one for each model. A merge takes none: it is bound by
        the Hub and the disk, needs little of a GPU's memory, and who asks something would wait for its network.
        """
        match job.kind:
            case "merge":
                return run_apart(self.merge, job, report)
            case "diagnose":
                return run_apart(self.diagnose, job, report)
            case "verify":
                return self.verify(job, report)
            case "judge":
                from space.judge_task import Judging  # with transformers, which the process of a merge does without

                return run_apart(Judging(self.settings, self.hub_for).run, job, report, turn)
        return self.publish(job, report)

    def merge(self, job: Job, report: Reporter) -> Mapping[str, Any]:
        """Weights are read by byte range where they lie; what was staged goes when the owner cancels.

        Faults that pass are waited for, and so is nothing else: the Hub is asked again from the last complete shard.
        """
        began, out = time.monotonic(), report.folder / "model"
        if repo_id := job.payload.get("repo_id"):
            return self.merge_to_hub(job, report, out, str(repo_id))
        if not out.exists():  # else the app was stopped between the end of the merge and the word of it
            self.follow(persevere(self.attempts(job, report, out)), report)
        written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        report.log(f"Wrote {written:,} bytes in {time.monotonic() - began:.1f} s")
        return {"folder": str(out), "bytes": written, "seconds": time.monotonic() - began}

    def merge_to_hub(self, job: Job, report: Reporter, out: Path, repo_id: str) -> Mapping[str, Any]:
        """Publish while merging. What a cancel leaves on the Hub is said."""
        deliveries, receipt = list[Delivery](), report.folder / RECEIPT
        if receipt.exists():  # the app was stopped between the commit and the word of it
            return published(receipt.read_text(encoding="utf-8"), job)
        private, hub = bool(job.payload["private"]), self.hub_for(report.secret or token_here(self.settings))
        message = f"Merge with Alloy ({parse_recipe(job.payload['recipe']).method})"

        def attempts() -> Iterator[Generator[Progress, None, None]]:
            while True:
                deliveries.append(
                    hub.deliver(repo_id, private=private, message=message, keeps_files=False, receipt=receipt)
                )
                yield self.attempt(job, report, out, deliveries[-1])

        try:
            self.follow(persevere(attempts()), report, leaves=True)
        except Cancelled:
            with known(deliveries[-1], out) as delivery:
                raise Cancelled(delivery.left or delivery.take_back()) from None
        except Kept as error:
            with known(deliveries[-1], out) as delivery:
                if (rest := delivery.rest()) not in str(error):
                    error.args = (f"{error} {rest}",)
            raise
        report.log(f"Published at {deliveries[-1].url}")
        return published(deliveries[-1].url, job, deliveries[-1].note)

    def attempts(self, job: Job, report: Reporter, out: Path) -> Iterator[Generator[Progress, None, None]]:
        while True:
            yield self.attempt(job, report, out)

    def attempt(
        self, job: Job, report: Reporter, out: Path, delivery: Delivery | None = None
    ) -> Generator[Progress, None, None]:
        recipe = parse_recipe(job.payload["recipe"])
        findings = tuple(Finding(**found) for found in job.payload["findings"])
        self.room.plan(unwritten(job, report.folder), (), report.folder.joinpath)
        hub = self.hub_for(report.secret or token_here(self.settings))
        if job.payload.get("cached") and not self.settings.hosted:
            hub = replace(hub, cached=True)
        with ExitStack() as held:
            try:
                checkpoints = held.enter_context(opened(recipe, hub, self.settings, tick=report.check))
            except Kept:
                raise
            except MergeError as error:  # they were there when it was asked for, and may be again
                raise Kept(str(error)) from None
            for ref, checkpoint in checkpoints.items():
                report.log(f"Reading {ref}: {len(checkpoint.tensors)} tensors in {len(checkpoint.shards)} shards")
            yield from merge(
                recipe, checkpoints, out, engine_options(self.settings), findings=findings, delivery=delivery
            )

    def follow(self, steps: Generator[Progress, None, None], report: Reporter, *, leaves: bool = False) -> None:
        """Turn the engine's progress into the job's: a line for each shard and each tenth.

        A machine without room ends it as an error of its own would. `leaves`: shards leave the disk by themselves.
        """
        shard, tenth = 0, 0
        with left(steps):
            for step in steps:
                if step.note:
                    report.log(step.note)
                report.progress(step.done_bytes, step.total_bytes, step.tensor)
                try:
                    self.room.watch(leaves=leaves)
                except MergeError as error:
                    steps.throw(error)
                if step.shard != shard:
                    shard = step.shard
                    report.log(f"Shard {shard} of {step.shards}")
                if (now := 10 * step.done_bytes // max(step.total_bytes, 1)) > tenth:
                    tenth = now
                    report.log(f"{10 * tenth} %: {step.tensors_done} of {step.tensors} tensors, {step.tensor}")

    def diagnose(self, job: Job, report: Reporter) -> Mapping[str, Any]:
        """Compare the weights of a recipe's models, or a sample of them. A fault that passes is waited for."""
        began, found = time.monotonic(), list[Diagnosis]()

        def attempts() -> Iterator[Generator[Progress, None, None]]:
            while True:
                yield self.look(job, report, found)

        self.follow(persevere(attempts()), report)
        write_files(found[-1], report.folder)
        return {"read_bytes": found[-1].read_bytes, "seconds": time.monotonic() - began}

    def look(self, job: Job, report: Reporter, found: list[Diagnosis]) -> Generator[Progress, None, None]:
        recipe, hub = parse_recipe(job.payload["recipe"]), self.hub_for(report.secret or token_here(self.settings))
        with opened(recipe, hub, self.settings, tick=report.check) as checkpoints:
            options = engine_options(self.settings)
            found.append((yield from diagnose(recipe, checkpoints, options, sample=job.payload["sample"])))

    def publish(self, job: Job, report: Report) -> Mapping[str, Any]:
        """Send a copy made of links; the merge itself is not touched.

        The card is as its owner left it. The recipe is the report's, which does not tell where local folders lie.
        Faults that pass are waited for; after a restart it goes on with what has been sent.
        """
        receipt = report.folder / RECEIPT
        if receipt.exists():
            return published(receipt.read_text(encoding="utf-8"), job)
        asked, staged = job.payload, copy_to_publish(job.payload, report.folder / "model")
        hub, repo_id = self.hub_for(report.secret or token_here(self.settings)), str(asked["repo_id"])
        message, deliveries = f"Merge with Alloy ({asked['method']})", list[Delivery]()

        def attempts() -> Iterator[Generator[Progress, None, None]]:
            while True:
                deliveries.append(hub.deliver(repo_id, private=asked["private"], message=message, receipt=receipt))
                yield publish(deliveries[-1], staged, report.folder / SENT)

        try:
            with left(persevere(attempts())) as steps:
                for step in steps:
                    tell_of_delivery(step, deliveries[-1], report)
        except Cancelled:
            raise Cancelled(deliveries[-1].left or deliveries[-1].take_back()) from None
        except Passing as error:
            raise Kept(f"{error} Publish it there again: it goes on with what has been sent.") from None
        report.log(f"Published at {deliveries[-1].url}")
        shutil.rmtree(staged)
        return published(deliveries[-1].url, job, deliveries[-1].note)

    def verify(self, job: Job, report: Report) -> Mapping[str, Any]:
        """Read a published model again, all of it, in a thread that one need not wait for."""
        hub, repo_id = self.hub_for(report.secret or token_here(self.settings)), job.payload["repo_id"]
        found = Verified(0, 0)

        def read() -> None:
            nonlocal found
            with closing(hub.open_repo(ModelRef(repo_id))) as repo:
                for step in verify(repo):
                    found = step

        try:
            doing = in_thread(read)
            while not wait([doing], timeout=TICK).done:
                report.check()
                report.progress(found.read_bytes, found.total_bytes, f"{len(found.shards)} of {found.of} shards")
            doing.result()
        finally:
            hub.stop()
        report.progress(found.total_bytes, found.total_bytes)
        return {"repo_id": repo_id, "shards": [asdict(shard) for shard in found.shards], "faults": [*found.faults]}


@contextmanager
def known(delivery: Delivery, out: Path) -> Iterator[Delivery]:
    """With what an earlier attempt, or an earlier run, has made and sent, where this one had yet to open its models."""
    stage = left_stage(out) if delivery.stage is None else None
    try:
        delivery.stage = delivery.stage or stage
        yield delivery
    finally:
        if stage:
            stage.journal.close()


@contextmanager
def left(steps: Iterator[Step]) -> Iterator[Iterator[Step]]:
    """Close the steps at once when their loop is left: closing is what cancels them."""
    try:
        yield steps
    finally:
        if isinstance(steps, Generator):
            steps.close()


def engine_options(settings: Settings) -> Options:
    return Options(settings.memory_bytes, settings.shard_bytes, settings.threads, settings.device)


def published(url: str, job: Job, note: str = "") -> Mapping[str, Any]:
    """The result of a job that has put something on the Hub."""
    return {"url": url, "repo_id": job.payload["repo_id"], "private": bool(job.payload["private"]), "note": note}


def tell_of_delivery(step: Progress, delivery: Delivery, report: Report) -> None:
    """Once it is published it is too late to stop. Where the app closes, what has been sent stays for the next run."""
    if step.note:
        report.log(step.note)
    try:
        if not delivery.url:
            report.progress(step.done_bytes, step.total_bytes, step.tensor)
    except Interrupted:
        delivery.stays = True
        raise


def copy_to_publish(asked: Mapping[str, Any], into: Path) -> Path:
    """The files of a merge, with the card and the recipe that are meant for others.

    Where the merge has been removed meanwhile, the copy of an earlier attempt has its files still.
    """
    if Path(asked["folder"]).is_dir() or not (into / REPORT).is_file():
        shutil.rmtree(into, ignore_errors=True)
        link_files(Path(asked["folder"]), into)
    put_text(into / CARD, asked["card"])
    put_text(into / RECIPE, json.loads((into / REPORT).read_text("utf-8"))["recipe"])
    return into


def link_files(folder: Path, into: Path) -> None:
    """The same files under another folder, at no cost of disk."""
    if not folder.is_dir():
        raise MergeError("The merge to publish has been deleted. Merge again, then publish.")
    into.mkdir(parents=True, mode=0o700)
    for file in (p for p in folder.rglob("*") if p.is_file()):
        link = into / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, link)


def put_text(file: Path, text: str) -> None:
    """Replace a file, not the content that it shares with the one it is linked to."""
    file.unlink(missing_ok=True)
    file.write_text(text, encoding="utf-8")
