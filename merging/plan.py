"""Decide what a merge will write and what it will cost. Pure: looks at headers and a recipe, touches no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merging.checkpoint import Checkpoint
from merging.header import TensorInfo
from merging.recipe import ModelRef, Recipe


@dataclass(frozen=True, slots=True)
class Step:
    """One output tensor: where it goes, and what it is made of."""

    name: str
    dtype: str  # safetensors name of the output type
    shape: tuple[int, ...]
    start: int  # absolute byte offsets in the shard file
    end: int
    inputs: tuple[TensorInfo, ...]  # one for each of Plan.models, in that order


@dataclass(frozen=True, slots=True)
class Shard:
    """One output file: an independent unit of work, its header known before any tensor is computed."""

    file: str
    header: bytes
    steps: tuple[Step, ...]
    nbytes: int  # of the whole file


@dataclass(frozen=True, slots=True)
class Plan:
    """Immutable and serialisable: it serves the preview, the progress bar, the writer and the resume."""

    models: tuple[ModelRef, ...]  # base first when there is one
    shards: tuple[Shard, ...]
    read_bytes: int  # what the run reads, measures included
    write_bytes: int
    peak_memory_bytes: int  # what the run may hold at once, given its budget
    disk_bytes: int  # free space that the output needs


def make_plan(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], *, shard_bytes: int, memory_bytes: int, threads: int
) -> Plan:
    """Raise MergeError where names or shapes differ, naming the models, the tensor and both values."""
    raise NotImplementedError


def to_json(plan: Plan) -> str:
    raise NotImplementedError


def from_json(text: str) -> Plan:
    raise NotImplementedError


def estimate_seconds(plan: Plan, *, bytes_per_second: float) -> float:
    return (plan.read_bytes + plan.write_bytes) / bytes_per_second


__all__: Sequence[str] = ["Plan", "Shard", "Step", "estimate_seconds", "from_json", "make_plan", "to_json"]
