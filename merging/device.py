"""Which device computes."""

import torch

from merging.errors import MergeError


def choose_device(asked: str) -> str:
    """`auto` is the GPU with the most free memory as accelerate sees it, or the CPU where there is none."""
    if asked not in ("auto", "cpu", "cuda"):
        raise MergeError(f"The device is {asked!r}, it must be auto, cpu or cuda.")
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise MergeError("There is no CUDA GPU here, or torch was installed without CUDA. Use the device cpu or auto.")
    from accelerate.utils.modeling import get_max_memory  # only where there is a GPU: it takes a second to import

    free = {device: size for device, size in get_max_memory().items() if isinstance(device, int)}
    return f"cuda:{max(free, key=lambda device: free[device])}"
