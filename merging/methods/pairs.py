"""Methods between the base and one other model."""

import math
from collections.abc import Generator
from typing import Annotated

from merging.methods.arrays import Array, Counts
from merging.methods.measures import kth_largest
from merging.methods.parts import blend, importance, near_swap, take_from
from merging.methods.spec import Block, Fraction, Pass, Range, Settings, Shape, method


@method("WiSE-FT", paper="https://arxiv.org/abs/2109.01903", models=(1, 1))
def wise_ft(
    base: Array,
    models: Array,
    *,
    alpha: Annotated[Fraction, "The share of the fine-tune: 0 is the base, 1 the fine-tune."] = 0.5,
) -> Array:
    """Blend a fine-tune with the model it came from, to keep what that one could do.

    (1 - alpha) * base + alpha * model, the paper's equation 1; 0.5 is its choice when nothing is known. Both ends come
    out exactly, and an entry that both have alike stays so within the rounding of float32.
    """
    return blend(base, models[0], 1 - alpha, alpha)


@method("NearSwap", paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001", models=(1, 1))
def nearswap(
    base: Array,
    models: Array,
    *,
    t: Annotated[
        float, Range(0, 1, step=0.0001, start=0.0001), "How far an entry that is not taken over moves; 0.0001 is usual."
    ],
) -> Array:
    """Take over what the other model has where it is near the base, and move by at most t elsewhere.

    The share of the other model is t / max(|change|, 1e-6), at most 1; t = 0 leaves the base. All as in mergekit.
    """
    return near_swap(base, models[0], t)


def measure_importance(shape: Shape, settings: Settings) -> Generator[Pass, Counts, float]:
    """From which importance on entries are taken over: the median and one and a half times the middle half's width."""
    if (numel := math.prod(shape)) == 0:
        return 0.0
    ranks = tuple(numel - quarters * (numel - 1) // 4 for quarters in (1, 2, 3))
    ((first, median, third),) = yield from kth_largest([ranks], scores)
    return median + 1.5 * (third - first)


def scores(block: Block) -> Array:
    assert block.base is not None, "the method needs a base"
    found: Array = importance(block.base, block.models[0], block.row)[None]
    return found


@method(
    "Arcee Fusion",
    paper="https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md",
    models=(1, 1),
    measure=measure_importance,
    passes=lambda settings: 2,
    granularity="row",
)
def arcee_fusion(base: Array, models: Array, row: int, measured: float) -> Array:
    """Take over the other model's entries that changed most, in rows whose distribution changed most.

    importance = |change| * KL(softmax(model) || softmax(base)), with softmax along the last dimension and 1e-8 added to
    each probability; taken over are entries of importance >= median + 1.5 * (third quartile - first quartile). Quantile
    q of n numbers is the one at floor(q * (n - 1)) in ascending order. Rows of one element and tensors without
    dimensions have KL 0; where all importances are equal (nothing changed, one element) all is taken over.

    Unlike mergekit: quantiles are exact for any size, where mergekit draws a million of more; and KL is computed in
    float64: for changes below about a thousandth it is smaller than the rounding of mergekit's float32. Importances
    are then rounded to float32, so that one within a ten-millionth of the limit may fall on either side of it.
    """
    return take_from(base, models[0], importance(base, models[0], row), measured)
