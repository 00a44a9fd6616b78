"""A finished merge becomes one new repo: checked, sent shard by shard, made visible by one commit."""

from collections.abc import Generator
from concurrent.futures import Future, wait
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from merging.delivery import delivering
from merging.errors import MergeError
from merging.hub.delivery import Delivery
from merging.journal import Journal
from merging.progress import WORD, Progress
from merging.report import CARD
from merging.staging import Stage, sha256_of


def publish(delivery: Delivery, folder: Path, journal: Path) -> Generator[Progress, None, None]:
    """Send the files of a folder, and show them. Yields progress; the delivery knows the address then.

    A repo that exists is refused. The repo is made when all that can be checked without it has been. What was made and
    sent is written into the journal: after an error that passes (Kept), or a kill, the same again goes on from there.
    After any other error, or when the caller leaves, the repo is deleted again if this publication made it and nobody
    has put anything in it since; where that is not allowed, the error says what is left. Nothing else is ever deleted.
    """
    files = list_files(folder)
    with closing(Journal(journal)) as book, delivering(delivery):
        yield from send(delivery, Stage(folder, folder, book), files)
        book.remove()


def send(delivery: Delivery, stage: Stage, files: dict[str, int]) -> Generator[Progress, None, None]:
    shards, total = [file for file in files if file.endswith(".safetensors")], sum(files.values())

    def progress(file: str, done: int) -> Progress:
        return Progress(delivery.sent_bytes, total, file, done, len(shards), min(done + 1, len(shards)), len(shards))

    def until(work: "Future[Any]", file: str, done: int) -> Generator[Progress, None, None]:
        yield progress(file, done)
        while not wait([work], timeout=WORD).done:
            yield progress(file, done)
        work.result()

    card = (stage.folder / CARD).read_text("utf-8")
    yield from until(delivery.begin(stage, card), "the model card", 0)
    known = {(e["file"], e["bytes"]): e["sha256"] for e in stage.journal.of_kind("sent")}
    for done, file in enumerate(shards):
        if (sha256 := known.get((file, files[file]))) is None:
            summing = delivery.do(partial(sha256_of, stage.folder / file))
            yield from until(summing, file, done)
            sha256 = summing.result()
        stage.complete[file] = sha256
        yield from until(delivery.take(file, stage.complete[file]), file, done)
    small = {name: stage.folder / name for name in files if name not in stage.complete}
    yield from until(delivery.finish(small), "the other files", len(shards))
    yield Progress(total, total, "", len(shards), len(shards), len(shards), len(shards))


def list_files(folder: Path) -> dict[str, int]:
    """What is published: every file of the folder but hidden ones, by path, with its size."""
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    shown = {name: p.stat().st_size for name, p in files.items() if not any(x.startswith(".") for x in name.split("/"))}
    if CARD not in shown or not any(name.endswith(".safetensors") for name in shown):
        raise MergeError(f"{folder} is not a finished merge: it has no {CARD} or no weights. Merge first.")
    return shown
