"""Makes what is scored: a folder's model as it lies, a merge in memory, or one on disk where that is too large."""

import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.body import Body, NotInPlace, build_body, small_files
from evaluation.cache import Cache
from evaluation.held_out import HeldOut
from evaluation.loading import answering_device, free_memory, load_model, quiet_transformers
from evaluation.marks import Marks
from evaluation.reader import Reader, Single, ensemble_of
from evaluation.scoring import Scoring, score
from evaluation.subject import ALONE, Subject, identity_of, model_alone
from merging.checkpoint import Checkpoint, Folder
from merging.checks.cost import available_memory
from merging.engine import Options, merge
from merging.held import load_at_once, steps_of
from merging.live import LiveMerge, need_of, plan_live, why_not_live
from merging.plan import Plan
from merging.recipe import ModelRef, Recipe

SHARE = 0.6  # of the memory that is free: for models and merges, unless one is told
BLOCKS = 1_000_000_000  # bytes of memory for a merge to disk


@dataclass(slots=True)
class Live:
    """Models in memory, and the merge of them that is made again in place."""

    merge: LiveMerge
    folders: Mapping[ModelRef, Path]  # small files of each model
    scratch: Path
    device: str
    body: Body | None = None

    def make(self, recipe: Recipe, plan: Plan) -> Body:
        if self.body is None or not self.body.fits(plan):
            self.body = None  # before there is another one
            folder = self.folders[plan.models[0]]
            self.body = build_body(plan, self.merge.held.checkpoints, folder, self.device)
        self.merge.merge(recipe, plan, self.body.memory)
        self.body.settle()
        return self.body

    def has(self, plan: Plan) -> bool:
        """Whether all that a merge reads is held."""
        keys = {
            (plan.models[i], name) for step in steps_of(plan) for i, name in zip(step.sources, step.names, strict=True)
        }
        return keys <= self.merge.held.places.keys()

    def close(self) -> None:
        self.merge.close()
        self.body = None
        shutil.rmtree(self.scratch, ignore_errors=True)


@dataclass(slots=True)
class Bench:
    """For one thread at a time. Close it at the end.

    `streaming` has every merge written to disk and read from there by transformers, where accelerate leaves on disk
    what does not fit into memory; else a merge is made in memory where it fits there, which is much quicker.
    """

    checkpoints: Mapping[ModelRef, Checkpoint]
    cache: Cache | None = None
    memory_bytes: int = field(default_factory=lambda: int(SHARE * available_memory()))
    threads: int | None = None
    streaming: bool = False
    scratch: Path | None = None  # where merges on disk go; by default where temporary files are
    device: str = field(default_factory=answering_device)  # where a merge in memory computes
    live: Live | None = None

    def marks(self, subject: Subject, held_out: HeldOut) -> Generator[Scoring, None, Marks]:
        """Kept ones where there are, else what scoring it gives; yields how far that is."""
        identity, examples = identity_of(subject, self.checkpoints), held_out.sha256
        if self.cache and (kept := self.cache.find(identity, examples)) is not None:
            return kept
        with self.reader(subject) as reader:
            found = yield from score(reader, held_out.examples, subject.label)
        if self.cache:
            self.cache.keep(identity, examples, found)
        return found

    @contextmanager
    def reader(self, subject: Subject) -> Iterator[Reader]:
        with self.ensemble(subject) if subject.kind == "ensemble" else self.single(subject) as found:
            yield found

    @contextmanager
    def single(self, subject: Subject) -> Iterator[Single]:
        """One transformers model, for as long as the context lasts."""
        quiet_transformers()
        if not self.is_best_read(subject) and (body := self.in_memory(subject.recipe)):
            yield Single(body.model, body.tokenizer)
        else:
            self.drop()
            with self.on_disk(subject, self.memory_bytes) as found:
                yield found

    def is_best_read(self, subject: Subject) -> bool:
        """Whether it is read from disk though it may fit into memory: asked for, or it lies there and not in memory."""
        if self.streaming or self.folder_of(subject) is None:
            return self.streaming
        return self.live is None or not self.live.has(plan_live(subject.recipe, self.checkpoints))

    @contextmanager
    def ensemble(self, subject: Subject) -> Iterator[Reader]:
        quiet_transformers()
        self.drop()
        each = self.memory_bytes // len(subject.members)
        weights = [float(one.parameters["weight"]) for one in subject.recipe.models]  # type: ignore[arg-type]
        with ExitStack() as opened:
            alone = [model_alone(model) for model in subject.members]
            yield ensemble_of([opened.enter_context(self.on_disk(one, each)) for one in alone], weights)

    def in_memory(self, recipe: Recipe) -> Body | None:
        """The merge, made in memory; None where that is too slow or too large, or its type cannot be computed with."""
        plan = plan_live(recipe, self.checkpoints)
        if self.live is None or not self.live.has(plan):
            self.drop()
            cores = Options(threads=self.threads).cores
            if why_not_live(recipe, plan, cores) or need_of(plan, cores).total > self.memory_bytes:
                return None
            self.live = self.held(plan, cores)
        try:
            return self.live.make(recipe, self.live.merge.plan(recipe))
        except NotInPlace:
            return None
        except BaseException:
            self.drop()
            raise

    def held(self, plan: Plan, cores: int) -> Live:
        held = load_at_once(plan, self.checkpoints)
        at = Path(tempfile.mkdtemp(prefix="alloy-live-"))
        return Live(LiveMerge(held, cores), small_files(plan, self.checkpoints, at / "files"), at, self.device)

    @contextmanager
    def on_disk(self, subject: Subject, memory_bytes: int) -> Iterator[Single]:
        """Where it lies, if it is a model in a folder; else merged there first, and removed again."""
        with tempfile.TemporaryDirectory(prefix="alloy-", dir=self.scratch) as scratch:
            folder = self.folder_of(subject) or self.written(subject.recipe, Path(scratch) / "merge")
            model, tokenizer = load_model(folder, memory_bytes, Path(scratch) / "offloaded")
            model.eval()
            try:
                yield Single(model, tokenizer)
            finally:
                del model
                free_memory()

    def folder_of(self, subject: Subject) -> Path | None:
        """The folder of a model that is taken as it is."""
        source = self.checkpoints[subject.models[0]].source
        as_it_is = subject.recipe.method == ALONE and not subject.recipe.slices and not subject.recipe.parameters
        plain = as_it_is and subject.recipe.dtype is subject.recipe.out_dtype is None
        is_model = plain and not subject.recipe.models[0].parameters
        return source.path if is_model and isinstance(source, Folder) else None

    def written(self, recipe: Recipe, out: Path) -> Path:
        for _ in merge(recipe, self.checkpoints, out, Options(BLOCKS, threads=self.threads)):
            pass
        return out

    def drop(self) -> None:
        if self.live is not None:
            self.live.close()
            self.live = None
            free_memory()

    def close(self) -> None:
        self.drop()
