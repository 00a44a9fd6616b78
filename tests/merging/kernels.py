"""Run a method on tensors in memory: what the engine does for one tensor, without files and blocks."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from merging.budget import row_of
from merging.methods import METHODS, Method
from merging.methods.chance import Chance
from merging.methods.spec import Block, Settings, compute
from merging.methods.stored import Store, plain
from merging.settings import keyword
from merging.totals import measure_alone

REQUIRED = {"weight": 0.5, "t": 0.3}


def run(
    name: str, models: Tensor, base: Tensor | None = None, *, seed: Any = 0, depth: Any = None, start: Any = 0,
    as_stored: Any = False, **given: Any,
) -> Tensor:  # fmt: skip
    """Merge the rows of `models` by a method. A setting that is not given has its default."""
    method, shape = METHODS[name], tuple(models.shape[1:])
    settings = settings_of(method, len(models), given)
    is_matrix = method.granularity_of(settings, "tensor", shape) == "matrix"
    has_base = base is not None and method.takes_base
    stack = torch.cat([base[None], models]) if has_base and base is not None else models
    flat = stack.reshape(len(stack), -1)
    wide: Any = rows_of(flat) if as_stored else np.ascontiguousarray(flat.float().numpy())
    block = Block(wide, has_base, Chance(seed, "tensor", start), row_of(shape), depth, is_matrix)
    merged = compute(method, block, measure_alone(method, block, shape, settings), settings)
    return torch.from_numpy(np.asarray(plain(merged))).view(shape)


def rows_of(stack: Tensor) -> Any:
    """The rows as bfloat16 in one buffer, with gaps between them."""
    assert stack.dtype == torch.bfloat16
    count = stack.shape[1]
    begins = np.arange(len(stack)) * (count + 16) + 16
    buffer = np.zeros((len(stack) + 1) * (count + 16) + 16, np.uint16)
    for begin, row in zip(begins, stack, strict=True):
        buffer[begin : begin + count] = row.contiguous().view(torch.uint16).numpy()
    return Store(buffer, begins, count).rows


def settings_of(method: Method, models: int, given: dict[str, Any]) -> Settings:
    settings = {}
    for p in method.params:
        value = given.get(p.name, p.default if p.default is not None else REQUIRED[p.name])
        settings[keyword(p.name)] = (value,) * models if p.per_model and not isinstance(value, tuple) else value
    return settings


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
