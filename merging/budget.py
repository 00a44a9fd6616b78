"""How large the blocks of a merge are and how many are in memory at once, for a given budget. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merging.errors import MergeError
from merging.header import DTYPE_BITS, TensorInfo
from merging.methods import Method
from merging.methods.spec import Granularity, Shape

# Reductions add up grains of this many elements, each computed alone, so that their bits do not depend on the size of
# the blocks. Kernels run on a grain at a time as well: small enough for the caches, large enough that threads seldom
# wait for each other to hand on Python's lock.
GRAIN = 131_072
LOCAL_GRAINS, REMOTE_GRAINS = 8, 32  # in a block, at most; over a network a block is one request and must be worth it
IN_FLIGHT = 2  # blocks per worker: one computed, one waiting, so that no worker waits for the next
PROCESS_BYTES = 300_000_000  # Python, numpy and Numba themselves
ALIGNED = 64  # elements: where the next input begins in a set
COUNT_BYTES = 2 * 8 * 65_536  # what a measure may keep of a block for one model


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory, divided. A set is the space for one block of every input."""

    granularity: Granularity
    elements: int  # of each input in a set
    set_bytes: int
    sets: int
    workers: int
    scratch_bytes: int  # of one worker
    peak_bytes: int  # of the whole process

    def grain(self, shape: Shape) -> int:
        """How many elements of a tensor are computed at once."""
        return grain_of(self.granularity, shape)

    def block(self, shape: Shape) -> int:
        """How many elements of a tensor are read at once: whole grains."""
        grain = self.grain(shape)
        return grain * max(1, self.elements // grain)

    def blocks(self, shape: Shape) -> int:
        return max(1, -(-math.prod(shape) // self.block(shape)))

    def holds(self, shape: Shape) -> bool:
        """Whether the inputs of a tensor stay in memory between the passes over it."""
        return self.blocks(shape) <= self.sets // 2


def grain_of(granularity: Granularity, shape: Shape) -> int:
    if granularity == "tensor":
        return max(1, math.prod(shape))
    if granularity == "row":
        row = row_of(shape)
        return row * max(1, GRAIN // row)
    return GRAIN


def row_of(shape: Shape) -> int:
    """Elements along the last dimension; a tensor of one dimension is one row."""
    return max(1, shape[-1]) if shape else 1


def make_budget(
    method: Method, tensors: Mapping[str, Sequence[TensorInfo]], memory_bytes: int, threads: int, *, remote: bool
) -> Budget:
    """Fit blocks, then workers, then tensors held between passes, into `memory_bytes`.

    Raises MergeError where not even one block fits, with the tensor that needs so much.
    """
    element = max(sum(DTYPE_BITS[i.dtype] // 8 for i in inputs) for inputs in tensors.values())  # bytes of all inputs
    models = max(len(inputs) for inputs in tensors.values())
    largest = max(inputs[0].numel for inputs in tensors.values())
    units = {name: grain_of(method.granularity, inputs[0].shape) for name, inputs in tensors.items()}
    widest = max(units, key=lambda name: units[name])
    unit = max(GRAIN, units[widest])
    scratch = unit * 4 * (8 + 6 * models) + (COUNT_BYTES * models if method.measure else 0)
    grains = min(REMOTE_GRAINS if remote else LOCAL_GRAINS, -(-largest // unit) or 1)
    workers = max(threads, 8) if remote else threads
    while grains > 1 and cost(workers, unit * grains, element, scratch) > memory_bytes:
        grains //= 2
    workers = min(workers, memory_bytes // cost(1, unit * grains, element, scratch))
    if workers == 0:
        whole = {
            "element": "",
            "row": f", and needs whole rows of {widest!r}",
            "tensor": f", and needs all of {widest!r}",
        }
        raise MergeError(
            f"{memory_bytes:,} bytes of memory are too few for {models} models: {method.name} needs at least "
            f"{cost(1, unit, element, scratch):,}{whole[method.granularity]}. Give the merge more memory."
        )
    one_set, fixed = unit * grains * element, workers * (scratch + 3 * IN_FLIGHT * unit * grains * 4)
    sets = IN_FLIGHT * workers
    if method.measure:
        sets = max(sets, min((memory_bytes - fixed) // one_set, sets + 2 * -(-largest // (unit * grains))))
    peak = PROCESS_BYTES + fixed + sets * one_set
    return Budget(method.granularity, unit * grains, one_set, sets, workers, scratch, peak)


def cost(workers: int, elements: int, element: int, scratch: int) -> int:
    """The least bytes that so many workers need."""
    return workers * (scratch + elements * IN_FLIGHT * (3 * 4 + element))
