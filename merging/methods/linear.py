"""Averages of whole models, and the model as it is."""

from typing import Annotated

from merging.methods.arrays import Array
from merging.methods.parts import weighted_sum
from merging.methods.spec import Settings, Weights, method

LEAST_SUM = 1e-8  # mergekit's, of task vectors: weights that sum to less are not divided by

Normalize = Annotated[bool, "Divide by the sum of the weights, so that only their ratio matters."]


def weights_sum_to_zero(settings: Settings, normalize: str = "normalize") -> str | None:
    weights = settings["weight"]
    if not settings[normalize] or abs(sum(weights)) >= LEAST_SUM:
        return None
    return (
        f"The weights {', '.join(f'{w:g}' for w in weights)} sum to zero, and {normalize} divides by their sum. "
        f"Change a weight, or set {normalize}: false."
    )


@method("Linear", paper="https://arxiv.org/abs/2203.05482", fault=weights_sum_to_zero)
def linear(
    models: Array,
    *,
    weight: Annotated[Weights, "How much of this model goes into the average."],
    normalize: Normalize = True,
) -> Array:
    """The weighted average of the models (a model soup when the weights are equal).

    sum(w_i * x_i) / sum(w_i), or without the division. One model with normalize comes back as it was. Unlike mergekit,
    which then divides by them: weights that sum to less than 1e-8 are refused.
    """
    total = sum(weight) if normalize else 1
    return weighted_sum(models, [w / total for w in weight])


@method("Passthrough", models=(1, 1))
def passthrough(
    models: Array,
    *,
    scale: Annotated[Weights, "What every number of the model is multiplied by."] = (1.0,),
) -> Array:
    """One model as it is, in another dtype or scaled.

    With scale 1 and in its own type it keeps its bits, those of -0.0 too; scale 0 makes zeros.
    """
    return weighted_sum(models, scale)
