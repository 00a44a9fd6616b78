"""What is measured over a whole tensor: exactly, and with the same bits however it is cut."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from merging.methods.chance import Chance
from merging.methods.measures import count_high_halves, kth_inside, l1_factors, magnitude_cuts, middle_bands
from merging.methods.parts import absolute_sums, gram
from merging.methods.spec import Block
from merging.totals import Total
from tests.merging.kernels import noise


def cuts(deltas, density, grain=10**9):
    """Run the measure over grains of a size, in blocks of two grains, added in reverse."""
    wide = torch.cat([torch.zeros_like(deltas[:1]), deltas]).numpy()
    numel = wide.shape[1]
    grains = [Block(wide[:, i : i + grain].copy(), True, Chance(0, "")) for i in range(0, numel, grain)]
    passes = magnitude_cuts((numel,), {"density": density})
    try:
        look = next(passes)
        while True:
            total = Total()
            for i in reversed(range(0, len(grains), 2)):
                total.add(i, look(iter(grains[i : i + 2])))
            look = passes.send(total.value())
    except StopIteration as found:
        return found.value


def kth_largest(row, k):
    return float(np.sort(np.abs(row.numpy()))[::-1][k - 1]) if k else math.inf


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "few values", "one value", "zeros", "wide", "subnormal"])
@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.99, 1.0])
def test_the_kth_largest_magnitude_exactly(kind, density):
    x = noise(3, 5000, seed=1)
    x = {
        "float32": x, "bfloat16": x.bfloat16().float(), "few values": (x * 2).round(), "one value": x * 0 - 1.5,
        "zeros": x * 0, "wide": x * torch.exp2(noise(3, 5000) * 30), "subnormal": x * 1e-41,
    }[kind]  # fmt: skip
    densities = (density, 0.3, 0.0)
    found = cuts(x, densities, grain=777)
    for row, p, cut in zip(x, densities, found, strict=True):
        k = max(1, int(p * 5000)) if p else 0
        assert cut == (0.0 if k == 5000 else kth_largest(row, k))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30), st.floats(0, 1))
@how(deadline=None)
def test_the_kth_largest_of_anything(values, density):
    x = torch.tensor([values], dtype=torch.float32)
    k = max(1, int(density * len(values))) if density else 0
    assert cuts(x, (density,)) == ((0.0 if k == len(values) else kth_largest(x[0], k)),)


def test_ranks_of_signed_numbers():
    third = np.float32(1 / 3)  # its lower half is not zero, and it shares the upper one with 0.333
    scores = np.array([
        [3, -1, 0.5, -7, 0, -0.25], [-1, -2, -3, -4, -5, -6], [third, -third, 0.333, -0.333, 0.33203125, -0.33203125],
    ], np.float32)  # fmt: skip
    block = Block(scores, False, Chance(0, ""))
    high = count_high_halves(iter([block]), lambda b: b.models, 2**16)
    ordered = -np.sort(-scores, axis=1)
    for k in range(1, 7):
        found, count = driven(kth_inside(high, [(k, 1)] * 3, lambda b: b.models), block)
        assert found == [tuple(row[[k - 1, 0]].tolist()) for row in ordered] and count == 1
    found, count = driven(kth_inside(high[:2], [(k, 1)] * 2, lambda b: b.models), block)
    assert found == [tuple(row[[5, 0]].tolist()) for row in ordered[:2]] and count == 0  # no more passes are needed


def driven(passes, block):
    """What a measure finds on one block, and how often it goes over it."""
    count = 0
    try:
        look = next(passes)
        while True:
            count += 1
            look = passes.send(look(iter([block])))
    except StopIteration as found:
        return found.value, count


def test_bands_between_the_smallest_and_the_largest():
    def bands(density, gamma):
        passes = middle_bands((10,), {"density": (density,), "gamma": (gamma,)})
        block = Block(np.array([[0.0] * 10, range(1, 11)], np.float32), True, Chance(0, ""))
        return driven(passes, block)[0][0]

    assert bands(0.3, 0.2) == (6, 8)  # 9 and 10 are dropped, and then all below 6
    assert bands(0.3, 0.0) == (8, 10) and bands(0.3, 0.19) == (7, 9)
    assert bands(0.9, 0.3) == (1, 9)  # density first: only one may go from the top
    assert bands(1.0, 0.3) == (0, math.inf) and bands(0.0, 0.3) == bands(0.05, 0.3) == (math.inf, math.inf)


def test_nothing_is_gone_over_when_all_or_nothing_is_kept():
    with pytest.raises(StopIteration) as found:
        next(magnitude_cuts((10,), {"density": (1.0, 0.0, 0.0)}))
    assert found.value.value == (0.0, math.inf, math.inf)


@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 257, 1000, 131_072])
def test_sums_over_elements(length):
    x = noise(3, length).numpy()
    wide = x.astype(np.float64)
    np.testing.assert_allclose(absolute_sums(x), [math.fsum(row) for row in np.abs(wide)], rtol=1e-12, atol=0)
    np.testing.assert_allclose(gram(x), wide @ wide.T, rtol=1e-12, atol=1e-12)


def test_factors_leave_tiny_sums_alone():
    assert l1_factors([4.0, 1e-8, 3.0], [2.0, 1e-9, 0.0]) == (2.0, 1.0, 1.0)


def test_totals_do_not_depend_on_the_order():
    parts = [noise(3, 2, seed=i).double().numpy() * 10.0**i for i in range(8)]
    found = []
    for order in ([0, 1, 2, 3, 4, 5, 6, 7], [5, 2, 7, 0, 1, 3, 6, 4]):
        total = Total()
        for i in order:
            total.add(i, parts[i])
        found.append(total.value())
    assert np.array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], np.concatenate(parts).sum(0))


def test_totals_of_whole_numbers_are_exact():
    total = Total()
    for i in range(3):
        total.add(i, np.array([2**60, i]))
    assert total.value().tolist() == [3 * 2**60, 3]
