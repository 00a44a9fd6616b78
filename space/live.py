"""Trying a merge that is not written anywhere: it is in memory, follows the lambdas, and answers.

One for each tab. The models are read once; for other lambdas the merge is made in place, in the very memory that the
transformers model computes with. Whatever merges or answers has the accelerator's one turn, so that no answer comes
from half of a merge.
"""

import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.body import Body, build_body, small_files
from evaluation.loading import free_memory
from evaluation.prompt import Message, make_prompt
from merging.checkpoint import Checkpoint
from merging.checks.cost import available_memory
from merging.device import Device, choose_device
from merging.errors import MergeError, NoMemory
from merging.held import Held, Loading, load, steps_of
from merging.live import LiveMerge, Superseded, need_of, need_of_gpu, plan_live, seconds_for, why_not_live
from merging.methods import METHODS
from merging.plan import Plan
from merging.recipe import ModelRef, Recipe, merged_inputs, parse_recipe, to_yaml
from space.chat import Chats, Stopped, Talk, waiting_note
from space.generate import Speaker, Voice, generate
from space.priority import give_way
from space.reply import ChatOptions, Reply
from space.settings import Settings
from space.tried import Tried, tried
from space.words import size
from space.zero_gpu import own_device

SETTLE_SECONDS = 0.06  # a slider is let go, or moves on
TELL_SECONDS = 0.1  # between two words on how far the reading is
NO_MEMORY = "There is not enough memory here for this. Ask for fewer tokens, or let another merge or model leave first."
ON_CPU = "Answered by the CPU: the GPU that is lent here cannot follow a slider"
GONE = "This merge is not in memory any more. Load it again under Try."

# The recipe and its models, open for as long as the context lasts; the argument raises when nobody waits any more.
Opening = Callable[[Callable[[], None]], AbstractContextManager[tuple[Recipe, Mapping[ModelRef, Checkpoint]]]]


@dataclass(frozen=True, slots=True)
class Fit:
    """What a merge in memory takes here."""

    memory_bytes: int
    disk_bytes: int = 0  # of the models, where they do not fit into memory
    seconds: float = 0.0  # that a move takes then, about


@dataclass(slots=True)
class Session:
    """A merge in memory. Touched only by who has the accelerator's turn, but for who uses it and what is wanted."""

    owner: str
    live: LiveMerge
    folders: Mapping[ModelRef, Path]  # tokenizer and other small files of each model
    scratch: Path
    nbytes: int
    recipe: Recipe  # as it was loaded
    device: str  # where the model answers
    note: str = ""  # to every answer
    body: Body | None = None
    made: str = ""  # the recipe whose merge the weights are; empty while they are none's
    seconds: float = 0.0  # that it took
    wanted: int = 0  # counts what is asked for: only the newest is worth making
    used: float = 0.0  # when it was last given back
    gone: bool = False  # leaves as soon as nobody uses it
    talks: list[Talk] = field(default_factory=list)  # that use it

    def make(self, recipe_yaml: str, stopped: Callable[[], bool]) -> None:
        """Have the merge of a recipe in the model. Raises Stopped, and MergeError where it cannot be made."""
        recipe = parse_recipe(recipe_yaml)
        if self.made == (text := to_yaml(recipe)):
            return
        plan = self.live.plan(recipe)
        self.made = ""
        if self.body is None or not self.body.fits(plan):
            self.body = None  # before there is another one
            folder, held = self.folders[plan.models[0]], self.live.held
            is_there = not isinstance(held.memory, np.ndarray)
            self.body = build_body(plan, held.checkpoints, folder, self.device, in_place=is_there)
        start = time.perf_counter()
        try:
            self.live.merge(recipe, plan, self.body.memory, stopped)
        except Superseded:
            raise Stopped from None
        self.body.settle()
        self.made, self.seconds = text, time.perf_counter() - start

    def answer(self, recipe_yaml: str, voice: Voice, messages: list[Message], options: ChatOptions, talk: Talk) -> None:
        """What the merge of a recipe answers."""
        self.make(recipe_yaml, lambda: self.gone or talk.stop.is_set())
        self.speak(voice, messages, options, talk.stop)

    def speak(self, voice: Voice, messages: list[Message], options: ChatOptions, stop: threading.Event) -> None:
        assert self.body is not None, "a merge was made"
        prompt = make_prompt(self.body.tokenizer, messages, options.system)
        voice.begin(self.body.tokenizer, ". ".join(note for note in (prompt.note, self.note) if note))
        generate(Speaker(self.body.model, self.body.tokenizer), prompt, options, voice, stop)
        voice.finish()

    def slim(self) -> None:
        """Let go of what can be had again, and compute in the machine's memory from now on."""
        was_there = not isinstance(self.live.held.memory, np.ndarray)
        self.live.forget()
        self.live.leave_gpu()
        if self.device != "cpu" or was_there:
            self.device, self.body, self.made = "cpu", None, ""

    def close(self) -> None:
        self.live.close()
        self.body = None
        shutil.rmtree(self.scratch, ignore_errors=True)


class LiveMerges:
    """The merges in memory, by tab. A person has one: the next one they load takes its place."""

    def __init__(
        self, settings: Settings, chats: Chats, scratch: Path, *, memory: Callable[[], int] = available_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.settings, self.chats, self.scratch = settings, chats, scratch
        self.memory, self.clock = memory, clock
        self.lock = threading.Lock()
        self.fitting = threading.Lock()  # between the look at the memory and the reservation
        self.sessions: dict[str, Session] = {}
        self.loads: dict[str, Talk] = {}  # tabs for which a merge is being loaded
        shutil.rmtree(scratch, ignore_errors=True)
        self.closing = threading.Event()
        self.timer = threading.Thread(target=self.watch, name="idle merges", daemon=True)
        self.timer.start()

    # -- what it takes --

    def fit(self, recipe: Recipe, plan: Plan, owner: str = "") -> Fit:
        """How this recipe can be tried here. Raises MergeError where it cannot, with what to do."""
        cores, room = self.settings.cores, self.room(owner)
        if reason := why_not_live(recipe, plan, cores):
            raise MergeError(reason)
        need = need_of(plan, cores)
        if need.total <= room:
            return Fit(need.total)
        is_slow = why_not_live(recipe, plan, cores, on_disk=True)
        if need.without_models > room or need.models > self.disk() or is_slow:
            raise MergeError(too_large(recipe, plan, need.total, room, self.settings.memory_bytes))
        seconds = seconds_for(METHODS[recipe.method], steps_of(plan), cores, on_disk=True)
        return Fit(need.without_models, need.models, seconds)

    def disk(self) -> int:
        """Bytes of the disk that models may lie on while they are tried."""
        return shutil.disk_usage(self.settings.home).free - self.settings.spare_disk_bytes

    def room(self, owner: str) -> int:
        """Bytes that one merge more may take, were the models to leave that nobody chats with, and the owner's other
        merge, whose place it takes. What is being loaded has its place already."""
        with self.lock:
            leaves = sum(one.nbytes for one in self.sessions.values() if one.owner == owner)
        free = self.memory() + leaves + self.chats.models.idle_bytes() - self.settings.spare_memory_bytes
        return max(0, min(free, self.settings.chat_memory_bytes - self.chats.models.reserved_bytes + leaves))

    # -- what a page does: each is watched, and stops when it is not any more --

    def load(self, tab: str, owner: str, opening: Opening) -> Iterator[list[Reply]]:
        """Read the models and make the first merge; says how far it is."""

        def work(talk: Talk) -> None:
            with self.loading(tab, talk):
                talk.say("Opening the models")
                with opening(talk.check) as (recipe, checkpoints):  # which may refuse them: what there is stays then
                    self.make_way(talk, owner)
                    session = self.read(talk, owner, recipe, checkpoints)
                self.begin(talk, tab, session, to_yaml(recipe))

        return self.stream(["Live"], work)

    def remerge(self, tab: str, owner: str, recipe_yaml: str) -> Iterator[list[Reply]]:
        """Make the merge of a changed recipe. Where the next change comes first, nothing is said at the end."""

        def work(talk: Talk) -> None:
            with self.borrowed(tab, owner, talk) as session:
                session.wanted = mine = session.wanted + 1

                def is_late() -> bool:
                    return session.wanted != mine or session.gone or talk.stop.is_set()

                if talk.stop.wait(SETTLE_SECONDS) or is_late():
                    return
                with self.turn(talk):
                    self.within_memory(session, partial(session.make, recipe_yaml, is_late))

        return self.stream(["Live"], work)

    def ask(
        self, tab: str, owner: str, recipes: Sequence[str], messages: list[Message], options: ChatOptions
    ) -> Iterator[list[Reply]]:
        """What the merge of each recipe answers to the same question, one after the other."""

        def work(talk: Talk) -> None:
            with self.borrowed(tab, owner, talk) as session, self.turn(talk):
                for voice, recipe in zip(talk.voices, recipes, strict=True):
                    with talk.explained(voice):
                        talk.check()
                        self.within_memory(session, partial(session.answer, recipe, voice, messages, options, talk))

        return self.stream([f"Merge {number}" for number in range(1, len(recipes) + 1)], work)

    def made(self, tab: str, owner: str) -> tuple[str, float] | None:
        """The recipe whose merge is in memory for a tab, and the seconds it took; None where there is none."""
        with self.lock:
            session = self.sessions.get(tab)
            mine = session is not None and session.owner == owner and not session.gone
            return (session.made, session.seconds) if session and mine else None

    # -- beside others: see `space.chat` --

    def tried(self, tab: str, owner: str) -> Tried | None:
        """The merge of a tab, as one of those that Chat asks; None where its owner has none there."""
        with self.lock:
            session = self.sessions.get(tab)
            if session is None or session.owner != owner or session.gone:
                return None
            recipe_yaml = session.made or to_yaml(session.recipe)
            return tried(tab, owner, session.recipe, session.live.held.checkpoints, recipe_yaml)

    @contextmanager
    def speaking(self, who: Tried, talk: Talk) -> Iterator[Speaker]:
        """The merge of a recipe, made first, for whoever has the turn. When it leaves memory it alone falls silent, and
        says why; the others go on."""
        use = Talk(())
        with self.borrowed(who.tab, who.owner, use) as session:

            def still_there(ids: Tensor, scores: Tensor) -> Tensor:
                if use.stop.is_set():
                    raise MergeError(GONE)
                return scores

            try:
                self.within_memory(
                    session, lambda: session.make(who.recipe, lambda: use.stop.is_set() or talk.stop.is_set())
                )
            except Stopped:
                raise MergeError(GONE) if use.stop.is_set() else Stopped from None
            assert session.body is not None, "a merge was made"
            yield Speaker(session.body.model, session.body.tokenizer, (still_there,), session.note)

    def stream(self, labels: Sequence[str], work: Callable[[Talk], None]) -> Iterator[list[Reply]]:
        """Do something in a thread of its own, and watch it. Closing the iterator stops it."""
        talk = Talk(labels)
        threading.Thread(target=run, args=(talk, work), name="live", daemon=True).start()
        try:
            yield from talk.watch()
        finally:
            talk.stop.set()

    def turn(self, talk: Talk) -> AbstractContextManager[None]:
        return self.chats.turns.turn(lambda ahead: talk.say(waiting_note(ahead)))

    def within_memory(self, session: Session, do: Callable[[], None]) -> None:
        """Do something with a merge; where the memory ran out, once more without all that can leave it."""
        try:
            do()
        except (MemoryError, torch.OutOfMemoryError, NoMemory):
            pass
        else:
            return
        session.slim()
        self.chats.models.release()
        free_memory()
        do()

    # -- loading --

    @contextmanager
    def loading(self, tab: str, talk: Talk) -> Iterator[None]:
        with self.lock:
            self.loads[tab] = talk
        try:
            yield
        finally:
            with self.lock:
                self.loads.pop(tab, None)

    def make_way(self, talk: Talk, owner: str) -> None:
        """Have the person's other merge leave first, which takes a moment where it is answering."""
        self.drop(lambda _, session: session.owner == owner)
        while any(session.owner == owner for session in list(self.sessions.values())):
            talk.check()
            talk.stop.wait(SETTLE_SECONDS)

    def read(self, talk: Talk, owner: str, recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Session:
        """The models in memory. Their bytes are reserved from here on, until the session leaves."""
        plan, scratch = plan_live(recipe, checkpoints), self.scratch / f"{id(talk):x}"
        with self.fitting:
            fit = self.fit(recipe, plan, owner)
            need = fit.memory_bytes
            self.chats.models.reserve(need)
        try:
            folders = small_files(plan, checkpoints, scratch)
            gpu = None if fit.disk_bytes else roomy_gpu(self.settings, plan)
            place, note = scratch if fit.disk_bytes else None, ON_CPU if self.settings.zero_gpu else ""

            def read(gpu: Device | None, device: str) -> Session:
                # First, as it may refuse the models, and costs nothing.
                body = build_body(plan, checkpoints, folders[plan.models[0]], device, in_place=gpu is not None)
                held = self.read_all(talk, load(plan, checkpoints, place, gpu))
                live = LiveMerge(held, self.settings.cores)
                return Session(owner, live, folders, scratch, need, recipe, device, note, body)

            here = [(None, device) for device in dict.fromkeys((own_device(self.settings), "cpu"))]
            for where in [(gpu, gpu.name), *here[:-1]] if gpu else here[:-1]:
                with suppress(torch.OutOfMemoryError, NoMemory):
                    return read(*where)
                free_memory()
            return read(*here[-1])
        except BaseException:
            self.chats.models.reserve(-need)
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    def read_all(self, talk: Talk, reading: Generator[Loading, None, Held]) -> Held:
        said = 0.0
        try:
            while True:
                at = next(reading)
                talk.check()
                if time.monotonic() - said >= TELL_SECONDS:
                    said = time.monotonic()
                    share = at.done / max(1, at.total)
                    talk.say(f"Reading the models: {share:.0%} of {size(at.total)}")
        except StopIteration as done:
            held: Held = done.value
            return held
        finally:
            reading.close()

    def begin(self, talk: Talk, tab: str, session: Session, recipe_yaml: str) -> None:
        """Make the first merge, and let the tab have it."""
        try:
            talk.say("Making the first merge")
            with self.turn(talk):
                self.within_memory(session, partial(session.make, recipe_yaml, talk.stop.is_set))
            session.used = self.clock()
            with self.lock:
                talk.check()  # the tab may have been closed meanwhile
                self.sessions[tab] = session
        except BaseException:
            self.leave(session)
            raise

    # -- who is in memory --

    @contextmanager
    def borrowed(self, tab: str, owner: str, talk: Talk) -> Iterator[Session]:
        """The merge of a tab, which stays in memory while it is held."""
        with self.lock:
            session = self.sessions.get(tab)
            if session is None or session.owner != owner or session.gone:
                raise MergeError(GONE)
            session.talks.append(talk)
        try:
            yield session
        finally:
            with self.lock:
                session.talks.remove(talk)
                session.used = self.clock()
            self.drop(lambda _, one: one.gone)

    def drop(self, which: Callable[[str, Session], bool]) -> None:
        """Let some merges go, those in use as soon as they are not."""
        with self.lock:
            for tab, session in self.sessions.items():
                if which(tab, session):
                    session.gone = True
                    for talk in session.talks:
                        talk.stop.set()
            gone = [tab for tab, session in self.sessions.items() if session.gone and not session.talks]
            left = [self.sessions.pop(tab) for tab in gone]
        for session in left:
            self.leave(session)

    def leave(self, session: Session) -> None:
        session.close()
        self.chats.models.reserve(-session.nbytes)
        free_memory()

    def close_tab(self, tab: str) -> None:
        """Nobody looks any more."""
        with self.lock:
            if (talk := self.loads.get(tab)) is not None:
                talk.stop.set()
        self.drop(lambda of, _: of == tab)

    def watch(self) -> None:
        while not self.closing.wait(min(30.0, self.settings.idle_seconds / 4)):
            self.drop_idle()

    def drop_idle(self) -> None:
        now, limit = self.clock(), self.settings.idle_seconds
        self.drop(lambda _, session: not session.talks and now - session.used >= limit)

    def close(self) -> None:
        self.closing.set()
        self.timer.join()
        with self.lock:
            for talk in self.loads.values():
                talk.stop.set()
        self.drop(lambda tab, session: True)


def roomy_gpu(settings: Settings, plan: Plan) -> Device | None:
    """The GPU that models and merge fit into, so that nothing is copied there at a move; None where there is none."""
    if own_device(settings) == "cpu":
        return None
    gpu = choose_device(settings.device)
    return gpu if gpu.name != "cpu" and torch.cuda.mem_get_info(gpu.name)[0] >= need_of_gpu(plan) else None


def run(talk: Talk, work: Callable[[Talk], None]) -> None:
    """What goes wrong is told once, by every voice that is not done; and whatever happens, the stream ends."""
    give_way()
    try:
        for_all = talk.voices[0]
        with talk.explained(for_all):
            work(talk)
    finally:
        for voice in talk.voices:
            voice.finish(NO_MEMORY if voice in talk.short else for_all.error)
        talk.over.set()
        talk.changed.set()


def too_large(recipe: Recipe, plan: Plan, need: int, room: int, merge: int) -> str:
    """What does not fit, and what would."""
    said = f"Trying it takes {size(need)} of memory, and {size(room)} can be had here."
    models = len(merged_inputs(recipe))
    each = need / (len(plan.models) + 1)
    fewer = next((n for n in range(models - 1, 0, -1) if need - (models - n) * each <= room), 0)
    way = f"Try it with {fewer} of the models, or merge it" if fewer else "Merge it"
    return f"{said} {way}: that needs {size(merge)} at most, however large the models are."
