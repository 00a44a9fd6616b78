"""The models in memory: loaded when asked for, shared, gone when idle or when the room is needed."""

import functools
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_submodules

from evaluation.loading import ROOMY, free_memory, load_model, quiet_transformers, weight_bytes
from space.settings import machine_memory

Load = Callable[[Path, int, Path, float], tuple[Any, Any]]
TIGHT = 0.3  # share of the memory that weights may take where they leave most of it alone


@dataclass(slots=True)
class Loaded:
    """A model in memory, and who uses it."""

    model: Any
    tokenizer: Any
    nbytes: int
    users: int = 0
    used: float = 0.0  # when it was last given back
    scratch: Path = Path()  # its own; removed with it


class Models:
    """Keyed by the folder a model was read from. Loading is for one thread at a time (see `Turns`)."""

    def __init__(
        self, budget_bytes: int, idle_seconds: float, scratch: Path, *, load: Load | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        quiet_transformers()
        self.budget_bytes = budget_bytes
        self.idle_seconds = idle_seconds
        self.scratch = scratch  # for weights that have to be rewritten to be offloaded
        self.load = load or load_model
        self.clock = clock
        shutil.rmtree(scratch, ignore_errors=True)
        self.share = ROOMY
        self.kept: dict[Path, Loaded] = {}
        self.reserved_bytes = 0  # of the budget, for what is not loaded here: merges in memory
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.timer = threading.Thread(target=self.watch, name="idle models", daemon=True)
        self.timer.start()

    @contextmanager
    def borrowed(self, folder: Path) -> Iterator[Loaded]:
        """The model of a folder, which stays in memory while it is held."""
        loaded = self.hold(folder)
        try:
            yield loaded
        finally:
            with self.lock:
                loaded.users -= 1
                loaded.used = self.clock()

    def hold(self, folder: Path) -> Loaded:
        with self.lock:
            if (loaded := self.kept.get(folder)) is not None:
                loaded.users += 1
                return loaded
        size = weight_bytes(folder)
        self.make_room(size)
        scratch = self.scratch / secrets.token_hex(8)
        try:
            model, tokenizer = self.load(folder, self.left(), scratch, self.share)
        except (MemoryError, torch.OutOfMemoryError):
            shutil.rmtree(scratch, ignore_errors=True)
            free_memory()
            raise
        with self.lock:
            self.kept[folder] = Loaded(model, tokenizer, size, users=1, scratch=scratch)
            return self.kept[folder]

    def left(self) -> int:
        """Bytes of the budget that no model has; what does not go in there stays on disk."""
        with self.lock:
            free = self.budget_bytes - self.reserved_bytes - sum(one.nbytes for one in self.kept.values())
        return max(free, 0) if self.share == ROOMY else int(max(free, 0) * self.share)

    @contextmanager
    def tight(self) -> Iterator[None]:
        """Models that are loaded now leave most of the memory alone."""
        self.release()
        self.share = TIGHT
        try:
            yield
        finally:
            self.share = ROOMY
            self.release()

    def fit(self, folders: Sequence[Path]) -> bool:
        """Whether all of these can be in memory at once."""
        return sum(weight_bytes(folder) for folder in set(folders)) <= self.budget_bytes - self.reserved_bytes

    def reserve(self, nbytes: int) -> None:
        """Take so many bytes of the budget, or give them back where that is less than nothing."""
        with self.lock:
            self.reserved_bytes += nbytes
        if nbytes > 0:
            self.make_room(0)

    def idle_bytes(self) -> int:
        """What would leave memory if the room were needed."""
        with self.lock:
            return sum(one.nbytes for one in self.kept.values() if one.users == 0)

    def make_room(self, nbytes: int) -> None:
        """Let the models go that were not used for longest, as many as needed."""
        with self.lock:
            free = self.budget_bytes - self.reserved_bytes - sum(one.nbytes for one in self.kept.values())
            gone = []
            for folder, one in sorted(self.kept.items(), key=lambda item: item[1].used):
                if free >= nbytes:
                    break
                if one.users == 0:
                    gone.append(folder)
                    free += one.nbytes
        self.drop(gone)

    def release(self, folder: Path | None = None) -> bool:
        """Let a model go, or all of them, unless it is in use; whether it has gone."""
        with self.lock:
            gone = [f for f, one in self.kept.items() if one.users == 0 and folder in (None, f)]
        self.drop(gone)
        with self.lock:
            return folder not in self.kept

    def drop(self, folders: Sequence[Path]) -> None:
        with self.lock:
            gone = [self.kept.pop(f) for f in folders if f in self.kept and self.kept[f].users == 0]
        if gone:
            for one in gone:
                remove_hook_from_submodules(one.model)  # hooks keep weights alive
                one.model = one.tokenizer = None
                shutil.rmtree(one.scratch, ignore_errors=True)
            free_memory()

    def watch(self) -> None:
        while not self.closing.wait(min(30.0, self.idle_seconds / 4)):
            self.drop_idle()

    def drop_idle(self) -> None:
        now = self.clock()
        with self.lock:
            gone = [f for f, one in self.kept.items() if one.users == 0 and now - one.used >= self.idle_seconds]
        self.drop(gone)

    def close(self) -> None:
        self.closing.set()
        self.timer.join()
        self.release()


@functools.lru_cache(maxsize=3)
def kept_in_worker(folder: Path) -> Loaded:
    """A model in a process that is lent a GPU: the process goes with the loan, and the models with it."""
    return Loaded(*load_model(folder, machine_memory() // 2, folder / "unused"), weight_bytes(folder))
