"""ZeroGPU Spaces: a GPU is lent to one call at a time, in a process of its own, and billed by the second to who asks.

There the models of an answer are read in that process, on the GPU, and kept in it as long as it lives; this process
only sends token ids and hears token ids. Everywhere else the package `spaces` is not needed, nor imported.
"""

import importlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evaluation.loading import answering_device, weight_bytes
from evaluation.prompt import Prompt
from merging.errors import MergeError
from space.generate import Speaker, Voice, generate
from space.models import Loaded, kept_in_worker
from space.reply import ChatOptions
from space.settings import Settings

log = logging.getLogger(__name__)

READ_BYTES_A_SECOND = 1e9
TOKENS_A_SECOND = 15
SPARE_SECONDS = 5
MOST_SECONDS = 110  # what one call may ask for; a longer one waits longer for its turn, and costs the visitor more
REFRESH_SECONDS = 0.25
OUR_FAULT = "Something went wrong on our side while this model answered."

Join = Callable[[Sequence[Loaded]], Speaker]


@dataclass(frozen=True, slots=True)
class Order:
    """An answer to be given elsewhere: plain values that can be sent to another process."""

    folders: tuple[Path, ...]
    ids: Tensor  # (1, tokens)
    join: Join


@dataclass(frozen=True, slots=True)
class Heard:
    """How far an answer is."""

    ids: tuple[int, ...]
    error: str = ""
    done: bool = False


Answers = Callable[[Sequence[Order], ChatOptions], Generator[list[Heard]]]


def own_device(settings: Settings) -> str:
    """Where models compute that stay in this process: where a GPU is lent, `spaces` only pretends that one is here."""
    return "cpu" if settings.zero_gpu else answering_device()


def borrowed_gpu() -> Answers | None:
    """How answers are given on a ZeroGPU Space; None where the package is missing. To be called while the app starts:
    the platform looks then for the functions that will ask for a GPU."""
    if importlib.util.find_spec("spaces") is None:
        return None
    answers: Answers = importlib.import_module("spaces").GPU(duration=seconds)(answer_all)
    return answers


def seconds(orders: Sequence[Order], options: ChatOptions) -> int:
    """What to ask for: reading the models, then writing the answers, which are written at once."""
    read = sum(weight_bytes(folder) for folder in {folder for one in orders for folder in one.folders})
    write = options.max_new_tokens * max(len(one.folders) for one in orders) / TOKENS_A_SECOND
    return min(MOST_SECONDS, int(SPARE_SECONDS + read / READ_BYTES_A_SECOND + write))


def answer_all(orders: Sequence[Order], options: ChatOptions) -> Generator[list[Heard]]:
    """In the process that has the GPU: one answer after the other, told as they come."""
    heard = [Heard(()) for _ in orders]
    for place, order in enumerate(orders):
        for heard[place] in answer(order, options):
            yield list(heard)


def answer(order: Order, options: ChatOptions) -> Iterator[Heard]:
    changed, stop, voice = threading.Event(), threading.Event(), Voice("")
    voice.changed = changed.set
    thread = threading.Thread(target=speak, args=(order, options, voice, stop), daemon=True)
    thread.start()
    try:
        while not voice.done:
            changed.wait(REFRESH_SECONDS)
            changed.clear()
            yield Heard(tuple(voice.ids), voice.error, voice.done)
    finally:
        stop.set()
        thread.join()


def speak(order: Order, options: ChatOptions, voice: Voice, stop: threading.Event) -> None:
    try:
        speaker = order.join([kept_in_worker(folder) for folder in order.folders])
        voice.begin(speaker.tokenizer, "")
        generate(speaker, Prompt(order.ids), options, voice, stop)
        voice.finish()
    except MergeError as e:
        voice.finish(str(e))
    except (MemoryError, torch.OutOfMemoryError):
        voice.finish("The GPU that is lent here has not enough memory for this answer. Ask for fewer tokens.")
    except Exception:  # a bug of ours, or a broken model
        log.exception("an answer failed")
        voice.finish(OUR_FAULT)
