"""Parents that are chatted with: fetched from the Hub for one caller, kept where only those who may read them look.

No cache of huggingface_hub is used: it would give one visitor's private files to another, unasked.
"""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path

from merging.checkpoint import INDEX, Source, find_shards
from merging.errors import MergeError
from merging.reading import AHEAD, Range
from merging.recipe import ModelRef
from space.settings import Settings
from space.viewer import HubFor, Viewer

BLOCK_BYTES = 8_000_000
PUBLIC_SECONDS = 300  # the Hub counts how often it is asked
RECENT_SECONDS = 600  # found for a chat that may not have loaded it yet

# Everything chat needs besides the weights. Code and pickles of the repo are not fetched, so they cannot be run.
KEPT = {
    INDEX, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
    "chat_template.jinja", "chat_template.json",
}  # fmt: skip


class Parents:
    """Folders of fetched models under `home`: one for what everybody may read, one for each owner's own."""

    def __init__(self, settings: Settings, hub_for: HubFor, in_use: Callable[[], Collection[Path]]) -> None:
        self.root = settings.home / "models"
        self.folders = settings.folders
        self.limit_bytes = settings.models_bytes
        self.spare_bytes = settings.spare_disk_bytes
        self.hub_for = hub_for
        self.in_use = in_use  # folders that must stay
        self.guard = threading.Lock()
        self.locks: dict[Path, threading.Lock] = {}
        self.public: dict[
            ModelRef, tuple[Path, float]
        ] = {}  # where it lies, and when an anonymous caller could read it
        self.root.mkdir(exist_ok=True, mode=0o700)
        for folder in self.root.iterdir():
            if folder.name != "public":  # private ones do not outlive the app, nor halves of fetches
                shutil.rmtree(folder, ignore_errors=True)

    def folder(self, ref: ModelRef, viewer: Viewer, tell: Callable[[str], None]) -> Path:
        """The model's files, fetched when they are not here. Whether this caller may read them is asked each time."""
        if self.folders and Path(ref.path).is_dir():
            return Path(ref.path)
        if (known := self.public.get(ref)) and known[0].exists() and time.monotonic() - known[1] < PUBLIC_SECONDS:
            return known[0]
        source, group = self.opened(ref, viewer)
        with closing(source):
            folder = self.root / group / f"{source.repo_id}@{source.revision}".replace("/", "--")
            with self.guard:
                lock = self.locks.setdefault(folder, threading.Lock())
            with lock:
                if not folder.exists():
                    self.fetch(source, folder, tell)
                folder.touch()
        if group == "public":
            self.public[ref] = folder, time.monotonic()
        return folder

    def opened(self, ref: ModelRef, viewer: Viewer) -> tuple[Source, str]:
        """What an anonymous caller can read is public; the rest is kept apart for each owner."""
        try:
            return self.hub_for(False).open(ref), "public"
        except MergeError:
            if viewer.token is False:
                raise
        return self.hub_for(viewer.token).open(ref), hashlib.sha256(viewer.owner.encode()).hexdigest()[:24]

    def fetch(self, source: Source, folder: Path, tell: Callable[[str], None]) -> None:
        """Appears whole under its name or not at all; what was fetched is removed when `tell` raises."""
        files = needed_files(source)
        self.make_room(sum(files.values()))
        staging = self.root / f"half-{folder.name}-{threading.get_ident()}"
        staging.mkdir(mode=0o700)
        try:
            for done, total in copied(source, files, staging):
                tell(f"Fetching {source.repo_id}: {done / max(total, 1):.0%} of {total / 1e9:.2g} GB")
            folder.parent.mkdir(exist_ok=True, mode=0o700)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def make_room(self, nbytes: int) -> None:
        """Remove the models that were not asked for longest, within the limit and what the disk has."""
        if nbytes > self.limit_bytes:
            raise MergeError(f"The model is {nbytes / 1e9:.3g} GB; models of up to {self.limit_bytes / 1e9:.3g} GB are "
                             "fetched for chat here.")  # fmt: skip
        kept = sorted(self.root.glob("*/*@*"), key=lambda folder: folder.stat().st_mtime)
        used = sum(map(folder_bytes, kept))
        busy, recent = set(self.in_use()), time.time() - RECENT_SECONDS
        for folder in (f for f in kept if f not in busy and f.stat().st_mtime < recent):
            if used + nbytes <= self.limit_bytes and self.free() > nbytes:
                return
            used -= folder_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
        if used + nbytes > self.limit_bytes or self.free() <= nbytes:
            raise MergeError(
                f"There is no room on disk for {nbytes / 1e9:.3g} GB to chat with this model. Try again later."
            )

    def free(self) -> int:
        """What may be taken of the disk."""
        return shutil.disk_usage(self.root).free - self.spare_bytes


def needed_files(source: Source) -> dict[str, int]:
    sizes = source.sizes()
    return {file: sizes[file] for file in [*sorted(KEPT & sizes.keys()), *find_shards(source)]}


def copied(source: Source, files: dict[str, int], into: Path) -> Iterator[tuple[int, int]]:
    """Write the files of a model to a folder; yields bytes done and in all. Raises where one arrived broken."""
    done, total = 0, sum(files.values())
    source.expect([Range(file, 0, size) for file, size in files.items()], AHEAD)
    for file, size in files.items():
        with (into / file).open("wb") as out:
            for start in range(0, size, BLOCK_BYTES):
                yield done, total
                done += out.write(source.read(file, start, min(start + BLOCK_BYTES, size)))
    source.verified()


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
