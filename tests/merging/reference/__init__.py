"""Every method once more in float64, written to be obvious and not fast; nothing is shared with the engine.

A function takes one tensor: `base` [any shape] and `models` [count, the same shape], without the base. Settings that
have one value per model are lists. What cannot be known from one tensor is an argument: `masks` (what chance keeps),
`depth` (where in the model the tensor is) and `table` (whether it is an embedding or a head).

Each docstring fixes the definition: one sentence of help; title and paper; how many models besides the base, and
whether there is a base; granularity (element: one pass; row: along the last dimension; tensor: reductions over the
whole tensor first); the parameters as `name: type, range, default`. All tensors may be of any shape, with no or one
element, and are then what the formulas give, unless something is said.
"""

from tests.merging.reference.averages import (
    arcee_fusion,
    karcher,
    linear,
    model_stock,
    multislerp,
    nearswap,
    nuslerp,
    passthrough,
    slerp,
    wise_ft,
)
from tests.merging.reference.chance import kept
from tests.merging.reference.subspaces import iso_c, iso_cts, tsv
from tests.merging.reference.task_vectors import (
    breadcrumbs,
    breadcrumbs_ties,
    dare_linear,
    dare_ties,
    della,
    della_linear,
    della_probabilities,
    lines,
    task_arithmetic,
    ties,
)
from tests.merging.reference.votes import consensus, pcb, ram, ramplus_tl, sce

__all__ = [
    "arcee_fusion", "breadcrumbs", "breadcrumbs_ties", "consensus", "dare_linear", "dare_ties", "della",
    "della_linear", "della_probabilities", "iso_c", "iso_cts", "karcher", "kept", "linear", "lines", "model_stock",
    "multislerp", "nearswap", "nuslerp", "passthrough", "pcb", "ram", "ramplus_tl", "sce", "slerp",
    "task_arithmetic", "ties", "tsv", "wise_ft",
]  # fmt: skip
