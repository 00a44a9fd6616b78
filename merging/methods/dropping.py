"""Methods that drop changes by chance and scale up the rest: DARE and DELLA."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Annotated

from merging.methods.arrays import Array, Sums
from merging.methods.chance import Chance
from merging.methods.linear import Normalize, weights_sum_to_zero
from merging.methods.measures import l1_factors, sums_of_changes
from merging.methods.parts import add_agreed, add_weighted, keep_by_chance, keep_by_rank
from merging.methods.spec import Block, Fractions, Pass, Range, Settings, Shape, method
from merging.methods.task_vectors import Factors, Lambda, Rescale, Weighted, scaled, shares

Chosen = Annotated[Fractions, "The share of this model's changes that is kept, chosen at random."]
OnAverage = Annotated[Fractions, "The share of this model's changes that is kept, chosen at random, rather large ones."]
Epsilon = Annotated[
    tuple[float, ...],
    Range(0, 0.5),
    "How far the chances of the smallest and the largest change of a row are from density.",
]


def measure_drop(shape: Shape, settings: Settings) -> Generator[Pass, Sums, Factors]:
    """What the kept changes of each model are multiplied by."""
    density = settings["density"]  # a pass knows no other settings, so that it holds for any lambda (recall.py)
    return (yield from factors_of(settings, lambda b: keep_by_chance(b.deltas, density, b.chance)))


def measure_rank_drop(shape: Shape, settings: Settings) -> Generator[Pass, Sums, Factors]:
    density, epsilon = settings["density"], settings["epsilon"]
    return (yield from factors_of(settings, lambda b: keep_by_rank(b.deltas, b.row, density, epsilon, b.chance)))


def factors_of(settings: Settings, keep: Callable[[Block], Array]) -> Generator[Pass, Sums, Factors]:
    if not drops(settings):
        return (1.0,) * len(settings["density"])
    before, after = (yield partial(sums_of_changes, keep=keep)).tolist()
    return l1_factors(before, after)


def drops(settings: Settings) -> bool:
    """Whether there is something to measure: what was dropped."""
    return bool(settings["rescale"]) and min(settings["density"]) < 1


def chance_out_of_range(settings: Settings) -> str | None:
    """Chances between 0 and 1, as mergekit asks for when it merges."""
    for density, epsilon in zip(settings["density"], settings["epsilon"], strict=True):
        if 0 < density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            return (
                f"With density {density:g} and epsilon {epsilon:g} the chances of changes to be kept go from "
                f"{density - epsilon:g} to {density + epsilon:g}; they must lie between 0 and 1. "
                f"Choose an epsilon below {min(density, 1 - density):g}, or another density."
            )
    return None


def faults_of_della_linear(settings: Settings) -> str | None:
    return chance_out_of_range(settings) or weights_sum_to_zero(settings)


@method(
    "DARE",
    paper="https://arxiv.org/abs/2311.03099",
    measure=measure_drop,
    passes=drops,
    fault=weights_sum_to_zero,
    without_effect=("int8_mask",),
)
def dare_linear(  # noqa: PLR0913 - its settings
    base: Array,
    deltas: Array,
    chance: Chance,
    measured: Factors,
    *,
    weight: Weighted,
    density: Chosen = (1.0,),
    normalize: Normalize = False,
    rescale: Rescale = True,
    lambda_: Lambda = 1.0,
) -> Array:
    """Drop changes at random, scale up the rest, add the weighted differences.

    As in mergekit, and unlike the paper, the rest is scaled so that the sum of magnitudes of the tensor's change is
    what it was, and not by 1 / density; not at all where either sum is below 1e-7 (density 0 leaves the base).

    Unlike mergekit: with normalize, weights that sum to less than 1e-8 are refused, where mergekit divides by 1.
    """
    kept = keep_by_chance(deltas, density, chance)
    return add_weighted(base, kept, shares(weight, measured, normalize=normalize, lambda_=lambda_))


@method(
    "DARE + TIES",
    paper="https://arxiv.org/abs/2311.03099",
    measure=measure_drop,
    passes=drops,
    without_effect=("int8_mask",),
)
def dare_ties(  # noqa: PLR0913 - its settings
    base: Array,
    deltas: Array,
    chance: Chance,
    measured: Factors,
    *,
    weight: Weighted,
    density: Chosen = (1.0,),
    normalize: Normalize = False,
    rescale: Rescale = True,
    lambda_: Lambda = 1.0,
) -> Array:
    """Drop changes at random, scale up the rest, and add those that agree with the elected sign.

    Dropping and scaling are dare_linear's, the vote is that of ties; nothing is trimmed by magnitude.
    """
    kept = keep_by_chance(deltas, density, chance)
    return add_agreed(base, kept, scaled(weight, measured), weight, divide=normalize, by=lambda_)


@method(
    "DELLA",
    paper="https://arxiv.org/abs/2406.11617",
    measure=measure_rank_drop,
    passes=drops,
    fault=chance_out_of_range,
    granularity="row",
    without_effect=("int8_mask",),
)
def della(  # noqa: PLR0913 - its settings
    base: Array,
    deltas: Array,
    chance: Chance,
    row: int,
    measured: Factors,
    *,
    weight: Weighted,
    density: OnAverage = (1.0,),
    epsilon: Epsilon = (0.15,),
    normalize: Normalize = True,
    rescale: Rescale = True,
    lambda_: Lambda = 1.0,
) -> Array:
    """Drop changes at random, rather the small ones, scale up the rest, and add those that agree with the elected sign.

    The chance of a change to be kept grows with the rank of its magnitude in its row, the last dimension: from density
    - epsilon for the smallest to density + epsilon for the largest. A tensor of one dimension is one row; a row of
    one element has density. Density 1 keeps all and 0 none. The vote is that of ties.

    As in mergekit, and unlike the paper: what is kept is scaled so that the sum of magnitudes of the tensor's change is
    what it was, and not by 1 / its chance; not at all where either sum is below 1e-7.

    Unlike mergekit: changes of equal magnitude have equal chances, that of the mean of their ranks, where mergekit
    gives them different ones as its sort puts them; rows of one element do not fail; and in tensors of more than two
    dimensions rows are along the last one, where mergekit ranks along the second.
    """
    kept = keep_by_rank(deltas, row, density, epsilon, chance)
    return add_agreed(base, kept, scaled(weight, measured), weight, divide=normalize, by=lambda_)


@method(
    "DELLA, linear",
    paper="https://arxiv.org/abs/2406.11617",
    measure=measure_rank_drop,
    passes=drops,
    fault=faults_of_della_linear,
    granularity="row",
    without_effect=("int8_mask",),
)
def della_linear(  # noqa: PLR0913 - its settings
    base: Array,
    deltas: Array,
    chance: Chance,
    row: int,
    measured: Factors,
    *,
    weight: Weighted,
    density: OnAverage = (1.0,),
    epsilon: Epsilon = (0.15,),
    normalize: Normalize = False,
    rescale: Rescale = True,
    lambda_: Lambda = 1.0,
) -> Array:
    """Drop changes at random, rather the small ones, scale up the rest, and add the weighted differences.

    Dropping and scaling are those of della; there is no vote. With normalize, weights that sum to less than 1e-8 are
    refused, where mergekit divides by 1.
    """
    kept = keep_by_rank(deltas, row, density, epsilon, chance)
    return add_weighted(base, kept, shares(weight, measured, normalize=normalize, lambda_=lambda_))
