"""Random numbers: by position, uniform, and independent where they should be."""

import math

import numpy as np
import pytest
import torch

from merging.methods.chance import Chance
from merging.methods.loops.keeping import draw
from merging.methods.parts import keep_by_chance

COUNT = 1_000_000
SIGMAS = 5  # of a normal distribution: one false alarm in two million


def halves(chance: Chance, model: int = 0, count: int = COUNT) -> np.ndarray:
    """The stream from `start` on, 16 bits for each element."""
    found = np.empty(count, np.uint16)
    draw(chance.keys(model + 1)[model], chance.start, found)
    return found


def kept(chance: Chance, probability: float, models: int = 1) -> torch.Tensor:
    """What is kept of ones, less the probability: [models, COUNT], of mean 0."""
    ones = np.ones((models, COUNT), np.float32)
    return torch.from_numpy(keep_by_chance(ones, (probability,) * models, chance)).double() - probability


def uniform(chance: Chance, model: int = 0) -> torch.Tensor:
    """The numbers of the elements, from 0 to 1."""
    low, high = (part.astype(np.int64) for part in (halves(chance, model), halves(chance, model)[1:]))
    return torch.from_numpy(((high & 0x7FFF) << 16 | low[:-1]) / 2**31)


def test_the_numbers_are_those_of_splitmix64():
    # The first outputs for the seed 1234567, from the reference program https://prng.di.unimi.it/splitmix64.c.
    found = np.empty(12, np.uint16)
    draw(np.uint64(1234567), 0, found)
    assert found.view(np.uint64).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 997, 998, 4097])
@pytest.mark.parametrize("count", [1, 2, 3, 1000, 4099])
def test_a_stretch_is_a_part_of_the_whole(start, count):
    ones = np.ones((2, 10_000), np.float32)
    whole = keep_by_chance(ones, (0.5, 0.3), Chance(7, "w"))
    part = keep_by_chance(ones[:, :count].copy(), (0.5, 0.3), Chance(7, "w", start=start))
    assert np.array_equal(part, whole[:, start : start + count])


@pytest.mark.parametrize("other", [Chance(8, "w"), Chance(7, "v")])
def test_seed_and_tensor_give_other_numbers(other):
    assert not np.array_equal(halves(other, count=100), halves(Chance(7, "w"), count=100))


def test_each_model_has_its_own():
    a, b = uniform(Chance(0, "w"), 0), uniform(Chance(0, "w"), 1)
    correlation = ((a - 0.5) * (b - 0.5)).mean() * 12
    assert abs(correlation) < SIGMAS / math.sqrt(COUNT)


@pytest.mark.parametrize("seed", range(3))
def test_uniform(seed):
    x = uniform(Chance(seed, "w"))
    expected = len(x) / 256
    chi_square = ((torch.histc(x, 256, 0, 1) - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 255) < SIGMAS * math.sqrt(2 * 255)


@pytest.mark.parametrize("lag", [1, 2, 3, 64, 1024])
def test_neighbours_are_not_alike(lag):
    x = uniform(Chance(0, "w")) - 0.5
    correlation = (x[lag:] * x[:-lag]).mean() * 12
    assert abs(correlation) < SIGMAS / math.sqrt(COUNT)


@pytest.mark.parametrize("bit", range(16))
@pytest.mark.parametrize("place", range(4))
def test_every_bit_is_set_half_the_time(bit, place):
    share = (halves(Chance(0, "w"), count=4 * COUNT)[place::4] >> bit & 1).mean(dtype=float)
    assert abs(share - 0.5) < SIGMAS * 0.5 / math.sqrt(COUNT)


@pytest.mark.parametrize("probability", [0.0, 1e-3, 0.2, 0.5, 0.9, 1.0])
def test_keeps_the_share_that_was_asked_for(probability):
    kept = keep_by_chance(np.ones((1, COUNT), np.float32), (probability,), Chance(0, "w"))
    assert set(np.unique(kept).tolist()) <= {0.0, 1.0}
    assert abs(kept.mean(dtype=float) - probability) <= SIGMAS * math.sqrt(probability * (1 - probability) / COUNT)


@pytest.mark.parametrize("probability", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 64, 1024])
def test_what_is_kept_of_neighbours_is_independent(probability, lag):
    (x,) = kept(Chance(3, "w"), probability)
    assert_unrelated(x[lag:], x[:-lag], probability)


@pytest.mark.parametrize("probability", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("other", [Chance(4, "w"), Chance(3, "v"), Chance(3, "w", start=4 * COUNT)])
def test_what_is_kept_of_tensors_seeds_and_models_is_independent(probability, other):
    one, two = kept(Chance(3, "w"), probability, models=2)
    (there,) = kept(other, probability)
    assert_unrelated(one, there, probability)
    assert_unrelated(one, two, probability)
    for lag in (1, 3, 4, 100):  # no stream runs behind another
        assert_unrelated(one[lag:], there[:-lag], probability)
        assert_unrelated(one[:-lag], two[lag:], probability)


def assert_unrelated(x: torch.Tensor, y: torch.Tensor, probability: float) -> None:
    correlation = (x * y).mean() / (probability * (1 - probability))
    assert abs(correlation) < SIGMAS / math.sqrt(len(x))


@pytest.mark.parametrize("place", range(4))
def test_four_that_share_a_word_are_kept_together_as_by_chance(place):
    """Of all patterns of four neighbours, each as often as independent choices have it."""
    (x,) = kept(Chance(5, "w"), 0.5)
    patterns = ((x[place:].unfold(0, 4, 4) > 0) * torch.tensor([1, 2, 4, 8])).sum(1)
    expected = len(patterns) / 16
    chi_square = ((torch.bincount(patterns, minlength=16) - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 15) < SIGMAS * math.sqrt(2 * 15)


@pytest.mark.parametrize("probability", [2e-6, 1e-5 + 1 / 2**18])
def test_a_probability_is_finer_than_the_bits_that_are_an_elements_own(probability):
    ones = np.ones((1, 16 * COUNT), np.float32)
    count = keep_by_chance(ones, (probability,), Chance(0, "w")).sum(dtype=float)
    assert abs(count - ones.size * probability) < SIGMAS * math.sqrt(ones.size * probability)
