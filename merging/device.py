"""Where blocks are computed: the CPU, or a CUDA GPU. Both read and write buffers in the machine's memory."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from merging.budget import GRAIN
from merging.errors import MergeError
from merging.methods import loops
from merging.methods.arrays import Array, Bytes
from merging.methods.stored import Pending, Rows, Store, magnitude, plain

WIDEN = {"BF16": loops.widen_bf16, "F16": loops.widen_f16, "F32": loops.widen_f32}
NARROW = {"BF16": loops.narrow_bf16, "F16": loops.narrow_f16, "F32": loops.narrow_f32}
PAGE = 4096
STORED = {"BF16": np.uint16, "F16": np.uint16, "F32": np.float32}  # how numpy sees their bytes


class Device(Protocol):
    """A place to compute. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """cpu, or cuda:0 and so on."""
        ...

    def buffer(self, nbytes: int) -> Bytes:
        """Memory to read blocks into, from a page's start on."""
        ...

    @property
    def room(self) -> int | None:
        """Bytes of memory of its own that blocks may take; None where it has none."""
        ...

    def working(self) -> AbstractContextManager[object]:
        """What one thread does with one block goes inside this. Raises MergeError where its memory is too small."""
        ...

    def widen(
        self, buffer: Bytes, begins: Sequence[int], count: int, dtypes: Sequence[str], *, by_parts: bool = False
    ) -> Array:
        """So many elements of several tensors, each from its byte of the buffer on, as float32 [n, m].

        Where it is used `by_parts`, what comes may stand for such an array (stored.py).
        """
        ...

    def largest(self, wide: Array) -> float:
        """The largest magnitude; infinite where something is not a number."""
        ...

    def narrow(self, wide: Array, dtype: str, out: Bytes) -> float:
        """Round to a stored type, to nearest and ties to even; the largest magnitude before that."""
        ...

    def own(self, nbytes: int) -> Bytes:
        """Memory of its own, to keep models in; `widen` and `narrow` take it as well."""
        ...

    def settle(self) -> None:
        """Wait for what was begun in memory of its own."""
        ...


@dataclass(frozen=True, slots=True)
class Cpu:
    """The machine's own cores, through Numba."""

    name: str = "cpu"
    room: None = None

    def buffer(self, nbytes: int) -> Bytes:
        space = np.empty(nbytes + PAGE, np.uint8)
        begin = -space.ctypes.data % PAGE
        return space[begin : begin + nbytes]

    def working(self) -> AbstractContextManager[object]:
        return nullcontext()

    def widen(
        self, buffer: Bytes, begins: Sequence[int], count: int, dtypes: Sequence[str], *, by_parts: bool = False
    ) -> Array:
        if by_parts and set(dtypes) == {"BF16"}:
            store = Store(buffer.view(np.uint16), np.array(begins, np.int64) // 2, count, grain=GRAIN)
            return store.rows  # type: ignore[return-value]
        wide = np.empty((len(begins), count), np.float32)
        for row, begin, dtype in zip(wide, begins, dtypes, strict=True):
            stored = np.dtype(STORED[dtype])
            WIDEN[dtype](buffer[begin : begin + count * stored.itemsize].view(stored), row)
        return wide

    def largest(self, wide: Array) -> float:
        if isinstance(wide, Rows):
            return wide.store.largest
        return magnitude(max(map(loops.largest_magnitude, wide), default=0))

    def narrow(self, wide: Array, dtype: str, out: Bytes) -> float:
        if isinstance(wide, Pending) and dtype in ("BF16", "F32"):
            return wide.round_into(out.view(STORED[dtype]))
        return magnitude(NARROW[dtype](plain(wide), out.view(STORED[dtype])))

    def own(self, nbytes: int) -> Bytes:
        return np.empty(nbytes, np.uint8)

    def settle(self) -> None:
        """Nothing is left to be done."""


def choose_device(asked: str) -> Device:
    """`auto` is the GPU with the most free memory as accelerate sees it, or the CPU where there is none."""
    if asked not in ("auto", "cpu", "cuda"):
        raise MergeError(f"The device is {asked!r}, it must be auto, cpu or cuda.")
    if asked == "cpu" or (asked == "auto" and not has_driver()):
        return Cpu()
    from merging.cuda import Gpu, best_gpu  # only where there may be a GPU: torch takes seconds to import

    if (found := best_gpu()) is not None:
        return Gpu(found)
    if asked == "auto":
        return Cpu()
    raise MergeError("There is no CUDA GPU here, or torch was installed without CUDA. Use the device cpu or auto.")


def has_driver() -> bool:
    """Whether NVIDIA's driver can be loaded, which costs nothing to ask."""
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
