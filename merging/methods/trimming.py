"""Methods that keep of each model's changes those of some magnitudes: TIES and Breadcrumbs."""

from collections.abc import Generator
from functools import partial
from typing import Annotated

from merging.methods.arrays import Array, Sums
from merging.methods.linear import Normalize, weights_sum_to_zero
from merging.methods.measures import l1_factors, magnitude_cuts, middle_bands, sums_of_changes
from merging.methods.parts import NOTHING, Band, add_agreed, add_weighted, keep_between
from merging.methods.spec import Fractions, Pass, Range, Settings, Shape, method
from merging.methods.task_vectors import Factors, Lambda, Rescale, Weighted, scaled, shares

Largest = Annotated[Fractions, "The share of this model's changes that is kept, the largest first."]
Middle = Annotated[Fractions, "The share of this model's changes that is kept; 1 keeps all, the largest too."]
Top = Annotated[tuple[float, ...], Range(0, 1), "The share of this model's changes that is dropped from the top."]

Bands = tuple[Band, ...]  # of each model the magnitudes that are kept


def measure_trim(shape: Shape, settings: Settings) -> Generator[Pass, Sums, tuple[Bands, Factors]]:
    """What is kept of each model, and what that is multiplied by."""
    cuts = yield from magnitude_cuts(shape, settings)
    return (yield from with_factors(tuple((cut, NOTHING) for cut in cuts), settings))


def measure_middle(shape: Shape, settings: Settings) -> Generator[Pass, Sums, tuple[Bands, Factors]]:
    bands = yield from middle_bands(shape, settings)
    return (yield from with_factors(bands, settings))


def with_factors(bands: Bands, settings: Settings) -> Generator[Pass, Sums, tuple[Bands, Factors]]:
    if not settings["rescale"]:
        return bands, (1.0,) * len(bands)
    before, after = (yield partial(sums_of_changes, keep=lambda block: keep_between(block.deltas, bands))).tolist()
    return bands, l1_factors(before, after)


def trims(settings: Settings) -> bool:
    return bool(min(settings["density"]) < 1)


def trim_passes(settings: Settings) -> int:
    return 2 * trims(settings) + bool(settings["rescale"])


@method(
    "TIES",
    paper="https://arxiv.org/abs/2306.01708",
    measure=measure_trim,
    passes=trim_passes,
    spared=trims,
    without_effect=("int8_mask",),
)
def ties(
    base: Array,
    deltas: Array,
    measured: tuple[Bands, Factors],
    *,
    weight: Weighted,
    density: Largest = (1.0,),
    normalize: Normalize = True,
    rescale: Rescale = False,
    lambda_: Lambda = 1.0,
) -> Array:
    """Trim small changes, let the models vote on each sign, average those that agree.

    As in mergekit, and unlike the paper: the trim is per tensor and keeps at least one change unless density is 0, the
    vote is on weighted changes, a tied vote elects +, and the sum is divided by the weights of the models that agree
    (by 1 where these sum to zero). So with `normalize` a single negative weight adds its change instead of taking it
    away; set normalize: false to negate.

    Unlike mergekit: all changes as large as the k-th largest are kept, k = int(density * size), where mergekit takes
    whichever its sort puts first.
    """
    bands, factors = measured
    kept = keep_between(deltas, bands)
    return add_agreed(base, kept, scaled(weight, factors), weight, divide=normalize, by=lambda_)


@method(
    "Model Breadcrumbs",
    paper="https://arxiv.org/abs/2312.06795",
    measure=measure_middle,
    passes=trim_passes,
    spared=trims,
    fault=weights_sum_to_zero,
    without_effect=("int8_mask",),
)
def breadcrumbs(  # noqa: PLR0913 - its settings
    base: Array,
    deltas: Array,
    measured: tuple[Bands, Factors],
    *,
    weight: Weighted,
    density: Middle = (1.0,),
    gamma: Top = (0.01,),
    normalize: Normalize = False,
    rescale: Rescale = False,
    lambda_: Lambda = 1.0,
) -> Array:
    """Drop the smallest changes of each model and its few largest ones, and add the weighted rest.

    Of n changes int(density * n) are kept: those below the int(gamma * n) largest, or, where there are not as many,
    the smallest (density comes before gamma). Density 0 keeps none, and density 1 all, whatever gamma is. As in
    mergekit, and unlike the paper, density is what is kept, not what is dropped.

    Unlike mergekit: changes as large as the largest or the smallest that is kept are kept too, where mergekit takes
    whichever its sort puts first; and with normalize, weights that sum to less than 1e-8 are refused, where mergekit
    divides by 1.
    """
    bands, factors = measured
    kept = keep_between(deltas, bands)
    return add_weighted(base, kept, shares(weight, factors, normalize=normalize, lambda_=lambda_))


@method(
    "Breadcrumbs + TIES",
    paper="https://arxiv.org/abs/2312.06795",
    measure=measure_middle,
    passes=trim_passes,
    spared=trims,
    without_effect=("int8_mask",),
)
def breadcrumbs_ties(  # noqa: PLR0913 - its settings
    base: Array,
    deltas: Array,
    measured: tuple[Bands, Factors],
    *,
    weight: Weighted,
    density: Middle = (1.0,),
    gamma: Top = (0.01,),
    normalize: Normalize = False,
    rescale: Rescale = False,
    lambda_: Lambda = 1.0,
) -> Array:
    """Drop the smallest changes of each model and its few largest ones, and add those that agree with the elected sign.

    What is kept is that of breadcrumbs, the vote is that of ties.
    """
    bands, factors = measured
    kept = keep_between(deltas, bands)
    return add_agreed(base, kept, scaled(weight, factors), weight, divide=normalize, by=lambda_)
