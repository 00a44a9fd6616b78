"""Blocks on a CUDA GPU: pinned buffers, and one stream for each thread, so that copies overlap with computing."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from merging.errors import NoMemory
from merging.methods.arrays import Array, Bytes

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True)
class Gpu:
    """One GPU, through torch."""

    name: str  # cuda:0 and so on
    streams: threading.local = field(default_factory=threading.local)

    def buffer(self, nbytes: int) -> Bytes:
        found: Bytes = torch.empty(nbytes, dtype=torch.uint8, pin_memory=self.is_cuda).numpy()
        return found

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")

    @property
    def room(self) -> int | None:
        """Bytes that are free, less a fifth for what others take meanwhile and torch's own; None where nobody knows."""
        return torch.cuda.mem_get_info(self.name)[0] * 4 // 5 if self.is_cuda else None

    @contextmanager
    def working(self) -> Iterator[None]:
        if self.is_cuda and not hasattr(self.streams, "own"):
            self.streams.own = torch.cuda.Stream(self.name)  # type: ignore[no-untyped-call]
        # Tests run the same steps on torch's CPU.
        with torch.cuda.stream(self.streams.own) if self.is_cuda else torch.inference_mode():
            try:
                yield
            except torch.OutOfMemoryError:
                raise NoMemory(
                    f"{self.name} has too little free memory for the blocks of this merge. Give the merge less memory, "
                    "end what else uses the GPU, or use the device cpu."
                ) from None

    def widen(
        self, buffer: Bytes, begins: Sequence[int], count: int, dtypes: Sequence[str], *, by_parts: bool = False
    ) -> Array:
        there = []
        for begin, dtype in zip(begins, dtypes, strict=True):
            kind = DTYPES[dtype]
            raw = torch.as_tensor(buffer[begin : begin + count * kind.itemsize])
            there.append(raw.to(self.name, non_blocking=True).view(kind))
        return torch.stack([row.float() for row in there])  # type: ignore[return-value] # see arrays.py

    def largest(self, wide: Array) -> float:
        return largest(torch.as_tensor(wide))

    def narrow(self, wide: Array, dtype: str, out: Bytes) -> float:
        tensor = torch.as_tensor(wide)
        rounded = tensor.to(DTYPES[dtype]).view(torch.uint8)
        torch.as_tensor(out).copy_(rounded)
        return largest(tensor)

    def own(self, nbytes: int) -> Bytes:
        try:
            return torch.empty(nbytes, dtype=torch.uint8, device=self.name)  # type: ignore[return-value] # see arrays.py
        except torch.OutOfMemoryError:
            raise NoMemory(f"{self.name} has no room for {nbytes:,} bytes of models. Try fewer models.") from None

    def settle(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.name)


def largest(tensor: torch.Tensor) -> float:
    """The largest magnitude; infinity where something is not a number."""
    found = tensor.abs().max().item() if tensor.numel() else 0.0
    return float(found) if found == found else float("inf")


def best_gpu() -> str | None:
    """The GPU with the most free memory."""
    if not torch.cuda.is_available():
        return None
    from accelerate.utils.modeling import get_max_memory  # takes a second to import

    free = {device: size for device, size in get_max_memory().items() if isinstance(device, int)}
    return f"cuda:{max(free, key=lambda device: free[device])}"
