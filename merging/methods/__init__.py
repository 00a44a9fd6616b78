"""The merge methods. One function each; importing this module registers them all."""

from merging.methods import linear, pairs, slerp, task_vectors, vectors
from merging.methods.spec import METHODS, Method, Param, Range

__all__ = ["METHODS", "Method", "Param", "Range", "linear", "pairs", "slerp", "task_vectors", "vectors"]
