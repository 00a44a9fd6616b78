"""The loss between models: a barrier where they share no training, none where they do."""

import numpy as np
import pytest

from evaluation.bench import Bench
from evaluation.examine import at_once
from evaluation.path import between, walk
from merging.errors import MergeError
from merging.recipe import ModelRef, settings_for
from tests.evaluation.conftest import few, opened, ref
from tests.evaluation.made_up import Fake, mark

A, B = ModelRef("a"), ModelRef("b")


def test_the_barrier_of_a_worked_example():
    """Losses 1, 2, 5, 3, 3: the chord is 1, 1.5, 2, 2.5, 3, and the highest point 3 above it, in the middle."""
    losses = {0: 1.0, 0.25: 2.0, 0.5: 5.0, 0.75: 3.0, 1: 3.0}
    examine = Fake(lambda subject: [mark(losses[settings_for(subject.recipe, "w")["weight"][1]])] * 4)
    path = at_once(walk(A, B, few(1), examine, points=5))
    (barrier,) = path.barriers
    assert path.losses("all") == [1, 2, 5, 3, 3] and path.chord("all") == [1, 1.5, 2, 2.5, 3]
    assert (barrier.height.value, barrier.at, barrier.is_clear) == (3.0, 0.5, True)
    assert (barrier.height.low, barrier.height.high) == (3.0, 3.0)


def test_a_path_below_its_chord_has_no_barrier():
    examine = Fake(lambda subject: [mark(settings_for(subject.recipe, "w")["weight"][1] ** 2)] * 4)
    (barrier,) = at_once(walk(A, B, few(1), examine, points=7)).barriers
    assert barrier.height.value < 0 and not barrier.is_clear


def test_the_interval_is_that_of_a_plain_loop_over_resampled_examples():
    """The point that is highest may be another one in every sample, and all points have the same examples."""
    rng = np.random.default_rng(5)
    bumps = {share: rng.normal(share * (1 - share), 1, 30) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    examine = Fake(lambda subject: [mark(x) for x in bumps[settings_for(subject.recipe, "w")["weight"][1]]])
    (found,) = at_once(walk(A, B, few(30), examine, points=5)).barriers

    def height(of):
        losses = [bumps[share][of].mean() for share in bumps]
        return max(losses[i] - (1 - i / 4) * losses[0] - i / 4 * losses[-1] for i in (1, 2, 3))

    assert found.height.value == pytest.approx(height(np.arange(30)))
    drawn = np.quantile([height(rng.integers(0, 30, 30)) for _ in range(4000)], [0.025, 0.975])
    assert (found.height.low, found.height.high) == pytest.approx(drawn, abs=0.06)


def test_the_ends_are_the_models_themselves():
    assert settings_for(between(A, B, 0.0), "w")["weight"] == (1.0, 0.0)
    with pytest.raises(MergeError, match="3 to 101 points"):
        at_once(walk(A, B, few(1), Fake(lambda subject: [mark()]), points=2))
    with pytest.raises(MergeError, match="Both ends"):
        at_once(walk(A, A, few(1), Fake(lambda subject: [mark()])))


def test_in_the_zoo_a_stranger_lies_behind_a_barrier_and_a_fine_tune_does_not():
    bench = Bench(opened("reverse", "add", "stranger"), memory_bytes=10**9)
    held_out = few(8, "bigger")
    sibling = at_once(walk(ref("reverse"), ref("add"), held_out, bench.marks))
    stranger = at_once(walk(ref("reverse"), ref("stranger"), held_out, bench.marks))
    bench.close()
    assert len(sibling.points) == len(stranger.points) == 7
    (near,), (far,) = sibling.barriers, stranger.barriers
    assert near.height.value < 0.1 and near.height.low < 0.05
    assert far.is_clear and far.height.value > 1 and 0.2 < far.at < 0.8
