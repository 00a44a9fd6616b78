"""Methods between the base and one other model."""

from typing import Annotated

from merging.methods.arrays import Array
from merging.methods.parts import blend, near_swap
from merging.methods.spec import Fraction, Range, method


@method("WiSE-FT", paper="https://arxiv.org/abs/2109.01903", models=(1, 1))
def wise_ft(
    base: Array,
    models: Array,
    *,
    alpha: Annotated[Fraction, "The share of the fine-tune: 0 is the base, 1 the fine-tune."] = 0.5,
) -> Array:
    """Blend a fine-tune with the model it came from, to keep what that one could do.

    (1 - alpha) * base + alpha * model, the paper's equation 1; 0.5 is its choice when nothing is known. Both ends come
    out exactly.
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
