"""Methods that take tensors for vectors, with a length and a direction: NuSLERP, Multi-SLERP, Karcher, Model Stock.

Whatever they do, the result is a weighted sum of the models (or of what these changed). So a measure finds the inner
products of all with each other in float64, the weights follow from those few numbers, and one pass adds up.
"""

import math
from collections.abc import Generator, Sequence
from functools import partial
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from merging.methods.arrays import Array, Sums
from merging.methods.linear import weights_sum_to_zero
from merging.methods.measures import products, products_from_base, products_of_deltas
from merging.methods.parts import add_changes, column_grams, mix_columns, mix_rows, row_grams, weighted_sum
from merging.methods.spec import Granularity, Pass, Range, Settings, Shape, Weights, method

LEAST_SUM = 1e-6  # mergekit's: weights that sum to less share alike
LEAST_LENGTH = 1e-7  # mergekit's: shorter vectors count as so long where NuSLERP takes an angle
ON_A_LINE = 1e-12  # of 1 - cosine^2: at most this, and the arc is straight
LEAST_PRODUCT = 1e-6  # mergekit's: of two lengths, where Model Stock takes an angle
LEAST_DIVISOR = 1e-6  # of Model Stock's ratio

Factors: TypeAlias = tuple[float, ...]  # one for each model
Numbers: TypeAlias = NDArray[np.float64]


def add_up(base: Array | None, models: Array, factors: Sequence[float]) -> Array:
    """The weighted sum of the models; with a base that of their changes, added to it."""
    return weighted_sum(models, factors) if base is None else add_changes(base, models, factors)


# NuSLERP


def measure_arc(shape: Shape, settings: Settings) -> Generator[Pass, Sums, tuple[Factors | None, int]]:
    """The shares of the two models where each tensor is one vector; else how many columns it has, if these are."""
    if settings["nuslerp_flatten"]:
        return tuple(arc_shares((yield products_from_base), settings["weight"]).tolist()), 0
    return None, math.prod(shape[1:]) if settings["nuslerp_row_wise"] and len(shape) > 1 else 0


def arc_shares(gram: Sums, weight: Sequence[float]) -> Numbers:
    """How much of both ends of an arc is taken, from their inner products [2, 2] or [2, 2, vectors]."""
    total = sum(weight)
    t = 0.5 if abs(total) < LEAST_SUM else weight[1] / total
    lengths = [np.maximum(np.sqrt(gram[i, i]), LEAST_LENGTH) for i in (0, 1)]
    cosine = (gram[0, 1] / (lengths[0] * lengths[1])).clip(-1, 1)
    is_straight = 1 - cosine**2 <= ON_A_LINE
    angle = np.arccos(np.where(is_straight, 0, cosine))
    return np.array([np.where(is_straight, s, np.sin(s * angle) / np.sin(angle)) for s in (1 - t, t)])


def vectors_of_nuslerp(settings: Settings) -> Granularity:
    if settings["nuslerp_flatten"]:
        return "element"
    return "tensor" if settings["nuslerp_row_wise"] else "row"


@method(
    "NuSLERP",
    paper="https://doi.org/10.1145/325334.325242",
    models=(2, 2),
    measure=measure_arc,
    passes=lambda settings: int(settings["nuslerp_flatten"]),
    granularity=vectors_of_nuslerp,
)
def nuslerp(
    base: Array | None,
    models: Array,
    row: int,
    measured: tuple[Factors | None, int],
    *,
    weight: Annotated[Weights, "How far the result lies towards this model; only the ratio of the two counts."],
    nuslerp_row_wise: Annotated[bool, "Take the columns of a matrix as it is stored, not its rows."] = False,
    nuslerp_flatten: Annotated[bool, "Take each tensor as one vector, not each row or column."] = True,
) -> Array:
    """Interpolate between two models, or between what they changed, along the arc that joins them.

    t = w1 / (w0 + w1), or 0.5 where the weights sum to less than 1e-6. With a base the arc joins the task vectors, and
    is added to it. As in mergekit: nuslerp_row_wise is named against what it does and has no effect with
    nuslerp_flatten; tensors of 0 and 1 dimensions are one vector; a vector of no length is at a right angle to all,
    and lengths below 1e-7 count as 1e-7 when the angle is taken. Columns need the whole tensor in memory.

    Unlike mergekit: where 1 - cosine^2 is at most 1e-12 (mergekit has 1e-16) the way is straight, so that opposite
    vectors do not blow rounding up. Angles are computed in float64.
    """
    shares, columns = measured
    if shares is not None:
        return add_up(base, models, shares)
    ends = models if base is None else models - base
    if columns:
        found = mix_columns(ends, arc_shares(column_grams(ends, columns), weight).astype(np.float32))
    else:
        found = mix_rows(ends, arc_shares(row_grams(ends, row), weight).astype(np.float32), row)
    return found if base is None else found + base


# Multi-SLERP


def measure_directions(shape: Shape, settings: Settings) -> Generator[Pass, Sums, Factors]:
    """What each model is multiplied by, so that the mean direction comes out, as long as the mean length."""
    weight, eps = settings["weight"], settings["eps"]
    if len(weight) == 1:
        return (1.0,)
    if settings["normalize_weights"]:
        weight = [w / sum(weight) for w in weight]
    gram = yield products_from_base
    lengths = np.sqrt(gram.diagonal())
    mean = np.array(weight) / (lengths + eps)
    length = math.sqrt(max(float(mean @ gram @ mean), 0))
    return tuple(weight) if length < eps else tuple((mean / length * (weight @ lengths)).tolist())


@method(
    "Multi-SLERP",
    paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    measure=measure_directions,
    passes=lambda settings: int(len(settings["weight"]) > 1),
    fault=partial(weights_sum_to_zero, normalize="normalize_weights"),
)
def multislerp(
    base: Array | None,
    models: Array,
    measured: Factors,
    *,
    weight: Annotated[Weights, "How much the direction and the length of this model count."],
    normalize_weights: Annotated[bool, "Divide the weights by their sum, so that only their ratio matters."] = True,
    eps: Annotated[
        float, Range(0, 0.1, step=1e-8, above=True), "Added to lengths before dividing by them; shorter means are none."
    ] = 1e-8,
) -> Array:
    """Average the directions of models, or of what they changed, and their lengths, each by weight.

    With a base the task vectors are averaged, and added to it. One model comes back as it is, whatever its weight.
    mergekit's step on the tangent space is not here because it adds nothing: at the weighted mean of the directions,
    the weighted tangents sum to zero.

    Unlike mergekit: where the directions have no mean (all changes are zero, or they cancel), the weighted sum of the
    tensors is taken for any number of models; mergekit does so for two and stops for more.
    """
    return add_up(base, models, measured)


# Karcher


def measure_karcher(shape: Shape, settings: Settings) -> Generator[Pass, Sums, Factors]:
    gram = yield products
    return tuple(karcher_factors(gram, settings["max_iter"], settings["tol"]).tolist())


def karcher_factors(gram: Sums, max_iter: int, tol: float) -> Numbers:
    """What each model is multiplied by. Every point of the search is a combination of the models' directions."""
    if len(gram) == 1:
        return np.ones(1)
    lengths = np.sqrt(gram.diagonal())
    there = lengths > tol
    if not there.any():
        return np.zeros(len(gram))
    units = (gram / np.outer(np.where(there, lengths, 1), np.where(there, lengths, 1)))[np.ix_(there, there)]
    mean = search_mean(units, max_iter, tol)
    found = np.zeros(len(gram))
    found[there] = lengths.mean() * mean / lengths[there]
    return found


def search_mean(units: Sums, max_iter: int, tol: float) -> Numbers:
    """The mean on the sphere as a combination of unit vectors, of which `units` are the inner products."""

    def length(x: Numbers) -> float:
        return math.sqrt(max(float(x @ units @ x), 0))

    count = len(units)
    mean = np.full(count, 1 / count)
    mean = np.eye(count)[0] if length(mean) < tol else mean / length(mean)
    for _ in range(max_iter):
        cosines = (units @ mean).clip(-1, 1)
        angles = np.arccos(cosines)
        is_way = (angles >= tol) & (angles <= math.pi - tol)
        pull = np.where(is_way, angles / np.where(is_way, np.sin(angles), 1), 0) / count
        step = pull - (pull @ cosines) * mean
        if (far := length(step)) < tol:
            break
        mean = math.cos(far) * mean + math.sin(far) * step / far
        mean = mean / length(mean)
    return mean


@method(
    "Karcher mean",
    paper="https://arxiv.org/abs/2603.04972",
    measure=measure_karcher,
    passes=lambda settings: 1,
)
def karcher(
    models: Array,
    measured: Factors,
    *,
    max_iter: Annotated[int, Range(1, 1000, step=1), "How many steps towards the mean are taken at most."] = 10,
    tol: Annotated[
        float, Range(0, 0.1, step=1e-6, above=True), "A step, an angle or a length below this counts as none."
    ] = 1e-5,
) -> Array:
    """Average the directions of models on the sphere, and their lengths, all alike.

    There are no weights, as in mergekit. Models of length at most tol have no direction: they count in the mean length
    only; where all are so, the result is zero. Directions that cancel: the search starts at the first model. One model
    comes back as it is.

    Unlike mergekit: a base_model that is not among the models is refused, where mergekit averages it in as one more
    model; a direction opposite to the mean (within tol) is passed over, since no way to it is the shortest; and the
    search is in float64, on the inner products alone.
    """
    return weighted_sum(models, measured)


# Model Stock


def measure_stock(shape: Shape, settings: Settings) -> Generator[Pass, Sums, float]:
    """How far the whole tensor goes from the base to the average of the models; nothing where each row goes its way."""
    if settings["filter_wise"]:
        return 0.0
    return float(stock_ratio((yield products_of_deltas)))


def stock_ratio(gram: Sums) -> Numbers:
    """From the inner products of the changes, [n, n] or [n, n, rows]."""
    count = len(gram)
    lengths = [np.sqrt(gram[i, i]) for i in range(count)]
    cosines = [
        (gram[i, j] / np.maximum(lengths[i] * lengths[j], LEAST_PRODUCT)).clip(-1, 1)
        for j in range(count)
        for i in range(j)
    ]
    cosine = sum(cosines) / len(cosines)
    divisor = 1 + (count - 1) * cosine
    is_singular = np.abs(divisor) < LEAST_DIVISOR
    found: Numbers = np.where(is_singular, 0, count * cosine / np.where(is_singular, 1, divisor))
    return found


@method(
    "Model Stock",
    paper="https://arxiv.org/abs/2403.19522",
    models=(2, None),
    measure=measure_stock,
    passes=lambda settings: int(not settings["filter_wise"]),
    granularity=lambda settings: "row" if settings["filter_wise"] else "element",
)
def model_stock(
    base: Array,
    models: Array,
    row: int,
    measured: float,
    *,
    filter_wise: Annotated[bool, "Measure the angle for each row, not for the whole tensor."] = False,
) -> Array:
    """Move from the base towards the average, the less the more the models disagree.

    cos = mean over pairs of the cosine of their changes; t = N cos / (1 + (N - 1) cos), the paper's equation for N
    models; t may be below 0. As in mergekit, the product of two lengths counts as at least 1e-6, so that changes
    shorter than a thousandth look less alike than they are; no change is at a right angle to all; and where
    |1 + (N - 1) cos| < 1e-6 the base is kept. Tensors of 0 and 1 dimensions are one row.
    """
    count = len(models)
    if not filter_wise:
        return add_changes(base, models, [measured / count] * count)
    deltas = models - base
    ratio = stock_ratio(row_grams(deltas, row)) / count
    return mix_rows(deltas, np.stack([ratio] * count).astype(np.float32), row) + base
