"""Methods that add what each model learnt to a common base: task arithmetic, TIES and DARE."""

from collections.abc import Generator, Sequence
from functools import partial
from typing import Annotated

from merging.methods.arrays import Array, Sums
from merging.methods.chance import Chance
from merging.methods.linear import Normalize, weights_sum_to_zero
from merging.methods.measures import l1_factors, magnitude_cuts, sums_around
from merging.methods.parts import add_changes, keep_by_chance, keep_from, sum_of_agreeing, weighted_sum, zero_to_one
from merging.methods.spec import WIDEST, Block, Fractions, Pass, Range, Settings, Shape, Weights, method

Lambda = Annotated[
    float, Range(-3, 3, widest=WIDEST), "What the merged change is multiplied by before it is added to the base."
]
Weighted = Annotated[Weights, "How much of this model's change is added: its lambda."]
Largest = Annotated[Fractions, "The share of this model's changes that is kept, the largest first."]
Chosen = Annotated[Fractions, "The share of this model's changes that is kept, chosen at random."]
Rescale = Annotated[bool, "Scale what was kept to the sum of magnitudes from before."]

Factors = tuple[float, ...]  # one for each model


def shares(weight: Sequence[float], factors: Factors, *, normalize: bool, lambda_: float) -> list[float]:
    """What each change is multiplied by: lambda * w_i * f_i, divided by sum(w_i) if asked."""
    total = sum(weight) if normalize else 1
    return [lambda_ * w * f / total for w, f in zip(weight, factors, strict=True)]


def add_agreed(
    base: Array, deltas: Array, weight: Sequence[float], factors: Factors, *, normalize: bool, lambda_: float
) -> Array:
    """base + lambda * the sum of those w_i * f_i * delta_i of the elected sign; divided by their w_i if asked."""
    change, voters = sum_of_agreeing(deltas, [w * f for w, f in zip(weight, factors, strict=True)], weight)
    if normalize:
        change /= zero_to_one(voters)
    change *= lambda_
    change += base
    return change


def measure_trim(shape: Shape, settings: Settings) -> Generator[Pass, Sums, tuple[Factors, Factors]]:
    """The cut of each model, and what its kept changes are multiplied by."""
    cuts = yield from magnitude_cuts(shape, settings)
    if not settings["rescale"]:
        return cuts, (1.0,) * len(cuts)

    before, after = (yield partial(sums_around, keep=lambda block: keep_from(block.deltas, cuts))).tolist()
    return cuts, l1_factors(before, after)


def measure_drop(shape: Shape, settings: Settings) -> Generator[Pass, Sums, Factors]:
    """What the kept changes of each model are multiplied by."""
    if not drops(settings):
        return (1.0,) * len(settings["density"])

    def keep(block: Block) -> Array:
        return keep_by_chance(block.deltas, settings["density"], block.chance)

    before, after = (yield partial(sums_around, keep=keep)).tolist()
    return l1_factors(before, after)


def drops(settings: Settings) -> bool:
    """Whether DARE has to measure what it dropped."""
    return bool(settings["rescale"]) and min(settings["density"]) < 1


def trim_passes(settings: Settings) -> int:
    return (2 if min(settings["density"]) < 1 else 0) + (1 if settings["rescale"] else 0)


@method(
    "Task arithmetic",
    paper="https://arxiv.org/abs/2212.04089",
    fault=weights_sum_to_zero,
    without_effect=("density", "int8_mask", "rescale"),
)
def task_arithmetic(
    base: Array, models: Array, *, weight: Weighted, normalize: Normalize = False, lambda_: Lambda = 1.0
) -> Array:
    """Add the weighted differences from the base; a negative weight takes a skill away."""
    return add_changes(base, models, shares(weight, (1.0,) * len(weight), normalize=normalize, lambda_=lambda_))


@method(
    "TIES",
    paper="https://arxiv.org/abs/2306.01708",
    measure=measure_trim,
    passes=trim_passes,
    without_effect=("int8_mask",),
)
def ties(
    base: Array,
    deltas: Array,
    measured: tuple[Factors, Factors],
    *,
    weight: Weighted,
    density: Largest = (1.0,),
    normalize: Normalize = True,
    rescale: Rescale = False,
    lambda_: Lambda = 1.0,
) -> Array:
    """Trim small changes, let the models vote on each sign, average those that agree.

    As in mergekit, and unlike the paper: the trim is per tensor, the vote is on weighted changes, a tied vote elects
    +, and the sum is divided by the weights of the models that agree (by 1 where these sum to zero). So with
    `normalize` a single negative weight adds its change instead of taking it away; set normalize: false to negate.

    Unlike mergekit: all changes as large as the k-th largest are kept, k = int(density * size), where mergekit takes
    whichever its sort puts first; and k = 0 keeps none, where mergekit stops with an assertion.
    """
    cuts, factors = measured
    return add_agreed(base, keep_from(deltas, cuts), weight, factors, normalize=normalize, lambda_=lambda_)


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
    """
    kept = keep_by_chance(deltas, density, chance)
    return base + weighted_sum(kept, shares(weight, measured, normalize=normalize, lambda_=lambda_))


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
    return add_agreed(base, kept, weight, measured, normalize=normalize, lambda_=lambda_)
