"""The reference itself: at the edges, and by hand where no golden of mergekit's can judge it."""

import inspect
import math

import numpy as np
import pytest

from tests.merging import reference as ref
from tests.merging.reference.chance import mixed

METHODS = [name for name in ref.__all__ if name not in ("della_probabilities", "kept")]
SHAPES = [(), (0,), (1,), (7,), (2, 3, 4), (3, 0), (0, 7), (1, 5), (5, 1), (12, 9)]
COUNTS = {"nuslerp": 2} | dict.fromkeys(("slerp", "passthrough", "nearswap", "arcee_fusion", "wise_ft"), 1)
SETTINGS = {"weight": 0.5, "density": 0.5, "gamma": 0.1, "scale": 1.0, "tall_mask_lambda": 0.4}


def run(name, base, models, **settings):
    """A setting that is not given has a middling value; one for all models where it is one for each."""
    function, count = getattr(ref, name), len(models)
    known = {"base": base, "t": 0.3, "depth": 0.5, "masks": np.arange(models.size).reshape(models.shape) % 3 > 0}
    for p in inspect.signature(function).parameters.values():
        if "list" in str(p.annotation):
            value = settings.get(p.name, SETTINGS[p.name])
            settings[p.name] = value if isinstance(value, list) else [value] * count
        elif p.name in known:
            settings.setdefault(p.name, known[p.name])
    return function(models=models, **settings)


def floats(*rows):
    return np.array(rows, float)


@pytest.mark.parametrize("name", METHODS)
def test_gives_a_finite_number_for_every_element(name):
    chance = np.random.RandomState(1)
    for shape in SHAPES:
        base = np.array(chance.standard_normal(shape))
        for spread in (0, 1e-9, 0.3):
            models = base + spread * chance.standard_normal((COUNTS.get(name, 3), *shape))
            merged = np.asarray(run(name, base, models))
            assert merged.shape == shape and np.isfinite(merged).all()
            if spread == 0:  # models that are all the base give the base
                np.testing.assert_allclose(merged, base, atol=1e-12)


# Averages


def test_nuslerp_goes_straight_between_opposite_changes():
    # t = 3/4: 1/4 of [3 4] and 3/4 of [-3 -4]
    changes = floats([3, 4], [-3, -4])
    np.testing.assert_allclose(ref.nuslerp(changes, [1, 3], base=np.zeros(2)), [-1.5, -2])


def test_nuslerp_takes_rows_or_columns():
    # t = 1/2 at right angles: sin(45 deg) of each. Rows [1 0] and [0 1] are; the columns of the second are nothing
    a, b = floats([1, 0], [1, 0]), floats([0, 1], [0, 1])
    half = math.sin(math.pi / 4)
    np.testing.assert_allclose(ref.nuslerp(np.array([a, b]), [1, 1], nuslerp_flatten=False), half * (a + b))
    # columns: the first two are [1 1] and nothing, the second ones nothing and [1 1]
    by_columns = ref.nuslerp(np.array([a, 2 * a]), [1, 1], nuslerp_flatten=False, nuslerp_row_wise=True)
    np.testing.assert_allclose(by_columns, 1.5 * a)


def test_directions_and_lengths_are_averaged_apart():
    # [3 0] and [0 1]: the direction in the middle, the length 2
    models = floats([3, 0], [0, 1])
    for merged in (ref.karcher(models), ref.multislerp(models, [1, 1])):
        np.testing.assert_allclose(merged, [math.sqrt(2), math.sqrt(2)])
    # weights 3 and 1: the direction of [3 1], the length 2.5
    np.testing.assert_allclose(ref.multislerp(models, [3, 1]), floats(3, 1) / math.sqrt(10) * 2.5, rtol=1e-7)


def test_karcher_finds_the_mean_on_the_sphere():
    # [1 0 0] twice and [0 1 0]: a third of the way, 30 degrees
    merged = ref.karcher(floats([1, 0, 0], [1, 0, 0], [0, 1, 0]))
    np.testing.assert_allclose(merged, [math.cos(math.pi / 6), math.sin(math.pi / 6), 0], atol=1e-5)


def test_karcher_passes_over_what_is_opposite_and_what_has_no_direction():
    assert ref.karcher(floats([2, 0], [-4, 0])).tolist() == [3, 0]
    assert ref.karcher(floats([2, 0], [0, 0])).tolist() == [1, 0]  # which counts in the mean length


def test_multislerp_adds_where_directions_cancel():
    # three changes of none: the base; opposite ones of length 3 and 1, half of each
    base = floats(1, 2)
    assert ref.multislerp(np.array([base] * 3), [1, 1, 1], base=base).tolist() == [1, 2]
    assert ref.multislerp(floats([3, 0], [-1, 0]), [1, 1]).tolist() == [1, 0]


def test_model_stock_by_hand():
    base = np.zeros(2)
    # the same change: cos 1, t = 2 / 2; at a right angle: t = 0
    np.testing.assert_allclose(ref.model_stock(base, floats([1, 2], [1, 2])), [1, 2])
    assert ref.model_stock(base, floats([1, 0], [0, 1])).tolist() == [0, 0]
    # cos 0.6: t = 1.2 / 1.6 of the mean [0.8 0.4]
    np.testing.assert_allclose(ref.model_stock(base, floats([1, 0], [0.6, 0.8])), [0.6, 0.3])
    # opposite: 1 + (2 - 1) * -1 = 0 keeps the base
    assert ref.model_stock(base, floats([1, 0], [-3, 0])).tolist() == [0, 0]


def test_model_stock_by_rows():
    models = np.array([floats([1, 2], [1, 0]), floats([1, 2], [0, 1])])
    np.testing.assert_allclose(ref.model_stock(np.zeros((2, 2)), models, filter_wise=True), [[1, 2], [0, 0]])


def test_arcee_fusion_by_hand():
    # rows of [0 0], moved to [a -a]: importance a * KL(a), which grows with a. Ascending: pairs of 0, .1, .2, 3;
    # quartiles at 7 // 4 = 1 (of 0), 3 (of .1) and 5 (of .2): the cut is above .2's and below 3's
    changes = floats([0, 0], [0.1, -0.1], [0.2, -0.2], [3, -3])
    merged = ref.arcee_fusion(np.zeros((4, 2)), changes[None])
    assert merged.tolist() == [[0, 0], [0, 0], [0, 0], [3, -3]]


def test_wise_ft_and_nearswap_by_hand():
    assert ref.wise_ft(floats(0, 2), floats([4, 4]), alpha=0.25).tolist() == [1, 2.5]
    # shares .5 / .25 -> 1 and .5 / 2 -> a quarter
    assert ref.nearswap(floats(0, 0), floats([0.25, -2]), t=0.5).tolist() == [0.25, -0.5]


# Task vectors


def test_breadcrumbs_by_hand():
    # of 4, int(.25 * 4) = 1 is dropped from the top and 2 are kept: [3 2]; with a tie at the bottom, all three
    assert ref.breadcrumbs(np.zeros(4), floats([4, -3, 2, 1]), [1], [0.5], [0.25]).tolist() == [0, -3, 2, 0]
    assert ref.breadcrumbs(np.zeros(5), floats([5, -3, 2, 2, 1]), [1], [0.4], [0.2]).tolist() == [0, -3, 2, 2, 0]
    # .75 + .5 is too much: the three smallest
    assert ref.breadcrumbs(np.zeros(4), floats([4, -3, 2, 1]), [1], [0.75], [0.5]).tolist() == [0, -3, 2, 1]


def test_della_keeps_by_rank():
    chances = ref.della_probabilities(floats([4, -1, 2], [5, 5, 5], [1, 3, 3]), 0.5, 0.2)
    np.testing.assert_allclose(chances, [[0.7, 0.3, 0.5], [0.5, 0.5, 0.5], [0.3, 0.6, 0.6]])
    assert ref.della_probabilities(floats([4], [1]), 0.4, 0.2).tolist() == [[0.4], [0.4]]
    assert ref.della_probabilities(floats([4, 1]), 1.0, 0.2).tolist() == [[1, 1]]


def test_chance_is_splitmix64():
    # the first outputs for the seed 1234567, from the reference program https://prng.di.unimi.it/splitmix64.c
    assert mixed(1234567, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert ref.kept(0, "w", 0, np.full((3, 5), 1.0)).all() and not ref.kept(0, "w", 0, np.zeros((3, 5))).any()
    assert abs(ref.kept(0, "w", 0, np.full(10_000, 0.3)).mean() - 0.3) < 0.025


def test_lines_by_hand():
    # 2 * 3 - 1 = 5, times .5 + .25 * depth
    changes = floats([3], [1])
    found = [ref.lines(np.zeros(1), changes, d, [2, -1], alpha=0.5, beta=0.25)[0] for d in (0, 0.5, 1)]
    assert found == [2.5, 3.125, 3.75]


# Votes


def test_sce_by_hand():
    # energies 16 + 4 and 4 + 1: weights .8 and .2. At 1: both +; at 2 the sum 2 - 1 > 0 leaves the first
    merged = ref.sce(np.zeros(2), floats([4, 2], [2, -1]))
    np.testing.assert_allclose(merged, [0.8 * 4 + 0.2 * 2, 2])
    # differences 2 and 3: of two that differ, int(2 * .5) = 1 is kept
    np.testing.assert_allclose(ref.sce(np.zeros(2), floats([4, 2], [2, -1]), select_topk=0.5), [0, 2])
    # small changes weigh alike
    np.testing.assert_allclose(ref.sce(np.zeros(1), floats([4e-4], [2e-4])), [3e-4])


def test_ram_by_hand():
    changes = floats([4, 2, 0, 1e-6], [2, 0, -3, 0])
    assert ref.ram(np.zeros(4), changes).tolist() == [3, 2, -3, 0]
    # each has one of its own and shares one: 1 + .5 * min(1 / 1, .4)
    np.testing.assert_allclose(ref.ramplus_tl(np.zeros(4), changes, r=0.5, alpha=0.4), [3, 2.4, -3.6, 0])


def test_consensus_by_hand():
    # sums 6, 3, 0; at 1: 4 > .4 * 2 and 2 > .4 * 4; at 2: only 3 > 0; at 3: both 1 > .4, and the sum is 0
    changes = floats([4, 3, 1], [2, 0, -1])
    assert ref.consensus(np.zeros(3), changes, [0.4, 0.4], lambda_=0.5).tolist() == [3, 0, 0]
    assert ref.consensus(np.zeros(3), changes, [0.4, 0.4], prun_thre_k=1).tolist() == [6, 3, 0]
    assert ref.consensus(np.zeros(3), changes, [0.4, 0.6]).tolist() == [0, 0, 0]  # 2 > .6 * 4 is false


def test_pcb_by_hand():
    # one model alone is trimmed: int(.5 * 4) = 2
    np.testing.assert_allclose(ref.pcb(np.zeros(4), floats([4, -3, 1, 0]), density=0.5), [4, -3, 0, 0])
    # sums [1 2]. First: m = [1 0], scores [e^2 tanh 2, tanh 2], weights [1 0]; second: m = 0, scores [tanh -1, tanh 2],
    # weights [0 1]
    assert ref.pcb(np.zeros(2), floats([2, 1], [-1, 1]), density=1.0, lambda_=3).tolist() == [6, 3]


# Singular vectors


def outer(u, v):
    return np.outer(np.array(u, float), np.array(v, float))


def test_tsv_keeps_what_does_not_interfere():
    # r // T = 1 direction of each: orthogonal ones stay as they are, and the second of the first model goes
    first, second = 3 * outer([1, 0, 0], [1, 0]) + outer([0, 0, 1], [0, 1]), 2 * outer([0, 1, 0], [0, 1])
    merged = ref.tsv(np.zeros((3, 2)), np.array([first, second]))
    np.testing.assert_allclose(merged, [[3, 0], [0, 2], [0, 0]], atol=1e-12)


def test_tsv_of_the_same_direction_twice_is_its_mean():
    one = outer([1, 2, 2], [3, 4])
    np.testing.assert_allclose(ref.tsv(np.zeros((3, 2)), np.array([one, 3 * one])), 2 * one)


def test_tsv_turns_directions_apart():
    # left vectors at 60 degrees, right ones orthogonal: the left ones move 15 degrees each, to a right angle
    at = [math.radians(15), math.radians(75)]
    changes = [outer([math.cos(a), math.sin(a)], v) for a, v in zip(at, ([1, 0], [0, 1]), strict=True)]
    np.testing.assert_allclose(ref.tsv(np.zeros((2, 2)), np.array(changes)), np.eye(2), atol=1e-12)


@pytest.mark.parametrize("name", ["iso_c", "iso_cts"])
def test_iso_makes_all_directions_equally_strong(name):
    changes = np.random.RandomState(3).standard_normal((3, 12, 8))
    values = np.linalg.svd(run(name, np.zeros((12, 8)), changes), compute_uv=False)
    np.testing.assert_allclose(values, values[0])
    if name == "iso_c":
        np.testing.assert_allclose(values.mean(), np.linalg.svd(changes.sum(0), compute_uv=False).mean())


def test_iso_leaves_out_directions_that_are_not_there():
    # singular values 3 and 1 of three: their mean, twice
    merged = ref.iso_c(np.zeros((3, 3)), np.diag([3.0, 1, 0])[None])
    np.testing.assert_allclose(merged, np.diag([2.0, 2, 0]), atol=1e-12)


def test_iso_cts_without_directions_of_their_own_is_iso_c():
    base, changes = np.zeros((12, 8)), np.random.RandomState(3).standard_normal((3, 12, 8))
    alone, shared = changes[:1], ref.iso_cts(base, changes, common_space_fraction=1.0)
    np.testing.assert_allclose(shared, ref.iso_c(base, changes), atol=1e-12)
    np.testing.assert_allclose(ref.iso_cts(base, alone), ref.iso_c(base, alone), atol=1e-12)


@pytest.mark.parametrize("name", ["tsv", "iso_c", "iso_cts"])
def test_vectors_and_tables_get_the_mean(name):
    table = np.random.RandomState(3).standard_normal((3, 12, 8))
    for models, given in ((table, {"table": True}), (table.reshape(3, 96), {}), (table.reshape(3, 2, 6, 8), {})):
        merged = run(name, np.zeros(models.shape[1:]), models, lambda_=2.0, **given)
        np.testing.assert_allclose(merged, 2 * models.mean(0))
