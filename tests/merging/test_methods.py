"""Laws that every registered method must keep. A new method is covered as soon as it is declared."""

import inspect
import math
import pkgutil
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

import merging.methods
from merging.methods import METHODS, Method
from merging.methods.parts import importance
from merging.methods.spec import method as declare
from tests.merging.kernels import noise, run, settings_of

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
with_base = pytest.mark.parametrize("method", [m for m in METHODS.values() if m.needs_base], ids=lambda m: m.name)
of_many = pytest.mark.parametrize("method", [m for m in METHODS.values() if m.max_models is None], ids=lambda m: m.name)
weighted = pytest.mark.parametrize(  # without weights there is no weight of zero
    "method", [m for m in METHODS.values() if m.max_models is None and m.param("weight")], ids=lambda m: m.name
)
SHAPES = [(), (0,), (1,), (7,), (2, 3, 4), (3, 0)]


def count(method: Method) -> int:
    return method.max_models or 3


@every_method
@given(seed=st.integers(0, 2**16))
@how(max_examples=10, deadline=None)
def test_merging_identical_models_changes_nothing(method, seed):
    base = noise(5, 3, seed=seed)
    torch.testing.assert_close(run(method.name, torch.stack([base] * count(method)), base), base)


@pytest.mark.parametrize("name", [m.name for m in METHODS.values() if m.takes_base and not m.needs_base])
def test_a_base_that_may_be_left_out(name):
    models, base = noise(2, 5, 3, seed=1), noise(5, 3)
    alone = run(name, models, weight=(0.5, 1.0))
    assert not torch.equal(alone, run(name, models, base, weight=(0.5, 1.0)))
    assert torch.equal(alone, run(name, models, torch.zeros(5, 3), weight=(0.5, 1.0)))
    torch.testing.assert_close(run(name, torch.stack([base, base]), weight=(0.5, 1.0)), base)


@every_method
def test_inputs_are_left_alone(method):
    base, models = noise(40), noise(count(method), 40, seed=1)
    before = base.clone(), models.clone()
    run(method.name, models, base, density=0.5)
    assert torch.equal(base, before[0]) and torch.equal(models, before[1])


@every_method
def test_the_same_bits_again(method):
    base, models = noise(400), noise(count(method), 400, seed=1)
    first, second = (run(method.name, models, base, density=0.5, seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, run(method.name, models, base, density=0.5, seed=4)) is not method.random


@every_method
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
def test_any_shape(method, shape, density):
    merged = run(method.name, torch.ones(count(method), *shape), torch.zeros(shape), density=density)
    assert merged.shape == shape and merged.dtype == torch.float32 and merged.isfinite().all()


@every_method
def test_zeros_stay_zeros(method):
    merged = run(method.name, torch.zeros(count(method), 9), torch.zeros(9), density=0.5)
    assert torch.equal(merged, torch.zeros(9))


@of_many
def test_the_order_of_models_does_not_matter(method):
    base, models = noise(20, 15), noise(3, 20, 15, seed=1)
    weights, order = (0.5, 1.0, -0.25), [2, 0, 1]
    first = run(method.name, models, base, weight=weights)
    second = run(method.name, models[order], base, weight=tuple(weights[i] for i in order))
    torch.testing.assert_close(first, second)


@weighted
def test_a_weight_of_zero_is_as_good_as_no_model(method):
    base, models = noise(300), noise(3, 300, seed=1)
    with_it = run(method.name, models, base, weight=(0.5, 1.0, 0.0), density=0.5)
    without = run(method.name, models[:2], base, weight=(0.5, 1.0), density=0.5)
    torch.testing.assert_close(with_it, without)


@with_base
@pytest.mark.parametrize("setting", [{"weight": 0.0, "t": 0.0}, {"density": 0.0, "t": 0.0}], ids=["weight", "density"])
def test_taking_nothing_gives_the_base(method, setting):
    if not any(method.param(name) for name in setting):
        pytest.skip("has no such setting")
    base, models = noise(300), noise(count(method), 300, seed=1)
    if method.name == "task_arithmetic" and "density" in setting:
        pytest.skip("density has no effect on it")
    torch.testing.assert_close(run(method.name, models, base, **setting), base)


@every_method
def test_declares_what_forms_and_cards_need(method):
    assert method.name == method.fn.__name__ and method.title
    assert method.summary.endswith(".") and "\n" not in method.summary
    assert method.min_models >= 1 and (method.max_models is None or method.max_models >= method.min_models)
    for p in method.params:
        assert p.help.endswith(".") and p.type in (bool, int, float), p.name
        assert (p.range is not None) is (p.type is not bool), p.name
        if p.range is not None:
            assert p.range.low < p.range.high and (p.default is None or p.default in p.range), p.name
            assert p.default is not None or p.range.start in p.range, p.name


def test_methods_with_a_paper():
    assert [m.name for m in METHODS.values() if not m.paper] == ["passthrough"]
    assert all(m.paper.startswith("https://") for m in METHODS.values() if m.paper)


def test_every_file_of_methods_is_imported():
    files = {m.name for m in pkgutil.iter_modules(merging.methods.__path__)}
    assert files - {"spec", "parts", "loops", "gpu", "arrays", "measures", "chance"} <= set(dir(merging.methods))


# Of mergekit 0.1.5: every method, its parameters and their defaults; None where one has to be given.
VOTES = {"weight": None, "density": 1.0, "lambda": 1.0, "int8_mask": False}
MERGEKIT: dict[str, dict[str, Any]] = {
    "linear": {"weight": None, "normalize": True},
    "slerp": {"t": None},
    "nuslerp": {"weight": None, "nuslerp_row_wise": False, "nuslerp_flatten": True},
    "multislerp": {"weight": None, "normalize_weights": True, "eps": 1e-8},
    "karcher": {"max_iter": 10, "tol": 1e-5},
    "passthrough": {"scale": 1.0},  # there, no scale
    "model_stock": {"filter_wise": False},
    "arcee_fusion": {},
    "nearswap": {"t": None},
    "sce": {"select_topk": 1.0, "int8_mask": False},
    "ram": {"epsilon": 1e-5},
    "ramplus_tl": {"r": 0.1, "alpha": 0.2, "epsilon": 1e-5},
    "task_arithmetic": VOTES | {"normalize": False, "rescale": False},
    "ties": VOTES | {"normalize": True, "rescale": False},
    "dare_ties": VOTES | {"normalize": False, "rescale": True},
    "dare_linear": VOTES | {"normalize": False, "rescale": True},
    "breadcrumbs": VOTES | {"normalize": False, "rescale": False, "gamma": 0.01},
    "breadcrumbs_ties": VOTES | {"normalize": False, "rescale": False, "gamma": 0.01},
    "della": VOTES | {"normalize": True, "rescale": True, "epsilon": 0.15},
    "della_linear": VOTES | {"normalize": False, "rescale": True, "epsilon": 0.15},
}
OURS = {"wise_ft", "lines", "consensus", "pcb", "tsv", "iso_c", "iso_cts"}


@pytest.mark.parametrize("name", MERGEKIT)
def test_what_mergekit_calls_them(name):
    method, theirs = METHODS[name], MERGEKIT[name]
    assert {p.name: p.default for p in method.params} == {n: v for n, v in theirs.items() if method.param(n)}
    assert theirs.keys() == {p.name for p in method.params} | set(method.without_effect)


def test_there_is_no_other_method():
    assert METHODS.keys() == MERGEKIT.keys() | OURS


def test_a_method_is_declared_once_and_takes_what_it_measures():
    with pytest.raises(TypeError, match="linear"):
        declare("Again")(METHODS["linear"].fn)
    with pytest.raises(TypeError, match="no measure"):

        @declare("Lonely")
        def lonely(models, measured):
            """It has no measure."""


def test_signatures_are_all_there_is():
    for m in METHODS.values():
        assert [p.rstrip("_") for p in inspect.getfullargspec(m.fn).kwonlyargs] == [p.name for p in m.params]


# By hand: four numbers each, worked in the comment.


def rows(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_linear_by_hand():
    models = rows([1, 2, 3, 4], [5, 0, -3, 8])
    # (1 * a + 3 * b) / 4
    assert run("linear", models, weight=(1.0, 3.0)).tolist() == [4, 0.5, -1.5, 7]
    # 1 * a + 3 * b
    assert run("linear", models, weight=(1.0, 3.0), normalize=False).tolist() == [16, 2, -6, 28]


def test_passthrough_by_hand():
    assert run("passthrough", rows([1, -2, 3, 0.5]), scale=-0.5).tolist() == [-0.5, 1, -1.5, -0.25]


def test_slerp_by_hand():
    # at a right angle; t = 2/3 takes sin(30 deg) = 1/2 of the base, sin(60 deg) = sqrt(3)/2 of the model
    merged = run("slerp", rows([0, 3, 0, 0]), torch.tensor([2.0, 0, 0, 0]), t=2 / 3)
    torch.testing.assert_close(merged, rows([1, 3 * math.sqrt(3) / 2, 0, 0])[0])


def test_slerp_on_a_line_where_the_arc_is_too_flat_or_has_no_direction():
    base = torch.tensor([1.0, 2, 3, 4])
    # the same direction: (1 - t) * base + t * 2 base
    torch.testing.assert_close(run("slerp", 2 * base[None], base, t=0.25), 1.25 * base)
    # the opposite one: half of each cancels
    assert torch.equal(run("slerp", -base[None], base, t=0.5), torch.zeros(4))
    # nothing has no direction: a right angle, sin(45 deg) of the base
    torch.testing.assert_close(run("slerp", torch.zeros(1, 4), base, t=0.5), base * math.sin(math.pi / 4))


def test_task_arithmetic_by_hand():
    base, models = torch.tensor([1.0, 1, 1, 1]), rows([2, 1, 0, 3], [1, 5, 0, 1])
    # deltas [1 0 -1 2] and [0 4 -1 0]; 1 + 2 * d1 - 0.5 * d2
    assert run("task_arithmetic", models, base, weight=(2.0, -0.5)).tolist() == [3, -1, -0.5, 5]
    # the sum of changes divided by 2 - 0.5 = 1.5, then times lambda 3
    found = run("task_arithmetic", models, base, **{"weight": (2.0, -0.5), "normalize": True, "lambda": 3.0})
    torch.testing.assert_close(found, rows([5, -3, -2, 9])[0])


def test_ties_by_hand():
    base, models = torch.tensor([1.0, 1, 1, 1]), rows([5, -2, 1.1, 3], [3, 2, 1.2, -3])
    # deltas [4 -3 .1 2] and [2 1 .2 -4]; the largest int(.75 * 4) = 3 of each: [4 -3 0 2] and [2 1 0 -4]
    # sums [6 -2 0 -2] elect + - + -; those that agree: [4 2], [-3], none, [-4]; their mean [3 -3 0 -4]
    assert run("ties", models, base, weight=1.0, density=0.75).tolist() == [4, -2, 1, -3]
    # weights count in the vote: .25 * 2 - 1 * ... at the last: .25 * 2 + 1 * -4 < 0; divided by the weights that agree
    found = run("ties", models, base, weight=(1.0, 0.25), density=0.75)
    # weighted [4 -3 0 2] and [.5 .25 0 -1]; sums + - + +; agree [4 .5], [-3], none, [2]; by 1.25, 1, 1, 1
    torch.testing.assert_close(found, rows([1 + 4.5 / 1.25, -2, 1, 3])[0])


@pytest.mark.parametrize("as_stored", [False, True], ids=["widened", "as stored"])
@pytest.mark.parametrize("name", ["ties", "dare_ties", "breadcrumbs_ties", "della", "sce"])
def test_a_tied_vote_elects_plus(name, as_stored):
    # 2 and -2, then -2 and 2: the one that is + goes in, alone
    models = rows([2, -2], [-2, 2]).repeat(1, 2500).bfloat16()
    merged = run(name, models, torch.zeros(5000).bfloat16(), weight=1.0, as_stored=as_stored)
    assert torch.equal(merged, torch.full((5000,), 2.0))


def test_ties_keeps_all_that_are_as_large_as_the_last_one():
    # int(.5 * 4) = 2, and three have the second largest magnitude or more
    merged = run("ties", rows([3, -2, 2, 1]), torch.zeros(4), weight=1.0, density=0.5)
    assert merged.tolist() == [3, -2, 2, 0]


def test_ties_divides_by_one_where_the_weights_that_agree_cancel():
    # weighted [2 0] and [1 0] (both +) with weights 1 and -1, which sum to 0
    merged = run("ties", rows([2, 0], [-1, 0]), torch.zeros(2), weight=(1.0, -1.0))
    assert merged.tolist() == [3, 0]


def test_ties_negates_only_without_normalize():
    delta = rows([2, -1, 0.5, 0])
    assert run("ties", delta, torch.zeros(4), weight=-1.0).tolist() == [2, -1, 0.5, 0]
    assert run("ties", delta, torch.zeros(4), weight=-1.0, normalize=False).tolist() == [-2, 1, -0.5, 0]


def test_ties_rescaled_by_hand():
    # keeps [4 -3], which sum to 7 of the 8 that there were
    merged = run("ties", rows([4, -3, 0.5, -0.5]), torch.zeros(4), weight=1.0, density=0.5, rescale=True)
    torch.testing.assert_close(merged, rows([4 * 8 / 7, -3 * 8 / 7, 0, 0])[0])


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
def test_dare_keeps_the_sum_of_magnitudes(name):
    base, models = noise(10_000), noise(2, 10_000, seed=1)
    merged = run(name, models[:1], base, weight=1.0, density=0.3)
    change, whole = merged - base, models[0] - base
    kept = change != 0
    assert 0.27 < kept.float().mean() < 0.33
    torch.testing.assert_close(change.abs().sum(), whole.abs().sum())
    ratio = (change / whole)[kept]  # every kept change is multiplied by the same number
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-2, atol=0)


def test_dare_without_rescaling_leaves_what_it_keeps():
    base, models = torch.zeros(1000), noise(1, 1000)
    merged = run("dare_linear", models, base, weight=1.0, density=0.5, rescale=False)
    kept = merged != 0
    assert 400 < kept.sum() < 600 and torch.equal(merged[kept], models[0][kept])


def test_dare_drops_from_every_model_on_its_own():
    merged = [run("dare_linear", torch.ones(2, 1000), torch.zeros(1000), weight=w, density=0.5, rescale=False) != 0
              for w in [(1.0, 0.0), (0.0, 1.0)]]  # fmt: skip
    assert 0.4 < (merged[0] == merged[1]).float().mean() < 0.6


HALF = math.sqrt(0.5)


def test_nuslerp_by_hand():
    models = rows([2, 0, 0, 0], [0, 3, 0, 0])
    # a right angle; weights 1 and 2 are t = 2/3: sin(30 deg) = 1/2 of the first, sin(60 deg) of the second
    expected = rows([1, 3 * math.sqrt(3) / 2, 0, 0])[0]
    torch.testing.assert_close(run("nuslerp", models, weight=(1.0, 2.0)), expected)
    # the same arc between what they changed of a base, and added to it
    base = torch.tensor([1.0, -1, 2, 0])
    torch.testing.assert_close(run("nuslerp", models + base, base, weight=(1.0, 2.0)), expected + base)
    # weights that cancel go half the way
    torch.testing.assert_close(run("nuslerp", models, weight=(1.0, -1.0)), rows([2 * HALF, 3 * HALF, 0, 0])[0])


def test_nuslerp_by_rows_and_by_columns():
    models = torch.tensor([[[1.0, 0], [2, 0]], [[0.0, 1], [4, 0]]])
    # rows: [1 0] and [0 1] at a right angle, half-way sin(45 deg) of both; [2 0] and [4 0] on a line, [3 0]
    found = run("nuslerp", models, weight=0.5, nuslerp_flatten=False)
    torch.testing.assert_close(found, rows([HALF, HALF], [3, 0]))
    # columns, by mergekit's word: [1 2] and [0 4] have cos = 8 / (sqrt(5) * 4); [0 0] and [1 0] are at a right angle
    angle = math.acos(2 / math.sqrt(5))
    half = math.sin(angle / 2) / math.sin(angle)
    found = run("nuslerp", models, weight=0.5, nuslerp_flatten=False, nuslerp_row_wise=True)
    torch.testing.assert_close(found, rows([half, HALF], [6 * half, 0]))
    # for one vector both are the whole
    for row_wise in (False, True):
        found = run("nuslerp", models[:, 0], weight=0.5, nuslerp_flatten=False, nuslerp_row_wise=row_wise)
        torch.testing.assert_close(found, rows([HALF, HALF])[0])


def test_nuslerp_goes_straight_where_there_is_no_arc():
    models = rows([1, 2, 3, 4], [-2, -4, -6, -8])
    torch.testing.assert_close(run("nuslerp", models, weight=(3.0, 1.0)), rows([0.25, 0.5, 0.75, 1])[0])


def test_multislerp_by_hand():
    models = rows([2, 0, 0, 0], [0, 4, 0, 0])
    # directions [1 0] and [0 1] with shares 1/4 and 3/4: [1 3] / sqrt(10); mean length 2/4 + 4 * 3/4 = 3.5
    expected = rows([3.5 / math.sqrt(10), 10.5 / math.sqrt(10), 0, 0])[0]
    torch.testing.assert_close(run("multislerp", models, weight=(1.0, 3.0)), expected)
    # not divided by 1 + 3: the same direction, four times as long
    torch.testing.assert_close(run("multislerp", models, weight=(1.0, 3.0), normalize_weights=False), 4 * expected)
    # of one model nothing changes; directions that cancel leave the weighted sum, 1/2 * 2 - 1/2 * 4
    assert run("multislerp", models[:1], weight=7.0).tolist() == [2, 0, 0, 0]
    assert run("multislerp", rows([2, 0], [-4, 0]), weight=1.0).tolist() == [-1, 0]
    # weights that sum to zero, not divided by it: the direction [1 -1] / sqrt(2), of length 2 - 4
    found = run("multislerp", models, weight=(1.0, -1.0), normalize_weights=False)
    torch.testing.assert_close(found, rows([-2 * HALF, 2 * HALF, 0, 0])[0])


def test_karcher_by_hand():
    # the mean of two directions lies half-way, that of three axes in the middle; as long as they are on average
    torch.testing.assert_close(run("karcher", rows([2, 0, 0], [0, 4, 0])), rows([3 * HALF, 3 * HALF, 0])[0])
    third = 4 / math.sqrt(3)
    torch.testing.assert_close(run("karcher", rows([2, 0, 0], [0, 4, 0], [0, 0, 6])), rows([third] * 3)[0])


def test_karcher_where_directions_are_missing():
    assert run("karcher", torch.zeros(3, 4)).tolist() == [0] * 4
    # a model of no length counts in the mean length only: (3 + 0) / 2
    torch.testing.assert_close(run("karcher", rows([3, 0], [0, 0])), rows([1.5, 0])[0])
    # directions that cancel: the search starts at the first, and there is no shortest way to its opposite
    torch.testing.assert_close(run("karcher", rows([3, 0], [-1, 0])), rows([2, 0])[0])
    assert run("karcher", rows([3, 1, 2])).tolist() == [3, 1, 2]


def test_karcher_goes_on_until_it_is_there():
    models = rows([1, 0, 0], [0.9, 0.1, 0], [-0.7, 0.2, 0.7])
    found = [run("karcher", models, max_iter=n, tol=1e-9) for n in (1, 100)]
    # at the mean the ways to all three (tangents as long as the arcs) sum to zero
    total = []
    for mean in (f.double() / f.double().norm() for f in found):
        units = [m.double() / m.double().norm() for m in models]
        ways = [(u - (u @ mean) * mean, torch.arccos(u @ mean)) for u in units]
        total.append(sum(w / w.norm() * angle for w, angle in ways).norm())
    assert total[1] < 1e-6 < 1e-4 < total[0]


def test_model_stock_by_hand():
    base = torch.tensor([1.0, 1])
    # changes [2 0] and [1 1]: cos = sqrt(1/2), t = 2 cos / (1 + cos); their mean is [1.5 0.5]
    t = 2 * HALF / (1 + HALF)
    found = run("model_stock", rows([3, 1], [2, 2]), base)
    torch.testing.assert_close(found, rows([1 + 1.5 * t, 1 + 0.5 * t])[0])
    # at a right angle nothing is sure: the base stays. The same change three times is taken whole.
    assert run("model_stock", rows([3, 1], [1, 5]), base).tolist() == [1, 1]
    torch.testing.assert_close(run("model_stock", rows([3, 2], [3, 2], [3, 2]), base), rows([3, 2])[0])
    # opposite changes: 1 + cos is zero
    assert run("model_stock", rows([3, 1], [-1, 1]), base).tolist() == [1, 1]


def test_model_stock_by_rows():
    base, models = torch.zeros(2, 2), torch.tensor([[[2.0, 0], [1, 0]], [[1, 1], [0, 1]]])
    t = 2 * HALF / (1 + HALF)  # the first row as above; the second at a right angle
    found = run("model_stock", models, base, filter_wise=True)
    torch.testing.assert_close(found, rows([1.5 * t, 0.5 * t], [0, 0]))
    assert torch.equal(run("model_stock", models[:, 0], base[0], filter_wise=True), found[0])


def test_wise_ft_by_hand():
    base, model = torch.tensor([1.0, 2, -1, 1 / 3]), rows([3, 2, 5, 1 / 7])
    torch.testing.assert_close(run("wise_ft", model, base, alpha=0.25), rows([1.5, 2, 0.5, 0.25 + 0.25 / 7])[0])
    assert torch.equal(run("wise_ft", model, base, alpha=1.0), model[0])
    assert torch.equal(run("wise_ft", model, base, alpha=0.0), base)


def test_nearswap_by_hand():
    base, model = torch.tensor([1.0, 1, 1, 1]), rows([1.1, 2, -3, 1])
    # within 0.5: taken over. A change of 1 or 4 moves by 0.5.
    torch.testing.assert_close(run("nearswap", model, base, t=0.5), rows([1.1, 1.5, 0.5, 1])[0])


@pytest.mark.parametrize("name", ["breadcrumbs", "breadcrumbs_ties"])
def test_breadcrumbs_by_hand(name):
    # of 10 changes int(.2 * 10) = 2 are dropped from the top, 9 and -10; int(.5 * 10) = 5 below are kept
    deltas = rows([1, -2, 3, -4, 5, -6, 7, -8, 9, -10])
    merged = run(name, deltas, torch.zeros(10), weight=2.0, density=0.5, gamma=0.2)
    assert merged.tolist() == [0, 0, 0, -8, 10, -12, 14, -16, 0, 0]


def test_breadcrumbs_keeps_as_many_as_density_says_where_gamma_would_drop_more():
    # 3 of 4: only one can go, the largest, though gamma says int(.5 * 4) = 2
    merged = run("breadcrumbs", rows([4, -3, 2, 1]), torch.zeros(4), weight=1.0, density=0.75, gamma=0.5)
    assert merged.tolist() == [0, -3, 2, 1]
    # int(.01 * 4) = 0 from the top: the two largest stay
    merged = run("breadcrumbs", rows([4, -3, 2, 1]), torch.zeros(4), weight=1.0, density=0.5)
    assert merged.tolist() == [4, -3, 0, 0]


def test_breadcrumbs_votes_and_rescales_by_hand():
    # kept: [0 2 -1 0] and [0 0 3 -1]: the largest of each is dropped, 2 stay; times 6/3 and 9/4 of the sums before
    base, models = torch.zeros(4), rows([3, 2, -1, 0], [5, 0, 3, -1])
    merged = run("breadcrumbs_ties", models, base, weight=1.0, density=0.5, gamma=0.25, rescale=True, normalize=True)
    # sums [0 4 -2 + 6.75 -2.25] elect + + + -
    torch.testing.assert_close(merged, rows([0, 4, 6.75, -2.25])[0])


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_della_keeps_large_changes_more_often(name):
    deltas = torch.arange(1, 5).repeat(5000, 1).float() * torch.tensor([1, -1, -1, 1])
    merged = run(name, deltas[None], torch.zeros_like(deltas), weight=1.0, density=0.5, epsilon=0.3, rescale=False)
    kept = merged != 0
    assert torch.equal(merged[kept], deltas[kept])
    # chances from .2 to .8: .2, .4, .6, .8; 5000 draws are within .02 of them
    assert (kept.float().mean(0) - torch.tensor([0.2, 0.4, 0.6, 0.8])).abs().max() < 0.02


def test_della_treats_equal_magnitudes_alike():
    deltas = torch.tensor([2.0, -1, 1, 1]).repeat(5000, 1)
    kept = (
        run("della", deltas[None], torch.zeros_like(deltas), weight=1.0, density=0.5, epsilon=0.3, rescale=False) != 0
    )
    # ranks 3 and (0 + 1 + 2) / 3 = 1: chances .8 and .4
    assert (kept.float().mean(0) - torch.tensor([0.8, 0.4, 0.4, 0.4])).abs().max() < 0.02


def test_della_keeps_the_sum_of_magnitudes():
    base, models = noise(100, 100), noise(1, 100, 100, seed=1)
    change, whole = run("della_linear", models, base, weight=1.0, density=0.3) - base, models[0] - base
    torch.testing.assert_close(change.abs().sum(), whole.abs().sum())


def test_della_of_rows_of_one_element():
    kept = run("della", torch.ones(1, 5000, 1), torch.zeros(5000, 1), weight=1.0, density=0.3, rescale=False) != 0
    assert 0.28 < kept.float().mean() < 0.32


def test_sce_by_hand():
    # variances [0 4 1 0.25] of [1 4 1 1] and [1 0 -1 2]: 3 differ, int(.7 * 3) = 2 are kept: [0 4 1 0], [0 0 -1 0]
    models = rows([1, 4, 1, 1], [1, 0, -1, 2])
    merged = run("sce", models, torch.zeros(4), select_topk=0.7)
    # squares 17 and 1; sums [0 4 0 0] elect +: [4], [1]; each is the only one that agrees
    torch.testing.assert_close(merged, rows([0, 4, 1, 0])[0])
    # all: squares 19 and 6; sums [2 4 0 3] elect +; (19 * 1 + 6 * 1) / 25, 4, 1, (19 * 1 + 6 * 2) / 25
    torch.testing.assert_close(run("sce", models, torch.zeros(4)), rows([1, 4, 1, 31 / 25])[0])


def test_sce_weighs_all_alike_where_changes_are_tiny():
    models = rows([1e-4, 3e-4], [3e-4, 1e-4])  # mean squares sum to 1e-7
    torch.testing.assert_close(run("sce", 10 * models, torch.zeros(2)), rows([2e-3, 2e-3])[0])
    torch.testing.assert_close(run("sce", models * rows([1], [3]), torch.zeros(2)), rows([5e-4, 3e-4])[0])


def test_ram_by_hand():
    # changes [2 2 0] and [4 0 0]: the mean where both changed, whole where one did
    assert run("ram", rows([3, 3, 1], [5, 1, 1]), torch.ones(3)).tolist() == [4, 3, 1]
    assert run("ram", rows([3, 3, 1], [5, 1, 1]), torch.ones(3), epsilon=0.99).tolist() == [4, 3, 1]
    assert run("ram", rows([0.5, 3]), torch.zeros(2), epsilon=0.5).tolist() == [0, 3]  # no more than epsilon is none


def test_ramplus_by_hand():
    # the first shares 1 and owns 2: its own times 1 + .5 * min(1 / 2, 1); the second owns none
    models = rows([2, 2, 4], [4, 0, 0])
    assert run("ramplus_tl", models, torch.zeros(3), r=0.5, alpha=1.0).tolist() == [3, 2.5, 5]
    assert run("ramplus_tl", models, torch.zeros(3), r=0.5, alpha=0.2).tolist() == pytest.approx([3, 2.2, 4.4])


def test_consensus_by_hand():
    # |2| > .4 * |2| both; |5| > .4 * |1| and not |1| > .4 * |5|; |1| > .4 * |-1| both; none of nothing
    models = rows([2, 5, 1, 0], [2, 1, -1, 0])
    assert run("consensus", models, torch.zeros(4)).tolist() == [4, 0, 0, 0]
    assert run("consensus", models, torch.zeros(4), prun_thre_k=1, **{"lambda": 0.5}).tolist() == [2, 3, 0, 0]
    assert run("consensus", models, torch.zeros(4), prun_thre_k=3).tolist() == [0] * 4


def test_pcb_by_hand():
    # alone, scores grow with the magnitude; of int(.4 * 3) = 1 kept the cut is the second score, its weight is 1
    assert run("pcb", rows([1, -2, 3]), torch.zeros(3), density=0.4).tolist() == [0, 0, 3]
    assert run("pcb", rows([1, -2, 3]), torch.zeros(3), density=0.0).tolist() == [0, 0, 0]
    # of each the second stands out: both weigh 1, and their mean is added
    assert run("pcb", rows([1, 2], [2, 4]), torch.zeros(2), density=0.5).tolist() == [0, 3]
    # at the last they contradict each other, and the one against the sum weighs nothing
    models = rows([1, 2, 3, 4], [1, 2, 3, -2])
    merged = run("pcb", models, torch.zeros(4), density=0.5)
    assert merged[3] == 4 and merged[0] == 0


def test_pcb_where_all_are_equal():
    assert run("pcb", rows([2, 2], [2, 2]), torch.zeros(2), density=1.0).tolist() == [2, 2]


def test_lines_by_hand():
    base, models = torch.zeros(2), rows([1, 2], [3, -2])
    # 1 * d1 + .5 * d2 = [2.5 1], times .25 + .5 * depth
    for depth, by in ((None, 0.25), (0.0, 0.25), (0.5, 0.5), (1.0, 0.75)):
        merged = run("lines", models, base, weight=(1.0, 0.5), alpha=0.25, beta=0.5, depth=depth)
        assert merged.tolist() == [2.5 * by, 1 * by]


@pytest.mark.parametrize("name", ["della", "della_linear"])
@pytest.mark.parametrize(("density", "epsilon"), [(0.1, 0.15), (0.9, 0.1), (0.15, 0.15)])
def test_della_refuses_chances_out_of_range(name, density, epsilon):
    method = METHODS[name]
    settings = settings_of(method, 2, {"density": (0.5, density), "epsilon": epsilon})
    assert f"With density {density:g} and epsilon {epsilon:g} the chances" in (method.fault(settings) or "")
    for fine in ((0.5, 0.15), (1.0, 0.15), (0.0, 0.5)):
        assert method.fault(settings_of(method, 1, {"density": fine[0], "epsilon": fine[1]})) is None


@pytest.mark.parametrize("name", [m.name for m in METHODS.values() if m.param("weight")])
def test_weights_that_sum_to_zero(name):
    """Refused where they are divided by their sum; in a vote that is the sum of those that agree."""
    method = METHODS[name]
    switch = next((p.name for p in method.params if p.name.startswith("normalize")), None)
    votes = name in ("ties", "dare_ties", "breadcrumbs_ties", "della")
    for weights in ((1.0, -1.0), (0.5e-8, 0.4e-8)):
        told = method.fault(settings_of(method, 2, {"weight": weights} | ({switch: True} if switch else {})))
        if switch and not votes:
            assert told == (
                f"The weights {weights[0]:g}, {weights[1]:g} sum to zero, and {switch} divides by their sum. "
                f"Change a weight, or set {switch}: false."
            )
            assert method.fault(settings_of(method, 2, {"weight": weights, switch: False})) is None
        else:
            assert told is None
        models = noise(2, 300, seed=1)
        given: dict[str, Any] = {"weight": weights} | ({switch: votes} if switch else {})
        assert run(name, models, noise(300), **given).isfinite().all()


@pytest.mark.parametrize("name", ["ties", "dare_ties", "breadcrumbs_ties", "della"])
def test_in_a_vote_weights_sum_to_zero_though_not_in_float32(name):
    """0.7 - 0.4 - 0.3 is -3e-8 in float32, by which nothing is divided. (With mergekit the change is -3e4 times it.)"""
    weights = (0.7, -0.4, -0.3)
    changes = torch.tensor([[1e-3] * 4, [-1e-3] * 4, [-1e-3] * 4])  # weighted, all agree
    found = run(name, changes, torch.zeros(4), weight=weights, normalize=True)
    torch.testing.assert_close(found, torch.full((4,), 1.4e-3))


def test_tsv_by_hand():
    base = torch.zeros(2, 2)
    # of two models one direction each is kept: 3 along [1 0], and 5 along [0 1]; both are orthogonal already
    models = torch.tensor([[[3.0, 0], [0, 1]], [[0, 0], [0, 5]]])
    torch.testing.assert_close(run("tsv", models, base), rows([3, 0], [0, 5]))
    # the same direction twice, 3 and 5: each becomes 1 / sqrt(2) of it on both sides, so (3 + 5) / 2
    models = torch.tensor([[[3.0, 0], [0, 1]], [[5, 0], [0, 0]]])
    torch.testing.assert_close(run("tsv", models, base), rows([4, 0], [0, 0]))
    # one model is added whole
    assert torch.equal(run("tsv", models[:1], base, **{"lambda": 0.5}), rows([1.5, 0], [0, 0.5]))
    # three have less than a direction each: the mean; and so for what is no matrix
    three = torch.tensor([[[3.0, 0], [0, 0]], [[0, 3], [0, 0]], [[0, 0], [3, 0]]])
    torch.testing.assert_close(run("tsv", three, base), rows([1, 1], [1, 0]))
    torch.testing.assert_close(run("tsv", three[:, 0], base[0]), rows([1, 1])[0])


def test_iso_c_by_hand():
    base = torch.zeros(2, 2)
    # the changes sum to 3 and 1 along the axes: 2 along both
    models = torch.tensor([[[3.0, 0], [0, 0]], [[0, 0], [0, 1]]])
    torch.testing.assert_close(run("iso_c", models, base), rows([2, 0], [0, 2]))
    # a direction that is not there stays so
    torch.testing.assert_close(run("iso_c", models[:1], base), rows([3, 0], [0, 0]))


def test_iso_cts_by_hand():
    # four directions, half of them common: the sum has 8, 6, 2, 2 along the axes and keeps the first two; beside these
    # the models add 2 along the third, and 2 along the fourth. Their mean is 4.5.
    models = torch.stack([torch.diag(torch.tensor([5.0, 3, 2, 0])), torch.diag(torch.tensor([3.0, 3, 0, 2]))])
    found = run("iso_cts", models, torch.zeros(4, 4), common_space_fraction=0.5)
    torch.testing.assert_close(found, 4.5 * torch.eye(4))
    # fraction 1 is iso_c
    alike = [run(name, models, torch.zeros(4, 4), common_space_fraction=1.0) for name in ("iso_c", "iso_cts")]
    assert torch.equal(*alike)


@pytest.mark.parametrize("name", ["tsv", "iso_c", "iso_cts"])
def test_a_matrix_and_its_transpose_are_merged_alike(name):
    base, models = noise(30, 20), noise(2, 30, 20, seed=1)
    upright, flat = run(name, models[:1], base), run(name, models[:1].mT, base.T)
    torch.testing.assert_close(upright, flat.T)
    if name != "iso_cts":  # which looks at left spaces only
        torch.testing.assert_close(run(name, models, base), run(name, models.mT, base.T).T)


@pytest.mark.parametrize("name", ["tsv", "iso_c", "iso_cts"])
def test_directions_that_are_not_there_add_nothing(name):
    """Changes as of LoRA, and none at all."""
    base, low = noise(40, 30), noise(2, 40, 3, seed=1) @ noise(2, 3, 30, seed=2)
    change = run(name, base + low, base).double() - base
    assert torch.linalg.matrix_rank(change, rtol=1e-4) <= 6
    assert torch.equal(run(name, torch.stack([base, base]), base), base)


def test_arcee_fusion_by_hand():
    base, model = torch.zeros(3, 2), torch.tensor([[[1.0, 0], [2, 2], [0, 0]]])
    # the second row moved as a whole, so its softmax is the same, and the third not at all: only the first row counts.
    # Importances KL * [1 0], 0, 0: median and quartiles are 0, and all that is 0 or more is taken.
    assert torch.equal(run("arcee_fusion", model, base), model[0])
    # importances of one row go by the changes: 1 2 3 4 5 10 in ascending order (times KL); quartiles at places
    # floor(5 / 4) = 1, 2, floor(15 / 4) = 3: 3 + 1.5 * (4 - 2) = 6, so only the 10 is taken
    row = torch.tensor([1.0, -2, 3, -4, 5, -10])
    assert run("arcee_fusion", row[None], torch.zeros(6)).tolist() == [0, 0, 0, 0, 0, -10]


def test_importance_where_distributions_are_far_apart_and_near():
    """Beside the plain formula, in float64."""
    for by in (1e-3, 0.1, 30.0):
        base = noise(5, 700).double()
        model = (base + by * noise(5, 700, seed=1)).float().double()
        p, q = (x.float().double().softmax(1) + 1e-8 for x in (model, base))
        expected = (model - base.float()).abs() * (p * (p / q).log()).sum(1, keepdim=True)
        found = importance(base.float().numpy().ravel(), model.float().numpy().ravel(), 700)
        torch.testing.assert_close(torch.from_numpy(found).view(5, 700).double(), expected, rtol=1e-6, atol=0)
