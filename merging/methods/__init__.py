"""The merge methods. One function each; importing this module registers them all.

What holds for all of them, and so is not said of each. Everything is computed tensor by tensor. Tensors of whole
numbers or bools (buffers, masks) are not merged but copied, and must be the same in all models. An empty tensor stays
empty. One without dimensions is a vector of one element; where a method goes by rows, it and a tensor of one dimension
are one row. What is not finite is refused on the way in, and what the output's type cannot hold on the way out, with
the tensor, the place and the count. Where weights are divided by their sum, weights that sum to less than 1e-8 are
refused before anything is read; in a vote, which knows the sum of those that agree only entry by entry, the divisor is
1 where that is zero.
"""

from merging.methods import dropping, linear, matrices, pairs, pcb, selection, slerp, task_vectors, trimming, vectors
from merging.methods.spec import METHODS, Method, Param, Range

__all__ = [
    "METHODS", "Method", "Param", "Range", "dropping", "linear", "matrices", "pairs", "pcb", "selection", "slerp",
    "task_vectors", "trimming", "vectors",
]  # fmt: skip
