"""Run a merge: read, compute and write in blocks, within a memory budget. The one way in, for command line and app."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from merging.checkpoint import Checkpoint
from merging.recipe import ModelRef, Recipe


@dataclass(frozen=True, slots=True)
class Options:
    """How to run, never what comes out: the bits do not depend on any of these but `shard_bytes` (file layout)."""

    memory_bytes: int = 1_000_000_000
    shard_bytes: int = 5_000_000_000
    threads: int | None = None  # None: all cores
    device: str = "auto"  # auto, cpu, cuda


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been done so far; yielded a few times a second at most."""

    done_bytes: int  # read and written
    total_bytes: int
    tensor: str
    tensors_done: int
    tensors: int
    shard: int  # 1-based
    shards: int


def merge(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], out: Path, options: Options | None = None,
    *, findings: tuple[object, ...] = (),
) -> Iterator[Progress]:  # fmt: skip
    """Merge into the folder `out`, which must not exist; it appears whole at the end, or not at all.

    Yields progress. Leaving the loop (closing the iterator) cancels the merge and removes what was staged. In the
    folder: shards and index, config, generation config and tokenizer files whole, README.md, merge_recipe.yaml,
    merge_report.json.
    """
    raise NotImplementedError
