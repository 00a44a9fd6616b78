"""Methods that add what each model learnt to a common base, and what all such methods have in common."""

from collections.abc import Sequence
from typing import Annotated

from merging.methods.arrays import Array
from merging.methods.linear import Normalize, weights_sum_to_zero
from merging.methods.parts import add_changes
from merging.methods.spec import WIDEST, Range, Weights, method

Lambda = Annotated[
    float, Range(-3, 3, widest=WIDEST), "What the merged change is multiplied by before it is added to the base."
]
Weighted = Annotated[Weights, "How much of the model's change is added; below 0 takes it away."]
Rescale = Annotated[bool, "Scale what was kept to the sum of magnitudes from before."]

Factors = tuple[float, ...]  # one for each model


def shares(weight: Sequence[float], factors: Factors, *, normalize: bool, lambda_: float) -> list[float]:
    """What each change is multiplied by: lambda * w_i * f_i, divided by sum(w_i) if asked."""
    total = sum(weight) if normalize else 1
    return [lambda_ * w * f / total for w, f in zip(weight, factors, strict=True)]


def scaled(weight: Sequence[float], factors: Factors) -> list[float]:
    return [w * f for w, f in zip(weight, factors, strict=True)]


@method(
    "Task arithmetic",
    paper="https://arxiv.org/abs/2212.04089",
    fault=weights_sum_to_zero,
    without_effect=("density", "int8_mask", "rescale"),
)
def task_arithmetic(
    base: Array, models: Array, *, weight: Weighted, normalize: Normalize = False, lambda_: Lambda = 1.0
) -> Array:
    """Add the weighted differences from the base; a negative weight takes a skill away.

    base + lambda * sum(w_i * (x_i - base)), with normalize divided by sum(w_i). Where nothing was changed, and at
    weight or lambda 0, the base comes out exactly. density and rescale have no effect, as in mergekit. Unlike mergekit,
    which then leaves the division out: with normalize, weights that sum to less than 1e-8 are refused.
    """
    return add_changes(base, models, shares(weight, (1.0,) * len(weight), normalize=normalize, lambda_=lambda_))


@method("LiNeS", paper="https://arxiv.org/abs/2410.17146")
def lines(
    base: Array,
    models: Array,
    depth: float | None,
    *,
    weight: Weighted = (1.0,),
    alpha: Annotated[float, Range(0, 2), "What changes in the first layer are multiplied by."] = 0.5,
    beta: Annotated[float, Range(-2, 2), "How much larger than that the factor of the last layer is."] = 0.5,
) -> Array:
    """Add the weighted differences, little of them in the first layers and more in the later ones.

    The change of layer l of L is multiplied by alpha + beta * (l - 1) / (L - 1); outside the layers (embeddings, final
    norm, head) by alpha, as in the authors' code; in a model of one layer by alpha + beta. The paper has no weights,
    and takes 1 / (number of models) for alpha.
    """
    by = alpha + beta * (depth or 0.0)
    return add_changes(base, models, shares(weight, (by,) * len(weight), normalize=False, lambda_=1))
