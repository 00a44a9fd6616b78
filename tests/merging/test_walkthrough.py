"""Walkthroughs end where the methods themselves do, to the bit."""

import numpy as np
import pytest
import torch

from merging.errors import MergeError
from merging.methods import METHODS
from merging.methods.chance import Chance
from merging.methods.spec import Block, compute
from merging.totals import measure_alone
from merging.walkthrough import TENSOR, WALKS, walk
from tests.merging import kernels

BASE = [0.5, -1.25, 0.03, 2.0, -0.7, 0.0]
ONE = [0.61, -1.0, 0.03, 1.9, -0.2, 1e-3]
TWO = [0.4, -1.5, 0.05, 1.8, -0.9, -1e-3]
GIVEN = {
    "task_arithmetic": [{"weight": 0.7}, {"weight": [0.7, -0.3], "lambda": 1.5},
                        {"weight": [0.2, 0.4], "normalize": True}],
    "ties": [
        {"weight": 1.0, "density": 0.5},
        {"weight": [0.6, 0.9], "density": [0.34, 0.8], "normalize": False, "lambda": 0.7},
        {"weight": [1.0, 0.5], "density": 0.5, "rescale": True},
        {"weight": 1.0, "density": 0.0},
    ],
    "dare_linear": [{"weight": 0.7, "density": 0.5}, {"weight": [0.7, 0.2], "density": 0.4, "rescale": False}],
    "slerp": [{"t": 0.3}, {"t": 0.0}, {"t": 1}],
}  # fmt: skip
CASES = [(method, given) for method, several in GIVEN.items() for given in several]


def by_method(method, base, models, given, seed):
    tensors = torch.tensor(models, dtype=torch.float32), torch.tensor(base, dtype=torch.float32)
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    settings = kernels.settings_of(METHODS[method], len(models), chosen)
    wide = torch.cat([tensors[1][None], tensors[0]]).numpy()
    block = Block(wide, True, Chance(seed, TENSOR, 0), wide.shape[1])
    measured = measure_alone(METHODS[method], block, (wide.shape[1],), settings)
    return np.asarray(compute(METHODS[method], block, measured, settings))


@pytest.mark.parametrize(("method", "given"), CASES)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_last_step_is_what_the_method_computes(method, given, seed):
    models = [ONE] if method == "slerp" else [ONE, TWO]
    found = walk(method, BASE, models, given, seed=seed)
    assert np.array(found.result, np.float32).tolist() == by_method(method, BASE, models, given, seed).tolist()


@pytest.mark.parametrize(("method", "given"), CASES)
def test_the_same_of_many_numbers(method, given):
    g = np.random.default_rng(0)
    base, one, two = (g.normal(0, 0.02, 500).tolist() for _ in range(3))
    models = [one] if method == "slerp" else [one, two]
    found = walk(method, base, models, given)
    assert np.array(found.result, np.float32).tolist() == by_method(method, base, models, given, 0).tolist()
    assert all(step.title and step.sentence.endswith(".") and step.lines for step in found.steps)


def test_ties_by_hand():
    """Of 1, -3, 0.5 and -2, 2, 0.1 the two largest are kept: 1, -3 and -2, 2. The sums are -1, -1 and 0."""
    found = walk("ties", [0.0] * 3, [[1.0, -3.0, 0.5], [-2.0, 2.0, 0.1]], {"weight": 1.0, "density": 0.67},
                 names=["a", "b"])  # fmt: skip
    told = {step.title: {line.label: line.values for line in step.lines} for step in found.steps}
    assert told["Trim"] == {"a": (1, -3, 0), "b": (-2, 2, 0)}
    assert told["Elect a sign"]["elected"] == (-1, -1, 1)
    assert told["Keep those that agree"] == {"a": (0, -3, 0), "b": (-2, 0, 0)}
    assert found.result == (-2, -3, 0)
    assert "2 of 4 kept changes" in found.steps[4].sentence


def test_slerp_says_when_it_is_a_line():
    assert "straight line" in walk("slerp", [1.0, 0.0], [[1.0, 0.001]], {"t": 0.5}).steps[1].sentence
    assert "along the arc" in walk("slerp", [1.0, 0.0], [[0.0, 1.0]], {"t": 0.5}).steps[1].sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("tsv", [1.0], [[1.0]], {}), "tsv cannot be walked through"),
        (("ties", [1.0], [], {}), "0 models were given"),
        (("ties", [], [[]], {}), "The base has 0 numbers"),
        (("ties", [1.0, 2.0], [[1.0]], {"weight": 1.0}), "model 1 has 1"),
        (("ties", [1.0], [[1e300]], {"weight": 1.0}), "not finite"),
        (("ties", [1.0], [[1.0]], {"weight": 300}), "must be between"),
        (("ties", [1.0], [[1.0]], {"weight": [1.0, 2.0]}), "2 values for 1 models"),
        (("ties", [1.0], [[1.0]], {}), "weight has no value"),
        (("slerp", [1.0], [[1.0], [2.0]], {"t": 0.5}), "takes one model"),
        (("task_arithmetic", [1.0], [[1.0], [2.0]], {"weight": [1.0, -1.0], "normalize": True}), "sum to zero"),
    ],
)
def test_what_cannot_be_walked_through_is_said(given, words):
    with pytest.raises(MergeError, match=words):
        walk(*given)


def test_every_walk_is_of_a_method():
    assert set(WALKS) <= set(METHODS)
