"""What two task vectors show that have nothing to do with each other: the value that each number stands next to."""

import math
from statistics import NormalDist

CONFLICT = 0.5  # of the entries that both changed, half go against each other, also weighted by magnitude
NORM_RATIO = 1.0  # of vectors drawn alike
COSINE = 0.0
UNCHANGED = 0.0  # numbers drawn from anything continuous are never zero
UNRELATED_SIZE = math.sqrt(2)  # how far apart two models of unrelated pretraining lie, as a share of their norm


def cosine_spread(numel: float) -> float:
    """The standard deviation of the cosine of two independent vectors of that length."""
    return 1 / math.sqrt(numel) if numel else 0.0


def gaussian_energy(share: float) -> float:
    """The share of the squared norm that the largest entries of a Gaussian vector hold: k + 2 z phi(z)."""
    if not 0 < share < 1:
        return float(share >= 1)
    z = NormalDist().inv_cdf(1 - share / 2)
    return share + 2 * z * NormalDist().pdf(z)
