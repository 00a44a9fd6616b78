"""The merge methods. One function each; importing this module registers them all."""

from merging.methods import dropping, linear, matrices, pairs, pcb, selection, slerp, task_vectors, trimming, vectors
from merging.methods.spec import METHODS, Method, Param, Range

__all__ = [
    "METHODS", "Method", "Param", "Range", "dropping", "linear", "matrices", "pairs", "pcb", "selection", "slerp",
    "task_vectors", "trimming", "vectors",
]  # fmt: skip
