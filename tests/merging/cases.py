"""Settings of every method that together try all that it does."""

from typing import Any

# In votes, weights that are no simple fractions: else changes cancel exactly, and rounding decides.
# `base: True` gives a base to a method that can do without. Cases of methods that are not there yet wait for them.
CASES: dict[str, list[dict[str, Any]]] = {
    "linear": [{"weight": [0.3, 0.5, 1.2]}, {"weight": [0.3, -0.5, 0.4], "normalize": False}],
    "passthrough": [{}, {"scale": [0.7]}],
    "slerp": [{"t": 0.0}, {"t": 0.3}, {"t": 1.0}, {"t": -0.4}, {"t": 1.7}],
    "nuslerp": [
        {"weight": [0.7, 0.4]},
        {"weight": [0.7, 0.4], "base": True},
        {"weight": [0.7, -0.3], "base": True, "nuslerp_flatten": False},
        {"weight": [0.7, 0.4], "base": True, "nuslerp_flatten": False, "nuslerp_row_wise": True},
        {"weight": [0.4, -0.4], "nuslerp_flatten": False},
    ],
    "multislerp": [
        {"weight": [0.3, 0.5, 1.2]},
        {"weight": [0.3, 0.5, 1.2], "base": True},
        {"weight": [0.3, -0.5, 0.4], "base": True, "normalize_weights": False},
    ],
    "karcher": [{}, {"max_iter": 1}],
    "model_stock": [{}, {"filter_wise": True}],
    "arcee_fusion": [{}],
    "nearswap": [{"t": 0.0}, {"t": 0.0017}],
    "wise_ft": [{}, {"alpha": 0.3}],
    "sce": [{}, {"select_topk": 0.3}, {"select_topk": 0.0}],
    "ram": [{}, {"epsilon": 0.00137}],
    "ramplus_tl": [{}, {"epsilon": 0.00237, "r": 0.7, "alpha": 1.5}],
    "task_arithmetic": [{"weight": [1.0, -0.7, 0.3]}, {"weight": 0.4, "normalize": True, "lambda": 1.7}],
    "lines": [{}, {"weight": [1.0, -0.7, 0.3], "alpha": 0.3, "beta": 0.9}],
    "ties": [
        {"weight": [1.0, 0.7123, 0.3719], "density": 0.2},
        {"weight": [1.0, -0.7123, 0.3719], "density": [0.5, 0.1, 1.0], "normalize": False, "lambda": -0.5},
        {"weight": [0.5, 0.9177, 0.6711], "density": [0.3, 0.0, 0.9], "rescale": True},
    ],
    "dare_linear": [{"weight": 0.5, "density": 0.3}, {"weight": [0.5, 1, 0.2], "density": 0.5, "rescale": False}],
    "dare_ties": [{"weight": [0.5123, -1, 0.2719], "density": 0.3}, {"weight": 0.5, "normalize": True, "lambda": 1.3}],
    "breadcrumbs": [
        {"weight": [1.0, -0.7123, 0.3719], "density": 0.3, "gamma": 0.1},
        {"weight": 0.5, "density": [0.95, 1.0, 0.0], "gamma": [0.2, 0.1, 0.0], "rescale": True, "normalize": True},
    ],
    "breadcrumbs_ties": [
        {"weight": [1.0, 0.7123, 0.3719], "density": 0.3, "gamma": 0.1},
        {"weight": [1.0, -0.7123, 0.3719], "density": 0.5, "normalize": True, "rescale": True, "lambda": 1.3},
    ],
    "della": [
        {"weight": [0.5123, 1, 0.2719], "density": 0.3},
        {"weight": [0.5123, -1, 0.2719], "density": [0.6, 1.0, 0.0], "epsilon": 0.3917, "normalize": False},
    ],
    "della_linear": [
        {"weight": 0.5, "density": 0.3, "epsilon": 0.0713},
        {"weight": [0.5, 1, 0.2], "density": 0.5, "rescale": False, "normalize": True, "lambda": 1.3},
    ],
    "consensus": [{}, {"tall_mask_lambda": [0.2137, 0.4719, 0.5917], "prun_thre_k": 1, "lambda": 0.7}],
    "pcb": [{}, {"density": 0.7, "lambda": 1.2}, {"density": 1.0}],
    "tsv": [{}, {"lambda": 0.7}],
    "iso_c": [{}, {"lambda": 0.7}],
    "iso_cts": [{}, {"common_space_fraction": 0.3, "lambda": 0.7}],
}
