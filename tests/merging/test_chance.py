"""Random numbers: by position, uniform, and independent where they should be."""

import math

import numpy as np
import pytest
import torch

from merging.methods.chance import Chance
from merging.methods.loops import draw
from merging.methods.parts import keep_by_chance

COUNT = 1_000_000
SIGMAS = 5  # of a normal distribution: one false alarm in two million


def numbers(chance: Chance, model: int = 0, count: int = COUNT) -> torch.Tensor:
    """int32, as they are drawn."""
    found = np.empty(count, np.int32)
    draw(chance.keys(model + 1)[model], chance.start, found)
    return torch.from_numpy(found)


def uniform(chance: Chance, model: int = 0) -> torch.Tensor:
    return numbers(chance, model).double() / 2**32 + 0.5


def test_the_numbers_are_those_of_splitmix64():
    # The first outputs for the seed 1234567, from the reference program https://prng.di.unimi.it/splitmix64.c.
    found = np.empty(6, np.int32)
    draw(np.uint64(1234567), 0, found)
    assert found.view(np.uint64).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("start", [0, 1, 2, 997, 998, 4097])
@pytest.mark.parametrize("count", [1, 2, 3, 1000, 4099])
def test_a_stretch_is_a_part_of_the_whole(start, count):
    ones = np.ones((2, 10_000), np.float32)
    whole = keep_by_chance(ones, (0.5, 0.3), Chance(7, "w"))
    part = keep_by_chance(ones[:, :count].copy(), (0.5, 0.3), Chance(7, "w", start=start))
    assert np.array_equal(part, whole[:, start : start + count])


@pytest.mark.parametrize("other", [Chance(8, "w"), Chance(7, "v")])
def test_seed_and_tensor_give_other_numbers(other):
    assert not torch.equal(numbers(other, count=100), numbers(Chance(7, "w"), count=100))


def test_each_model_has_its_own():
    a, b = uniform(Chance(0, "w"), 0), uniform(Chance(0, "w"), 1)
    correlation = ((a - 0.5) * (b - 0.5)).mean() * 12
    assert abs(correlation) < SIGMAS / math.sqrt(COUNT)


@pytest.mark.parametrize("seed", range(3))
def test_uniform(seed):
    counts = torch.histc(uniform(Chance(seed, "w")), 256, 0, 1)
    chi_square = ((counts - COUNT / 256) ** 2 / (COUNT / 256)).sum().item()
    assert abs(chi_square - 255) < SIGMAS * math.sqrt(2 * 255)


@pytest.mark.parametrize("lag", [1, 2, 3, 64, 1024])
def test_neighbours_are_not_alike(lag):
    x = uniform(Chance(0, "w")) - 0.5
    correlation = (x[lag:] * x[:-lag]).mean() * 12
    assert abs(correlation) < SIGMAS / math.sqrt(COUNT)


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_is_set_half_the_time(bit):
    share = (numbers(Chance(0, "w")) >> bit & 1).double().mean()
    assert abs(share - 0.5) < SIGMAS * 0.5 / math.sqrt(COUNT)


@pytest.mark.parametrize("probability", [0.0, 1e-3, 0.2, 0.5, 0.9, 1.0])
def test_keeps_the_share_that_was_asked_for(probability):
    kept = keep_by_chance(np.ones((1, COUNT), np.float32), (probability,), Chance(0, "w"))
    assert set(np.unique(kept).tolist()) <= {0.0, 1.0}
    assert abs(kept.mean(dtype=float) - probability) <= SIGMAS * math.sqrt(probability * (1 - probability) / COUNT)
