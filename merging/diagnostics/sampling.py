"""Which entries of a model a sample has, and models made of these alone. The same entries every time."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from merging.blocks import Stretch
from merging.budget import row_of
from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import DTYPE_BITS, TensorInfo
from merging.held import Memory, is_finite
from merging.methods.arrays import Bytes, bytes_of
from merging.methods.spec import Shape
from merging.plan import Step
from merging.reading import Range, cut

SAMPLE_BYTES = 64_000_000  # read of each model, at most
LEAST = 4096  # entries of a tensor, as far as all of these fit into half of the sample
PIECES = 8  # stretches of a tensor, spread evenly over it
SHORTEST = 65_536  # entries of a stretch, where a tensor has more than one
AHEAD = 2 * 2**20  # bytes that a model on the Hub may hold of what comes next; with so little no gaps are fetched


@dataclass(frozen=True, slots=True)
class Sample:
    """Some entries of a tensor: where they lie, and the shape of the tensor that they make."""

    stretches: tuple[Stretch, ...]
    shape: Shape

    @property
    def count(self) -> int:
        return sum(end - begin for begin, end in self.stretches)


def choose_entries(shape: Shape, wanted: int) -> Sample:
    """At most so many entries, in up to 8 stretches that begin at equal distances; whole rows where one fits."""
    numel, row = math.prod(shape), row_of(shape)
    if wanted >= numel:
        return Sample(((0, numel),), shape)
    unit = row if len(shape) > 1 and row <= wanted else 1
    units, of = max(1, wanted // unit), numel // unit
    pieces = max(1, min(PIECES, units, wanted // SHORTEST))
    ends = [units * (i + 1) // pieces for i in range(pieces)]  # in the sample
    gaps = [(of - units) * (2 * i + 1) // (2 * pieces) for i in range(pieces)]  # left out before each stretch
    stretches = tuple((a + g, b + g) for a, b, g in zip([0, *ends], ends, gaps, strict=False))
    return Sample(tuple((a * unit, b * unit) for a, b in stretches), (units, row) if unit > 1 else (units,))


def share_out(steps: Sequence[Step], sample_bytes: int) -> list[Sample]:
    """A sample of each tensor: small ones whole, the others by their size, so that no model gives more bytes."""
    room, models = sample_bytes, {source for step in steps for source in step.sources}
    while True:
        samples = samples_in(steps, room)
        if room < LEAST or max(fetched(steps, samples, model) for model in models) <= sample_bytes:
            return samples
        room = room * 9 // 10


def fetched(steps: Sequence[Step], samples: Sequence[Sample], source: int) -> int:
    """The bytes that requests for a sample fetch of a model: those between stretches that nearly touch come along."""
    return sum(stretch.nbytes for stretch in cut(ranges_of(steps, samples, source), AHEAD))


def samples_in(steps: Sequence[Step], room_bytes: int) -> list[Sample]:
    width = max((DTYPE_BITS[i.dtype] // 8 for step in steps for i in step.inputs), default=1)
    room = room_bytes // width
    least = min(LEAST, room // (2 * max(1, len(steps))))
    wanted = [min(step.numel, least) for step in steps]
    rest, beyond = room - sum(wanted), sum(step.numel - w for step, w in zip(steps, wanted, strict=True))
    by = min(1.0, rest / beyond) if beyond else 0.0
    return [choose_entries(s.shape, w + int(by * (s.numel - w))) for s, w in zip(steps, wanted, strict=True)]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Tensors that have the entries of a sample alone, and the models that hold them in memory."""

    steps: tuple[Step, ...]
    checkpoints: tuple[Checkpoint, ...]


def gather(
    steps: Sequence[Step], samples: Sequence[Sample], checkpoints: Sequence[Checkpoint]
) -> Generator[tuple[int, str], None, Gathered]:
    """Read the samples; yields the bytes read so far and the tensor. Raises MergeError where numbers are not finite."""
    expect(steps, samples, checkpoints)
    kept: list[dict[str, TensorInfo]] = [{} for _ in checkpoints]
    raw: list[dict[str, Bytes]] = [{} for _ in checkpoints]
    small, ends = [], [0] * len(checkpoints)
    for step, sample in zip(steps, samples, strict=True):
        inputs = []
        for source, name, info in zip(step.sources, step.names, step.inputs, strict=True):
            data = read_sample(checkpoints[source], info, name, sample)
            at, ends[source] = ends[source], ends[source] + len(data)
            inputs.append(replace(info, shape=sample.shape, file="sample", start=at, end=ends[source]))
            kept[source][name], raw[source][name] = inputs[-1], data
        small.append(replace(step, shape=sample.shape, inputs=tuple(inputs)))
        yield sum(ends), step.name
    held = [
        replace(c, source=Memory.of(c.source, k, r), tensors=k)
        for c, k, r in zip(checkpoints, kept, raw, strict=True)
    ]  # fmt: skip
    return Gathered(tuple(small), tuple(held))


def expect(steps: Sequence[Step], samples: Sequence[Sample], checkpoints: Sequence[Checkpoint]) -> None:
    """Tell the models what will be read of them, so that those on the Hub are asked ahead."""
    for i, checkpoint in enumerate(checkpoints):
        if checkpoint.source.repo_id:
            checkpoint.source.expect(ranges_of(steps, samples, i), AHEAD)


def ranges_of(steps: Sequence[Step], samples: Sequence[Sample], source: int) -> list[Range]:
    return [
        Range(info.file, start, end)
        for step, sample in zip(steps, samples, strict=True)
        for i, info in zip(step.sources, step.inputs, strict=True) if i == source
        for start, end in bytes_in_file(info, sample)
    ]  # fmt: skip


def bytes_in_file(info: TensorInfo, sample: Sample) -> list[tuple[int, int]]:
    width = DTYPE_BITS[info.dtype] // 8
    return [(info.start + begin * width, info.start + end * width) for begin, end in sample.stretches]


def read_sample(checkpoint: Checkpoint, info: TensorInfo, name: str, sample: Sample) -> Bytes:
    width = DTYPE_BITS[info.dtype] // 8
    data, at = np.empty(sample.count * width, np.uint8), 0
    for begin, end in sample.stretches:
        part = data[at : at + (end - begin) * width]
        if len(part):
            checkpoint.read(info, begin * width, bytes_of(part))
        at += len(part)
    if not is_finite(data, info.dtype):
        raise MergeError(
            f"{name!r} of {checkpoint.label} has numbers that are NaN or infinite, in what was sampled. A merge with "
            "it would be broken: choose another model or revision."
        )
    return data
