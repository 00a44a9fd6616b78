"""What a GPU computes and what the CPU computes, side by side; torch's CPU stands in where there is no GPU."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.cuda import Gpu
from merging.device import Cpu
from merging.engine import Options, merge
from merging.methods import METHODS, gpu, loops
from merging.methods.chance import Chance, limits
from merging.methods.stored import plain
from merging.recipe import settings_for
from tests.merging.cases import CASES
from tests.merging.kernels import noise
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
X = noise(4, 10_001).numpy() * np.float32(0.02)
X[1:3, ::7] = X[0, ::7]  # no change
WEIGHTS = np.array([0.7123, -0.3, 1.1], np.float32)


def there(array):
    return torch.from_numpy(array).to(DEVICE)


def same(ours, theirs):
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32), theirs.cpu().numpy().view(np.uint32))


def test_sums_have_the_same_bits():
    base, models = X[0], X[1:].copy()
    same(loops.weighted_sum(models, WEIGHTS), gpu.weighted_sum(there(models), WEIGHTS))
    same(loops.add_changes(base, models, WEIGHTS), gpu.add_changes(there(base), there(models), WEIGHTS))
    for divide in (True, False):
        given = WEIGHTS, WEIGHTS[::-1].copy(), divide, np.float32(1e-7), np.float32(0.7)
        same(loops.add_agreed(base, models, *given), gpu.add_agreed(there(base), there(models), *given))
    weights, least = np.array([0.7, 0.3, 1e-7], np.float32), np.float32(1e-6)
    ours = loops.average_agreed(base, models, weights, least)
    same(ours, gpu.average_agreed(there(base), there(models), weights, least))


def test_what_models_decide_together_has_the_same_bits():
    base, models, deltas = X[0], X[1:].copy(), X[1:] - X[0]
    same(loops.spread(base, models), gpu.spread(there(base), there(models)))
    given = np.float32(0.01), WEIGHTS
    ours = loops.add_own_and_shared(base, deltas, *given)
    same(ours, gpu.add_own_and_shared(there(base), there(deltas), *given))
    cuts = np.array([0.4, 0.3, 0.2])
    ours = loops.add_consensus(base, models, cuts, 2, 0.7)
    same(ours, gpu.add_consensus(there(base), there(models), cuts, 2, 0.7))
    found = loops.count_own_and_shared(deltas, given[0])
    assert np.array_equal(found, gpu.count_own_and_shared(there(deltas), given[0])) and found.all()


@pytest.mark.parametrize("scale", [1, 40], ids=["small changes", "large ones"])
def test_scores_agree(scale):
    base, deltas = X[0], (X[1:] - X[0]) * np.float32(scale)
    low, high = np.array([0.001, 0, 0.02]), np.array([0.1, 0.05, 0.02])
    scores = loops.standing_scores(deltas, low, high)
    theirs = gpu.standing_scores(there(deltas), low, high)
    np.testing.assert_allclose(scores, theirs.cpu().numpy(), rtol=2e-7, atol=0)
    wide, total = np.abs(deltas.astype(np.float64)), deltas.astype(np.float64).sum(0)
    standing = (wide.clip(low[:, None], high[:, None]) - low[:, None]) / np.where(high > low, high - low, 1)[:, None]
    np.testing.assert_allclose(scores, np.exp(3 * standing**2) * np.tanh(deltas * total), rtol=1e-7, atol=0)
    best = np.array([0.0, -0.01, 1e-6]), np.array([0.5, 0.01, 1e-6])
    ours = loops.mean_by_standing(base, deltas, scores, low, high, *best, 0.7)
    theirs = gpu.mean_by_standing(there(base), there(deltas), there(scores), low, high, *best, 0.7)
    np.testing.assert_allclose(ours, theirs.cpu().numpy(), rtol=1e-6, atol=1e-9)


def test_blends_have_the_same_bits():
    x, y = X[0], X[1]
    same(loops.blend(x, y, *WEIGHTS[:2]), gpu.blend(there(x), there(y), *WEIGHTS[:2]))
    for t in np.array([0, 1e-3, 0.5], np.float32):
        same(loops.near_swap(x, y, t), gpu.near_swap(there(x), there(y), t))
    for row in (1, 73, 10_001):
        rows = noise(4, 10_001 // row, seed=1).numpy()
        same(loops.mix_rows(X, rows, row), gpu.mix_rows(there(X), rows, row))
        columns = noise(4, row, seed=1).numpy()
        same(loops.mix_columns(X, columns), gpu.mix_columns(there(X), columns))


def test_importances_agree():
    for row in (1, 73, 10_001):
        ours, theirs = loops.importance(X[0], X[1], row), gpu.importance(there(X[0]), there(X[1]), row)
        np.testing.assert_allclose(ours, theirs.cpu().numpy(), rtol=1e-6)
        cut = float(np.median(ours))
        same(loops.take_from(X[0], X[1], ours, cut), gpu.take_from(there(X[0]), there(X[1]), there(ours), cut))


@pytest.mark.parametrize("start", [0, 1, 4095, 10**10 + 1])
def test_what_is_kept_has_the_same_bits(start):
    models, low = X[1:].copy(), np.array([0.0, 0.02, math.inf], np.float32)
    high = np.array([0.03, math.inf, math.inf], np.float32)
    same(loops.keep_between(models, low, high), gpu.keep_between(there(models), low, high))
    keys, below = Chance(3, "w").keys(3), limits((0.2, 1.0, 0.9))
    same(loops.keep_by_chance(models, keys, below, start), gpu.keep_by_chance(there(models), keys, below, start))


@pytest.mark.parametrize("size", [2**15, 2**16], ids=["magnitudes", "signed"])
def test_counts_are_the_same(size):
    found, mask = [np.zeros((4, size, 2), np.int64) for _ in "ab"], size - 1
    loops.count_high_halves(X, found[0])
    gpu.count_high_halves(there(X), found[1])
    assert np.array_equal(found[0], found[1]) and found[0].sum() == X.size and found[0].sum((0, 1)).all()
    bins = found[0].sum(2).argsort(1)[:, -2:].astype(np.uint32)
    found = [np.zeros((4, 2, 2**16), np.int64) for _ in "ab"]
    loops.count_low_halves(X, bins, mask, found[0])
    gpu.count_low_halves(there(X), bins, mask, found[1])
    assert np.array_equal(found[0], found[1]) and found[0].sum(2).all()


@pytest.mark.parametrize("row", [2, 73, 137, 10_001])
@pytest.mark.parametrize("start", [0, 137])
def test_what_is_kept_by_rank_has_the_same_bits(row, start):
    models = X[1:, : 10_001 // row * row].copy()
    given = row, np.array([0.3, 0.5, 1]), np.array([0.2, 0.1, 0]), Chance(3, "w").keys(3), start
    ours = loops.keep_by_rank(models, *given)
    same(ours, gpu.keep_by_rank(there(models), *given))
    assert 0.2 < (ours[0] != 0).mean() < 0.4 and np.array_equal(ours[2], models[2])


def test_sums_over_elements_agree():
    np.testing.assert_allclose(loops.square_sums(X), gpu.square_sums(there(X)), rtol=1e-13)
    np.testing.assert_allclose(loops.absolute_sums(X), gpu.absolute_sums(there(X)), rtol=1e-13)
    np.testing.assert_allclose(loops.gram(X), gpu.gram(there(X)), rtol=1e-11, atol=1e-12)
    for row in (1, 73, 10_001):
        for one in ("row_grams", "column_grams"):
            ours, theirs = getattr(loops, one)(X, row), getattr(gpu, one)(there(X), row)
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


HALVES = np.arange(2**16, dtype=np.uint16)
SPREAD = np.concatenate([
    (noise(50_000).double() * torch.exp2(noise(50_000, seed=1).double() * 12)).float().numpy(),
    np.array([0.0, -0.0, 65504, 65519.996, -65519.996, 2**-24, 2**-25, 2**-25 * 1.0001, -(2**-14), 2**-14 - 2**-25,
              1e-41], np.float32),
])  # fmt: skip


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("device", [Cpu(), Gpu(DEVICE)], ids=["loops", "torch"])
def test_every_stored_number_is_widened_as_torch_does(device, dtype):
    torch_dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
    stored = SPREAD if dtype == "F32" else HALVES
    expected = torch.from_numpy(stored).view(torch_dtype).float().numpy()
    finite = np.isfinite(expected)
    for part, worst in ((expected, math.inf if dtype != "F32" else np.abs(expected).max()),
                        (expected[finite], np.abs(expected[finite]).max())):  # fmt: skip
        raw = stored[finite] if part is not expected else stored
        for by_parts in (False, True):
            wide = device.widen(raw.copy().view(np.uint8), [0], len(raw), [dtype], by_parts=by_parts)
            assert np.array_equal(np.asarray(torch.as_tensor(plain(wide)).cpu())[0], part, equal_nan=True)
            assert device.largest(wide) == worst


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("device", [Cpu(), Gpu(DEVICE)], ids=["loops", "torch"])
def test_rounding_is_that_of_torch(device, dtype):
    torch_dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
    fits = SPREAD[np.abs(SPREAD) < 65520]
    expected = torch.from_numpy(fits).to(torch_dtype).view(torch.uint8).numpy()
    out = np.empty_like(expected)
    wide = fits if isinstance(device, Cpu) else there(fits)
    assert device.narrow(wide, dtype, out) == np.abs(fits).max()
    assert np.array_equal(out, expected)


def test_what_is_not_a_number_is_infinitely_large():
    for device in (Cpu(), Gpu(DEVICE)):
        wide = np.array([1.0, math.nan], np.float32)
        assert device.narrow(wide if isinstance(device, Cpu) else there(wide), "F32", np.empty(8, np.uint8)) == math.inf


SHAPES = {"layers.0.w": (300, 701), "odd": (131_073,), "cube": (4, 5, 6), "v": (70,), "one": (1,), "none": (0,)}


@pytest.mark.parametrize(
    ("method", "case"), [(method, case) for method in METHODS for case in range(len(CASES[method]))]
)
def test_whole_merges_agree(method, case, tmp_path, monkeypatch):
    """Bit for bit where every element is computed for itself, else to one step of bfloat16; block by block."""
    monkeypatch.setattr("merging.budget.GPU_GRAINS", 1)
    declared, parameters = METHODS[method], dict(CASES[method][case])
    shapes = {
        "layers.0.w": (300, 701),
        "layers.0.odd": (131_073,),
        "cube": (4, 5, 6),
        "v": (70,),
        "one": (1,),
        "e": (0,),
    }
    base = {name: (noise(*shape, seed=i) * 0.02).bfloat16() for i, (name, shape) in enumerate(shapes.items())}
    tunes = fine_tunes(base, declared.max_models or 3, by=0.002)
    config = {"num_hidden_layers": 1}
    folders = [write_model(tmp_path / f"m{i}", t, config) for i, t in enumerate(tunes)]
    given_base = write_model(tmp_path / "base", base, config) if parameters.pop("base", declared.needs_base) else None
    recipe = recipe_of(method, folders, given_base, seed=5, **parameters)
    list(merge(recipe, opened(recipe), tmp_path / "cpu", Options(device="cpu")))
    monkeypatch.setattr("merging.engine.choose_device", lambda asked: Gpu(DEVICE))
    list(merge(recipe, opened(recipe), tmp_path / "gpu"))
    ours, theirs = (load_file(tmp_path / folder / "model.safetensors") for folder in ("cpu", "gpu"))
    settings = settings_for(recipe, "layers.0.w")
    is_exact = declared.granularity(settings) == "element" and not declared.passes(settings)
    for tensor in base:
        if is_exact:
            assert torch.equal(ours[tensor].view(torch.int16), theirs[tensor].view(torch.int16)), tensor
        else:
            apart = (steps(ours[tensor]) - steps(theirs[tensor])).abs()
            assert not (apart > 1).any(), f"{tensor}: {int((apart > 1).sum())} of {apart.numel()}, by {apart.max()}"


def steps(tensor):
    """The place of each bfloat16 number among all of them, in ascending order."""
    bits = tensor.view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


def test_steps_of_bfloat16_are_counted():
    around_zero = torch.tensor([-(2.0**-133), -0.0, 0.0, 2.0**-133, 1.0, 1 + 2**-7]).bfloat16()
    assert steps(around_zero).diff().tolist() == [1, 0, 1, 0x3F80 - 1, 1]
