"""Chat with one or several models: the same prompt, settings and seed to each, answers side by side."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from merging.errors import MergeError
from space.generate import Voice, generate
from space.models import Loaded, Models
from space.prompt import Message, make_prompt
from space.reply import ChatOptions, Reply
from space.turns import Turns

__all__ = ["ChatOptions", "Chats", "Pane", "Reply", "Stopped"]

log = logging.getLogger(__name__)

OUR_FAULT = "Something went wrong on our side while this model answered."
REFRESH_SECONDS = 0.25  # a closed page is noticed at the next refresh at the latest
PAUSE_SECONDS = 0.04  # between refreshes: eyes need no more


class Stopped(Exception):
    """Raised in a conversation whose listener has left."""


@dataclass(frozen=True, slots=True)
class Pane:
    """A model to chat with. `files` finds its folder, fetching it where needed, and says how far it is; in doing so it
    may raise MergeError when this caller may not have it."""

    label: str
    files: Callable[[Callable[[str], None]], Path]


class Talk:
    """One question to several panes: what the thread that answers it and the page that shows it share."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.changed = threading.Event()
        self.stop = threading.Event()
        self.over = threading.Event()
        self.voices = [Voice(label, self.changed.set) for label in labels]

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
        except Exception:  # a bug of ours, or a broken model: never leave the page waiting
            log.exception("chat with %s failed", voice.label)
            voice.finish(OUR_FAULT)


class Chats:
    """Answers questions. Each has a thread of its own, so that neither loading nor cleaning up ever blocks the page;
    the accelerator is given to one question at a time."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.turns = Turns()

    def ask(
        self, panes: Sequence[Pane], conversations: Sequence[list[Message]], options: ChatOptions
    ) -> Iterator[list[Reply]]:
        """Every pane's reply so far to its own conversation, until all are done. Closing the iterator stops them."""
        talk = Talk([pane.label for pane in panes])
        threading.Thread(
            target=self.answer, args=(talk, panes, conversations, options), name="chat", daemon=True
        ).start()
        try:
            yield from talk.watch()
        finally:
            talk.stop.set()

    def answer(
        self, talk: Talk, panes: Sequence[Pane], conversations: Sequence[list[Message]], options: ChatOptions
    ) -> None:
        error = ""
        try:
            asked = dict(zip(talk.voices, conversations, strict=True))
            folders = self.find(talk, panes)
            with self.turns.turn(lambda ahead: talk.say(waiting_note(ahead))):
                for group in self.groups(folders):
                    self.answer_together(talk, group, asked, options)
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

    def find(self, talk: Talk, panes: Sequence[Pane]) -> dict[Voice, Path]:
        """The files of every pane that has them, before the accelerator is asked for."""
        folders = {}
        for voice, pane in zip(talk.voices, panes, strict=True):
            with talk.explained(voice):
                folders[voice] = pane.files(self.teller(talk, voice))
        return folders

    def teller(self, talk: Talk, voice: Voice) -> Callable[[str], None]:
        def tell(note: str) -> None:
            talk.check()
            voice.say(note)

        return tell

    def groups(self, folders: dict[Voice, Path]) -> list[dict[Voice, Path]]:
        """All at once where memory allows, else one after the other."""
        if not folders or self.models.fit(list(folders.values())):
            return [folders]
        return [{voice: folder} for voice, folder in folders.items()]

    def answer_together(
        self, talk: Talk, folders: dict[Voice, Path], asked: dict[Voice, list[Message]], options: ChatOptions
    ) -> None:
        with ExitStack() as held:
            loaded: dict[Voice, Loaded] = {}
            for voice, folder in folders.items():
                with talk.explained(voice):
                    self.teller(talk, voice)("Loading")
                    loaded[voice] = held.enter_context(self.models.borrowed(folder))
            if not loaded:
                return
            with ThreadPoolExecutor(len(loaded), "answer") as pool:
                for voice, one in loaded.items():
                    pool.submit(self.speak, talk, voice, one, asked[voice], options)

    def speak(self, talk: Talk, voice: Voice, loaded: Loaded, messages: list[Message], options: ChatOptions) -> None:
        with talk.explained(voice):
            prompt = make_prompt(loaded.tokenizer, messages, options.system)
            voice.begin(loaded.tokenizer, prompt.note)
            generate(loaded.model, loaded.tokenizer, prompt, options, voice, talk.stop)
            voice.finish()


def waiting_note(ahead: int) -> str:
    return f"Waiting: {ahead} {'question is' if ahead == 1 else 'questions are'} ahead"
