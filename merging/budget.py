"""How large the blocks of a merge are and how many are in memory at once, for a given budget. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merging.errors import MergeError
from merging.header import DTYPE_BITS, TensorInfo
from merging.methods.matrices import PANEL, SQUARES, STRETCHES
from merging.methods.spec import Granularity, Shape
from merging.reading import share

# Reductions add up grains of this many elements, each computed alone, so that their bits do not depend on the size of
# the blocks. Kernels run on a grain at a time as well: small enough for the caches, large enough that threads seldom
# wait for each other to hand on Python's lock.
GRAIN = 131_072
GRAINS = 16  # in a block, at most
GPU_GRAINS = 64  # a GPU computes a block at once, and only a large one keeps it busy
IN_FLIGHT = 2  # blocks per worker: one computed, one waiting, so that no worker waits for the next
PROCESS_BYTES = 300_000_000  # Python, numpy and Numba themselves
ALIGNED = 64  # elements: where the next input begins in a set
SPARE = 64  # bytes before it, by which it may be moved
COUNT_BYTES = 4 * 8 * 65_536  # what a measure may keep of a block for one model: two counts, and their totals


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory, divided. A set is the space for one block of every input."""

    elements: int  # of each input in a set
    set_bytes: int
    sets: int
    workers: int
    scratch_bytes: int  # of one worker
    ahead_bytes: int  # of what is fetched from the Hub before it is read, for all models together
    peak_bytes: int  # of the whole process
    in_flight: int = IN_FLIGHT
    gpu: bool = False

    def grain(self, shape: Shape, granularity: Granularity = "element") -> int:
        """How many elements of a tensor are computed at once. On a GPU sums may differ in the last bit for it."""
        return self.block(shape, granularity) if self.gpu else grain_of(granularity, shape)

    def block(self, shape: Shape, granularity: Granularity = "element") -> int:
        """How many elements of a tensor are read at once: whole grains."""
        grain = grain_of(granularity, shape)
        return grain * max(1, self.elements // grain)

    def blocks(self, shape: Shape, granularity: Granularity = "element") -> int:
        return max(1, -(-math.prod(shape) // self.block(shape, granularity)))

    def holds(self, shape: Shape, granularity: Granularity = "element") -> bool:
        """Whether the inputs of a tensor stay in memory between the passes over it."""
        return self.blocks(shape, granularity) <= self.sets // 2


def grain_of(granularity: Granularity, shape: Shape) -> int:
    if granularity in ("tensor", "matrix"):
        return max(1, math.prod(shape))
    if granularity == "row":
        row = row_of(shape)
        return row * max(1, GRAIN // row)
    return GRAIN


def row_of(shape: Shape) -> int:
    """Elements along the last dimension; a tensor of one dimension is one row."""
    return max(1, shape[-1]) if shape else 1


def make_budget(
    purpose: str, tensors: Mapping[str, Sequence[TensorInfo]], memory_bytes: int, threads: int,
    *, measures: bool, remote: int, gpu: bool = False, granularities: Mapping[str, Granularity] | None = None,
) -> Budget:  # fmt: skip
    """Fit blocks, then workers, then tensors held between passes, into `memory_bytes`, and as much of a GPU.

    `purpose` is what they are for, in a word for people; `measures` whether it goes over a tensor more than once. What
    is fetched from the Hub ahead of the computing, for `remote` models, is taken off first. `granularities` says of
    tensors what must be in memory at once; by default no more than an element. Raises MergeError where not even one
    block fits, with the tensor that needs so much.
    """
    cuts: dict[str, Granularity] = {name: (granularities or {}).get(name, "element") for name in tensors}
    units = {name: grain_of(cuts[name], inputs[0].shape) for name, inputs in tensors.items()}
    widest = max(units, key=lambda name: units[name])
    unit = -(-max(GRAIN, units[widest]) // ALIGNED) * ALIGNED
    need = Need(
        unit=unit,
        element=max(sum(DTYPE_BITS[i.dtype] // 8 for i in inputs) for inputs in tensors.values()),
        models=max(len(inputs) for inputs in tensors.values()),
        measures=measures,
        gpu=gpu,
        side=max((min(tensors[name][0].shape) for name in tensors if cuts[name] == "matrix"), default=0),
        as_stored=not gpu and all(i.dtype == "BF16" for inputs in tensors.values() for i in inputs),
        in_flight=IN_FLIGHT if unit <= GRAINS * GRAIN else 1,  # a whole tensor does not wait in memory
    )
    largest = max(inputs[0].numel for inputs in tensors.values())
    most = GPU_GRAINS if gpu else GRAINS
    grains, workers = max(1, min(most * GRAIN // unit, -(-largest // unit))), threads
    ahead = max(0, min(share(memory_bytes, remote), memory_bytes - need.worker(1)))
    left = memory_bytes - ahead
    while grains > 1 and workers * need.worker(grains) > left:
        grains //= 2
    workers = min(workers, left // need.worker(grains))
    if workers == 0:
        raise MergeError(too_little(purpose, widest, cuts[widest], memory_bytes, need))
    elements, fixed = need.unit * grains, workers * (need.scratch(grains) + need.outputs(grains))
    one_set, sets = elements * need.element + SPARE * need.models, need.in_flight * workers
    if measures:
        sets = max(sets, min((left - fixed) // need.taken(one_set), sets + 2 * -(-largest // elements)))
    peak = PROCESS_BYTES + fixed + sets * need.taken(one_set) + ahead
    return Budget(elements, one_set, sets, workers, need.scratch(grains), ahead, peak, need.in_flight, gpu)


@dataclass(frozen=True, slots=True)
class Need:
    """What memory a worker takes, in bytes, by the number of grains in a block."""

    unit: int  # elements of the largest grain
    element: int  # bytes of one element of all inputs
    models: int
    measures: bool
    gpu: bool
    side: int  # the shorter one of the largest matrix, where matrices are computed as such; else 0
    as_stored: bool  # matrices are widened by stretches of rows
    in_flight: int

    def scratch(self, grains: int) -> int:
        """For computing: a grain of every model as float32 and what is made of it, and the counts of a measure."""
        computed = self.unit * (grains if self.gpu else 1)
        if self.side:
            wide = computed * 4 * (1 if self.as_stored else 1 + self.models)
            return wide + 8 * self.side**2 * SQUARES + 8 * max(PANEL, self.side) * (self.models + STRETCHES)
        return computed * 4 * (8 + 6 * self.models) + (COUNT_BYTES * self.models if self.measures else 0)

    def outputs(self, grains: int) -> int:
        """For blocks that wait for their turn in the file."""
        return 3 * self.in_flight * self.unit * grains * 4

    def worker(self, grains: int) -> int:
        """The least that one needs."""
        one_set = self.taken(self.unit * grains * self.element + SPARE * self.models)
        return self.scratch(grains) + self.outputs(grains) + self.in_flight * one_set

    def taken(self, nbytes: int) -> int:
        """What memory that a GPU copies from takes: torch rounds it up to a power of two (CachingHostAllocator)."""
        return 1 << (nbytes - 1).bit_length() if self.gpu else nbytes


def too_little(method: str, widest: str, granularity: Granularity, memory_bytes: int, need: Need) -> str:
    parts = {"element": "", "row": f", for whole rows of {widest!r}"}
    return (
        f"{memory_bytes:,} bytes of memory are too few for {need.models} models: {method} needs at least "
        f"{need.worker(1):,}{parts.get(granularity, f', for all of {widest!r}')}. Give the merge more memory."
    )
