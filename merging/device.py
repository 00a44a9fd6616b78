"""Where blocks are computed: the CPU, or a CUDA GPU. Both read and write buffers in the machine's memory."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from merging.errors import MergeError
from merging.methods import loops
from merging.methods.arrays import Array, Bytes

WIDEN = {"BF16": loops.widen_bf16, "F16": loops.widen_f16, "F32": loops.widen_f32}
NARROW = {"BF16": loops.narrow_bf16, "F16": loops.narrow_f16, "F32": loops.narrow_f32}
STORED = {"BF16": np.uint16, "F16": np.uint16, "F32": np.float32}  # how numpy sees their bytes


class Device(Protocol):
    """A place to compute. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """cpu, or cuda:0 and so on."""
        ...

    def buffer(self, nbytes: int) -> Bytes:
        """Memory to read blocks into."""
        ...

    def working(self) -> AbstractContextManager[object]:
        """What one thread does with one block goes inside this."""
        ...

    def widen(self, stored: Sequence[Bytes], dtypes: Sequence[str]) -> tuple[Array, float]:
        """The same stretch of several tensors as float32 [n, m], and their largest magnitude (infinite for NaN)."""
        ...

    def narrow(self, wide: Array, dtype: str, out: Bytes) -> float:
        """Round to a stored type, to nearest and ties to even; the largest magnitude before that."""
        ...


@dataclass(frozen=True, slots=True)
class Cpu:
    """The machine's own cores, through Numba."""

    name: str = "cpu"

    def buffer(self, nbytes: int) -> Bytes:
        return np.empty(nbytes, np.uint8)

    def working(self) -> AbstractContextManager[object]:
        return nullcontext()

    def widen(self, stored: Sequence[Bytes], dtypes: Sequence[str]) -> tuple[Array, float]:
        count = len(stored[0].view(STORED[dtypes[0]]))
        wide, worst = np.empty((len(stored), count), np.float32), 0
        for row, raw, dtype in zip(wide, stored, dtypes, strict=True):
            worst = max(worst, WIDEN[dtype](raw.view(STORED[dtype]), row))
        return wide, magnitude(worst)

    def narrow(self, wide: Array, dtype: str, out: Bytes) -> float:
        return magnitude(NARROW[dtype](wide, out.view(STORED[dtype])))


def magnitude(bits: int) -> float:
    """The float32 of some bits; infinity for what is not a number."""
    return float(np.uint32(min(bits, 0x7F800000)).view(np.float32))


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
