"""What is computed of bfloat16 blocks as they are stored has the bits of what is computed of them widened."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from merging.device import Cpu
from merging.methods import METHODS, loops
from merging.methods.chance import Chance
from merging.methods.loops import compiling, tile_measures, tile_sums, tiles
from merging.methods.spec import Block, compute
from merging.methods.stored import Pending, Rows
from merging.totals import measure_alone
from tests.merging.kernels import noise, rows_of, run, settings_of

BY_ELEMENT = [
    m for m in METHODS.values() if m.granularity_of(settings_of(m, m.min_models, {}), "t", (3, 3)) == "element"
]
WEIGHTS = (0.7123, -0.3, 1.1, 0.4, 0.25)
SETTINGS: list[dict[str, tuple[Any, ...]]] = [
    {"weight": WEIGHTS, "t": (0.3,)},
    {"weight": WEIGHTS, "density": (0.4,) * 5, "rescale": (True,), "normalize": (True,)},
    {"weight": WEIGHTS, "density": (0.3, 1.0, 0.0, 0.6, 0.5), "rescale": (False,), "normalize": (False,)},
    {"weight": WEIGHTS, "density": (0.3, 1.0, 0.0, 0.6, 0.5), "lambda": (0.7,)},
]
COUNTS = [0, 1, 255, 1024, 5003]


def crowded(count: int, numel: int) -> tuple[Tensor, Tensor]:
    """A base and fine-tunes of it, with changes that are equal, zero of both signs, or very small."""
    base = (noise(numel) * 0.02).bfloat16()
    models = (base + noise(count, numel, seed=1) * 4e-4).bfloat16()
    base[::11], models[:, ::7] = -0.0, 0.0
    models[0, ::5] = base[::5]
    base[3::13] = 1e-39
    return base, models


@pytest.mark.parametrize("numel", COUNTS)
@pytest.mark.parametrize("method", BY_ELEMENT, ids=lambda m: m.name)
def test_the_same_bits_as_widened(method, numel):
    for count in range(method.min_models, min(method.max_models or 5, 5) + 1):
        base, models = crowded(count, numel)
        for given in SETTINGS:
            fits = {k: v[:count] if method.param(k).per_model else v[0] for k, v in given.items() if method.param(k)}
            for start in (0, 131_073):
                args: dict[str, Any] = {"seed": 5, "start": start, "depth": 0.5, **fits}
                expected = run(method.name, models, base, **args)
                found = run(method.name, models, base, as_stored=True, **args)
                assert torch.equal(found.view(torch.int32), expected.view(torch.int32)), (count, given, start)


@pytest.mark.parametrize("name", ["linear", "task_arithmetic", "slerp", "ties", "dare_linear", "dare_ties", "karcher"])
def test_what_is_merged_most_is_never_widened_as_a_whole(name, monkeypatch):
    base, models = crowded(METHODS[name].max_models or 3, 3000)
    monkeypatch.setattr(Rows, "plain", property(lambda rows: pytest.fail("the rows were widened")))
    run(name, models, base, as_stored=True, t=0.3, density=0.5)


def test_results_are_rounded_on_the_way():
    base, models = crowded(3, 5003)
    merged = METHODS["linear"].fn(rows_of(torch.stack([base, *models])), weight=(0.4, 0.3, 0.2, 0.1), normalize=True)
    assert isinstance(merged, Pending)
    for dtype, kind in (("BF16", torch.bfloat16), ("F32", torch.float32), ("F16", torch.float16)):
        out = np.empty(5003 * kind.itemsize, np.uint8)
        assert Cpu().narrow(merged, dtype, out) == np.abs(merged.plain).max()
        expected = torch.from_numpy(merged.plain).to(kind)
        assert torch.equal(torch.from_numpy(out).view(kind).view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("name", ["linear", "task_arithmetic", "slerp", "karcher", "model_stock", "ties"])
def test_what_a_step_tells_is_not_looked_for_again(name, monkeypatch):
    monkeypatch.setattr(tiles, "largest_bits", lambda *given: pytest.fail("the numbers were gone over once more"))
    base, models = crowded(METHODS[name].max_models or 3, 3000)
    stack = torch.stack([base, *models]) if METHODS[name].takes_base else models
    rows = rows_of(stack)
    rows.store.check = lambda largest: None
    settings = settings_of(METHODS[name], len(models), {"density": 0.5})
    block = Block(rows, METHODS[name].takes_base, Chance(0, "w"), 3000, None, is_matrix=False)
    found = compute(METHODS[name], block, measure_alone(METHODS[name], block, (3000,), settings), settings)
    Cpu().narrow(found, "BF16", np.empty(6000, np.uint8))
    rows.store.settle()


def test_arithmetic_makes_arrays():
    base, models = crowded(2, 500)
    rows = rows_of(torch.stack([base, *models]))
    wide = rows.plain
    assert np.array_equal((rows[1:] - rows[0]).plain, wide[1:] - wide[0])
    for ours, plain_one in (
        (rows[0] + wide[1], wide[0] + wide[1]), (wide[1] + rows[0], wide[1] + wide[0]),
        (rows[1] - wide[0], wide[1] - wide[0]), (rows[1:] * np.float32(2), wide[1:] * np.float32(2)),
        ((rows[1:] - rows[0])[1], wide[2] - wide[0]), (rows[2] - rows[1], wide[2] - wide[1]),
    ):  # fmt: skip
        assert isinstance(ours, np.ndarray) and np.array_equal(ours, plain_one)


def test_what_is_compiled_is_out_of_date_when_any_file_with_loops_changes():
    own = compiling.njit(cache=True)(len_of)._cache._cache_file
    assert "_source_stamp" in vars(own)  # Numba's, by which it knows: of the function's own file
    for loop in (loops.widen_bf16, tile_sums.blend, tile_measures.grams, tiles.write_rows):
        assert loop._cache._cache_file._source_stamp == compiling.stamp_of(Path(loop.py_func.__code__.co_filename))


def len_of(x):
    return len(x)
