"""Methods where the models together decide which entries are changed: SCE, RAM and consensus."""

import math
from collections.abc import Generator, Iterator
from functools import partial
from typing import Annotated, Any

import numpy as np

from merging.methods.arrays import Array, Counts
from merging.methods.measures import count_high_halves, kth_inside
from merging.methods.parts import (
    NOTHING,
    add_consensus,
    add_own_and_shared,
    average_agreed,
    count_own_and_shared,
    spread,
    square_sums,
)
from merging.methods.spec import Block, Fraction, Pass, Range, Settings, Shape, method
from merging.methods.task_vectors import Factors, Lambda

LEAST_SQUARES = 1e-6  # mergekit's: below this sum of mean squares all models weigh alike
LEAST_VOTERS = 1e-6  # mergekit's: what the weights that agree count as, at least

Changed = Annotated[float, Range(0, 1, step=1e-6), "A change of at most this magnitude counts as none."]


def measure_energy(shape: Shape, settings: Settings) -> Generator[Pass, Any, tuple[float, Factors]]:
    """The spread from which on entries are kept, and the weight of each model: its share of their squares."""
    numel, cut = math.prod(shape), 0.0
    if settings["select_topk"] < 1:
        high = yield partial(count_high_halves, of=spread_of)
        keep = int((numel - int(high[0, 0].sum())) * settings["select_topk"])
        cut = (yield from kth_inside(high, [(keep,)], spread_of))[0][0] if keep else NOTHING

    def squares(grains: Iterator[Block]) -> Any:
        return np.stack([square_sums(selected(g.base, g.models, g.deltas, cut)) for g in grains])

    means = ((yield squares) / max(1, numel)).tolist()
    if (total := math.fsum(means)) < LEAST_SQUARES:
        return cut, (1 / len(means),) * len(means)
    return cut, tuple(mean / total for mean in means)


def spread_of(block: Block) -> Array:
    assert block.base is not None, "methods with deltas have a base"
    return spread(block.base, block.models)


def selected(base: Array | None, models: Array, deltas: Array, cut: float) -> Array:
    """The changes at the entries on which the models differ enough, zero elsewhere."""
    assert base is not None, "methods with deltas have a base"
    if cut == 0:
        return deltas
    found: Array = deltas * (spread(base, models) >= cut)
    return found


@method(
    "SCE",
    paper="https://arxiv.org/abs/2408.07990",
    measure=measure_energy,
    passes=lambda settings: 3 if settings["select_topk"] < 1 else 1,
    without_effect=("int8_mask",),
)
def sce(
    base: Array,
    models: Array,
    deltas: Array,
    measured: tuple[float, Factors],
    *,
    select_topk: Annotated[Fraction, "The share of the entries that differ between the models that is kept."] = 1.0,
) -> Array:
    """Keep the entries on which the models differ most, weigh each model by its energy there, average those that agree.

    Of m entries whose changes are not all the same, the int(m * select_topk) of largest variance over the models are
    kept; 1 keeps all, and 0 none. A model's weight is its mean square over the tensor, by the sum of these over the
    models. The vote is on kept changes without weights; a tied vote elects +.

    As in mergekit, and unlike the paper: all models weigh alike where that sum is below 1e-6 (which it is for most
    fine-tunes), and the weights that agree count as at least 1e-6. Where none is kept the result is the base.

    Unlike mergekit: all entries of a variance as large as the last one's are kept, where mergekit takes whichever its
    sort puts first. Variances are computed in float64; their roots are compared in float32, so that the order of the
    models does not matter.
    """
    cut, weights = measured
    return average_agreed(base, selected(base, models, deltas, cut), weights, least=LEAST_VOTERS)


@method("RAM", paper="https://arxiv.org/abs/2601.13572")
def ram(base: Array, deltas: Array, *, epsilon: Changed = 1e-5) -> Array:
    """Add whole what only one model changed, and the mean of what several changed.

    A change of at most epsilon counts as none. As in mergekit. An entry that no model changed stays exactly as it is in
    the base; of a single model all changes are its own, and are added whole.
    """
    return add_own_and_shared(base, deltas, epsilon, (1.0,) * len(deltas))


def measure_shared(shape: Shape, settings: Settings) -> Generator[Pass, Counts, Factors]:
    """What each model's own changes are multiplied by."""
    epsilon = settings["epsilon"]  # as in measure_drop

    def count(grains: Iterator[Block]) -> Counts:
        found: Counts = sum(count_own_and_shared(g.deltas, epsilon) for g in grains)  # type: ignore[assignment]
        return found

    counts = (yield count).tolist()
    r, alpha = settings["r"], settings["alpha"]
    return tuple(1 + r * min(shared / own, alpha) if own else 1.0 for own, shared in counts)


@method("RAM+", paper="https://arxiv.org/abs/2601.13572", measure=measure_shared, passes=lambda settings: 1)
def ramplus_tl(
    base: Array,
    deltas: Array,
    measured: Factors,
    *,
    r: Annotated[float, Range(0, 1), "How much stronger own changes get, for each shared change per own one."] = 0.1,
    alpha: Annotated[float, Range(0, 10), "The most that the number of shared changes per own one counts."] = 0.2,
    epsilon: Changed = 1e-5,
) -> Array:
    """Add what several models changed as RAM does, and what only one changed more strongly, the more it shares.

    A model's own changes are multiplied by 1 + r * min(shared / own, alpha), of its counts in this tensor; a model with
    none of its own has nothing to multiply. As in mergekit.
    """
    return add_own_and_shared(base, deltas, epsilon, measured)


@method("Consensus (TALL masks)", paper="https://arxiv.org/abs/2405.07813", models=(2, None))
def consensus(
    base: Array,
    models: Array,
    *,
    tall_mask_lambda: Annotated[
        tuple[float, ...], Range(0, 2), "The larger, the fewer entries matter to this model; 0.2 to 0.6 in the paper."
    ] = (0.4,),
    prun_thre_k: Annotated[int, Range(0, 32, step=1), "To how many models an entry must matter to be changed."] = 2,
    lambda_: Lambda = 1.0,
) -> Array:
    """Add the sum of all changes, only at the entries that matter to several models.

    An entry matters to a model whose change is larger than tall_mask_lambda times the sum of the others' changes. With
    prun_thre_k 2 an entry that matters to one model or none stays as in the base, with 1 one that matters to none; 0
    is task arithmetic with equal weights, and more than there are models leaves the base. All is computed in float64.
    """
    return add_consensus(base, models, tall_mask_lambda, least=prun_thre_k, by=lambda_)
