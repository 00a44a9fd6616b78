"""Chat with one or several models: the same prompt, settings and seed to each, answers side by side."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from evaluation.loading import load_tokenizer
from evaluation.prompt import Message, make_prompt
from merging.errors import MergeError
from space.generate import Speaker, Voice, generate
from space.models import Loaded, Models
from space.priority import give_way
from space.reply import ChatOptions, Reply
from space.turns import Turns
from space.zero_gpu import Answers, Order

__all__ = ["ChatOptions", "Chats", "Pane", "Reply", "Stopped"]

log = logging.getLogger(__name__)

NO_MEMORY = (
    "There is not enough memory here for this answer, not even with the model alone and mostly on disk. Ask for fewer "
    "tokens, or begin a new conversation."
)
OUR_FAULT = "Something went wrong on our side while this model answered."
REFRESH_SECONDS = 1.0  # a closed page is noticed at the next refresh at the latest
PAUSE_SECONDS = 0.1  # between refreshes: each costs the server and the browser more than a token does


class Stopped(Exception):
    """Raised in a conversation whose listener has left."""


def alone(models: Sequence[Loaded]) -> Speaker:
    (one,) = models
    return Speaker(one.model, one.tokenizer)


# One that is in memory already, for as long as it is needed, for whoever has the turn. May raise MergeError.
Speaking = Callable[["Talk"], AbstractContextManager[Speaker]]


@dataclass(frozen=True, slots=True)
class Pane:
    """Who answers. `files` finds the folders of its models, fetching them where needed, and says how far it is; in
    doing so it may raise MergeError when this caller may not have them. `join` makes one speaker of the models.
    Where there is `speaking` it answers, and there are no files."""

    label: str
    files: Callable[[Callable[[str], None]], Sequence[Path]]
    join: Callable[[Sequence[Loaded]], Speaker] = alone
    speaking: Speaking | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A pane whose files are here, and what it was asked."""

    pane: Pane
    folders: Sequence[Path]
    messages: list[Message]


Parts = dict[Voice, Part]


class Talk:
    """One question to several panes: what the thread that answers it and the page that shows it share."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.changed = threading.Event()
        self.stop = threading.Event()
        self.over = threading.Event()
        self.voices = [Voice(label, self.changed.set) for label in labels]
        self.short: set[Voice] = set()  # those that ran out of memory, and will be heard once more

    def watch(self) -> Iterator[list[Reply]]:
        """The replies so far, until the last is done."""
        while True:
            self.changed.clear()
            over = self.over.is_set()
            yield [voice.reply() for voice in self.voices]
            if over:
                return
            self.changed.wait(REFRESH_SECONDS)
            self.stop.wait(PAUSE_SECONDS)

    def say(self, note: str) -> None:
        """Tell all panes that are not done what is going on; also the place where a left conversation ends."""
        self.check()
        for voice in self.voices:
            if not voice.done:
                voice.say(note)

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    @contextmanager
    def explained(self, voice: Voice) -> Iterator[None]:
        """An error of one pane is that pane's answer; the others go on."""
        try:
            yield
        except MergeError as e:
            voice.finish(str(e))
        except Stopped:
            voice.finish()
        except (MemoryError, torch.OutOfMemoryError):
            self.short.add(voice)
        except Exception:  # a bug of ours, or a broken model: never leave the page waiting
            log.exception("chat with %s failed", voice.label)
            voice.finish(OUR_FAULT)


class Chats:
    """Answers questions. Each has a thread of its own, so that neither loading nor cleaning up ever blocks the page;
    the accelerator is given to one question at a time."""

    def __init__(self, models: Models, gpu: Answers | None = None) -> None:
        self.models = models
        self.gpu = gpu  # where one is lent for each answer
        self.turns = Turns()

    def ask(
        self, panes: Sequence[Pane], conversations: Sequence[list[Message]], options: ChatOptions
    ) -> Iterator[list[Reply]]:
        """Every pane's reply so far to its own conversation, until all are done. Closing the iterator stops them."""
        talk = Talk([pane.label for pane in panes])
        answer = partial(self.answer, talk, panes, conversations, options)
        # In the context of the request: a GPU that is lent is lent to whoever asks.
        threading.Thread(target=copy_context().run, args=(answer,), name="chat", daemon=True).start()
        try:
            yield from talk.watch()
        finally:
            talk.stop.set()

    def together(self, panes: Sequence[Pane]) -> bool:
        """Whether all of these can be in memory at once. Their files should be here, or they are fetched now."""
        try:
            return self.models.fit([folder for pane in panes for folder in pane.files(lambda note: None)])
        except MergeError:  # whoever asks that pane is told
            return False

    def answer(
        self, talk: Talk, panes: Sequence[Pane], conversations: Sequence[list[Message]], options: ChatOptions
    ) -> None:
        give_way()
        error = ""
        try:
            parts = self.find(talk, panes, conversations)
            with self.turns.turn(lambda ahead: talk.say(waiting_note(ahead))):
                here = {v: part for v, part in parts.items() if self.gpu is None or part.pane.speaking}
                if self.gpu is not None:
                    self.answer_elsewhere(self.gpu, talk, without(parts, here), options)
                self.answer_within_memory(talk, here, options)
        except Stopped:
            pass
        except Exception:  # as above: whatever happens, the stream ends
            log.exception("chat failed")
            error = OUR_FAULT
        finally:
            for voice in talk.voices:
                voice.finish(error)
            talk.over.set()
            talk.changed.set()

    def find(self, talk: Talk, panes: Sequence[Pane], conversations: Sequence[list[Message]]) -> Parts:
        """The files of every pane that has them, before the accelerator is asked for."""
        parts = {}
        for voice, pane, messages in zip(talk.voices, panes, conversations, strict=True):
            with talk.explained(voice):
                parts[voice] = Part(pane, pane.files(self.teller(talk, voice)), messages)
        return parts

    def teller(self, talk: Talk, voice: Voice) -> Callable[[str], None]:
        def tell(note: str) -> None:
            talk.check()
            voice.say(note)

        return tell

    def groups(self, parts: Parts) -> list[Parts]:
        """All at once where memory allows, else one after the other."""
        if not parts or self.models.fit([folder for part in parts.values() for folder in part.folders]):
            return [parts]
        return one_by_one(parts)

    def answer_within_memory(self, talk: Talk, parts: Parts, options: ChatOptions) -> None:
        """All at once; who runs out of memory answers alone, then with most of the model on disk, then says so."""
        left = self.attempt(talk, self.groups(parts), options)
        if left:
            left = self.attempt(talk, one_by_one(left), options)
        if left:
            with self.models.tight():
                left = self.attempt(talk, one_by_one(left), options)
        for voice in left:
            voice.finish(NO_MEMORY)

    def answer_elsewhere(self, gpu: Answers, talk: Talk, parts: Parts, options: ChatOptions) -> None:
        """Have the answers written by a process that is lent a GPU. Leaving the loop gives it back."""
        orders: dict[Voice, Order] = {}
        for voice, part in parts.items():
            with talk.explained(voice):
                tokenizer = load_tokenizer(part.folders[0])
                prompt = make_prompt(tokenizer, part.messages, options.system)
                orders[voice] = Order(tuple(part.folders), prompt.ids, part.pane.join)
                voice.begin(tokenizer, prompt.note)
        if not orders:
            return
        try:
            with closing(gpu(list(orders.values()), options)) as answers:
                for heard in answers:
                    talk.check()
                    for voice, one in zip(orders, heard, strict=True):
                        voice.hear(one.ids, one.error, done=one.done)
        except Exception as error:
            if not (told := not_lent(error)):
                raise
            for voice in orders:
                voice.finish(told)

    def attempt(self, talk: Talk, groups: Sequence[Parts], options: ChatOptions) -> Parts:
        """The parts that ran out of memory; by then it is free again."""
        left: Parts = {}
        for group in groups:
            self.answer_together(talk, group, options)
            if short := {voice: part for voice, part in group.items() if voice in talk.short}:
                talk.short.clear()
                self.models.release()
                left |= short
        return left

    def answer_together(self, talk: Talk, parts: Parts, options: ChatOptions) -> None:
        with ExitStack() as held:
            speakers: dict[Voice, Speaker] = {}
            for voice, part in parts.items():
                with talk.explained(voice):
                    self.teller(talk, voice)("Merging" if part.pane.speaking else "Loading")
                    speakers[voice] = self.speaker(part, talk, held)
            if not speakers:
                return
            with ThreadPoolExecutor(len(speakers), "answer") as pool:
                for voice, speaker in speakers.items():
                    pool.submit(self.speak, talk, voice, speaker, parts[voice].messages, options)

    def speaker(self, part: Part, talk: Talk, held: ExitStack) -> Speaker:
        if part.pane.speaking is not None:
            return held.enter_context(part.pane.speaking(talk))
        return part.pane.join([held.enter_context(self.models.borrowed(folder)) for folder in part.folders])

    def speak(self, talk: Talk, voice: Voice, speaker: Speaker, messages: list[Message], options: ChatOptions) -> None:
        with talk.explained(voice):
            prompt = make_prompt(speaker.tokenizer, messages, options.system)
            voice.begin(speaker.tokenizer, ". ".join(note for note in (prompt.note, speaker.note) if note))
            generate(speaker, prompt, options, voice, talk.stop)
            voice.finish()


def not_lent(error: Exception) -> str:
    """What the platform says where it lends no GPU: who asks has used theirs up, or none is free. It raises Gradio's
    own error, whose message is meant to be shown; empty for any other."""
    if (type(error).__module__.partition(".")[0], type(error).__name__) != ("gradio", "Error"):
        return ""
    said = re.sub(r"<[^>]*>", "", str(getattr(error, "message", error))).strip().rstrip(".")
    return f"No GPU was lent for this answer: {said}. Sign in, ask for fewer tokens, or try again later."


def one_by_one(parts: Parts) -> list[Parts]:
    return [{voice: part} for voice, part in parts.items()]


def without(parts: Parts, others: Parts) -> Parts:
    return {voice: part for voice, part in parts.items() if voice not in others}


def waiting_note(ahead: int) -> str:
    return f"Waiting: {ahead} {'question is' if ahead == 1 else 'questions are'} ahead"
