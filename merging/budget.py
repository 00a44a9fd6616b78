"""How large the blocks of a merge are and how many are in memory at once, for a given budget. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from merging.errors import MergeError
from merging.header import DTYPE_BITS, TensorInfo
from merging.methods import Method

# Reductions add up grains of this many elements, each computed alone, so that their bits do not depend on the size of
# the blocks. Kernels run on a grain at a time as well: small enough for the caches, large enough that threads seldom
# wait for each other to hand on Python's lock (65,536 costs a tenth more of CPU, 262,144 as well).
GRAIN = 131_072
LOCAL_GRAINS, REMOTE_GRAINS = 8, 32  # in a block, at most; over a network a block is one request and must be worth it
IN_FLIGHT = 2  # blocks per worker: one computed, one waiting, so that no worker waits for the next
PROCESS_BYTES = 400_000_000  # Python and torch themselves
ALIGNED = 64  # elements: where the next input begins in a set
COUNT_BYTES = 2 * 8 * 65_536 + 8 * LOCAL_GRAINS * GRAIN  # what a measure may keep of a block for one model


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory, divided. A set is the space for one block of every input."""

    block: int  # elements, a multiple of GRAIN
    set_bytes: int
    sets: int
    workers: int
    scratch_bytes: int  # of one worker
    peak_bytes: int  # of the whole process

    def blocks(self, numel: int) -> int:
        return max(1, -(-numel // self.block))

    def holds(self, numel: int) -> bool:
        """Whether the inputs of a tensor stay in memory between the passes over it."""
        return self.blocks(numel) <= self.sets // 2


def make_budget(
    method: Method, tensors: Sequence[Sequence[TensorInfo]], memory_bytes: int, threads: int, *, remote: bool
) -> Budget:
    """Fit blocks, then workers, then tensors held between passes, into `memory_bytes`."""
    element = max(sum(DTYPE_BITS[i.dtype] // 8 for i in inputs) for inputs in tensors)  # bytes of all inputs for one
    models, largest = len(tensors[0]), max(inputs[0].numel for inputs in tensors)
    scratch = GRAIN * 4 * (8 + 6 * models) + (COUNT_BYTES * models if method.measure else 0)
    grains = min(REMOTE_GRAINS if remote else LOCAL_GRAINS, -(-largest // GRAIN) or 1)
    workers = max(threads, 8) if remote else threads
    while grains > 1 and cost(workers, grains, element, scratch) > memory_bytes:
        grains //= 2
    workers = min(workers, memory_bytes // cost(1, grains, element, scratch))
    if workers == 0:
        raise MergeError(
            f"{memory_bytes:,} bytes of memory are too few for {models} models: at least "
            f"{cost(1, 1, element, scratch):,} are needed. Give the merge more memory."
        )
    one_set, fixed = GRAIN * grains * element, workers * (scratch + GRAIN * grains * 4)
    sets = IN_FLIGHT * workers
    if method.measure:
        sets = max(sets, min((memory_bytes - fixed) // one_set, sets + 2 * -(-largest // (GRAIN * grains))))
    return Budget(GRAIN * grains, one_set, sets, workers, scratch, PROCESS_BYTES + fixed + sets * one_set)


def cost(workers: int, grains: int, element: int, scratch: int) -> int:
    """The least bytes that so many workers need."""
    return workers * (scratch + GRAIN * grains * (4 + IN_FLIGHT * element))
