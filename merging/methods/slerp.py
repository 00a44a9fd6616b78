"""Interpolation along the arc between two models."""

import math
from collections.abc import Generator
from typing import Annotated

from merging.methods.arrays import Array, Sums
from merging.methods.measures import products_with_base
from merging.methods.parts import blend
from merging.methods.spec import WIDEST, Pass, Range, Settings, Shape, method

NEARLY_PARALLEL = 0.9995  # mergekit's: |cosine| above this is interpolated along the line
LEAST_NORM = 1e-8  # mergekit's: a shorter vector is not normalised

Shares = tuple[float, float]  # how much of the base and of the model


def arc_shares(shape: Shape, settings: Settings) -> Generator[Pass, Sums, Shares]:
    """The shares of both ends, from the angle between the two whole tensors as vectors."""
    (base, product), (_, model) = (yield products_with_base).tolist()
    for square in (base, model):
        product /= math.sqrt(square) if math.sqrt(square) > LEAST_NORM else 1
    return shares(product, settings["t"])


def shares(cosine: float, t: float) -> Shares:
    if abs(cosine) > NEARLY_PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


@method(
    "SLERP",
    paper="https://doi.org/10.1145/325334.325242",
    models=(1, 1),
    measure=arc_shares,
    passes=lambda settings: 1,
)
def slerp(
    base: Array,
    models: Array,
    measured: Shares,
    *,
    t: Annotated[
        float,
        Range(0, 1, start=0.5, widest=WIDEST),
        "Where between the base (0) and the other model (1) the result lies.",
    ],
) -> Array:
    """Interpolate between the base and one model along the arc that joins them.

    Each tensor is one vector; the angle is between directions, the shares are applied to the tensors as they are.
    As in mergekit: on a line where |cosine| > 0.9995 (so also for opposite tensors, which at t = 0.5 cancel), and a
    tensor of norm below 1e-8 counts as at a right angle; a t below 0 or above 1 goes on along the arc, or the line,
    beyond its ends. At t = 0 and t = 1 the ends come out exactly. The angle is computed in float64.
    """
    of_base, of_model = measured
    return blend(base, models[0], of_base, of_model)
