"""The config of a model whose layers were stacked anew: how many there are, and what each of them is."""

from collections.abc import Mapping, Sequence
from typing import Any

from merging.assembly import Stack
from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.layers import COUNTS, layer_count

Json = Mapping[str, Any]
Kinds = list[Any]  # what each layer is

# Lists that may happen to be as long as there are layers.
NOT_BY_LAYER = ("architectures", "keys_to_ignore_at_inference")
NOT_BY_LAYER_ENDS = ("token_id", "token_ids", "_section", "_factor")
PATTERNS = ("hybrid_override_pattern",)  # a text with one letter for each layer
NUMBERED = (  # lists of layer numbers
    "mlp_only_layers", "cross_attention_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices",
    "global_attn_idxs",
)  # fmt: skip
FROM = ("max_window_layers",)  # the first layer that is of another kind than those before
UP_TO = (  # how many layers at the start are of another kind
    "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index",
)  # fmt: skip
LAST = ("moe_layer_end_index",)  # the last layer that is not yet of the kind of those after; -1 is the last of all
AT_END = ("num_kv_shared_layers",)  # how many layers at the end are of another kind
TABLES = ("hidden_size_per_layer_input",)  # the width of a table outside of the layers that has a part for each
EVERY = {  # each n-th layer is of another kind, unless another setting says what each of them is
    "sliding_window_pattern": "layer_types", "full_attention_interval": "layer_types",
    "global_attn_every_n_layers": "layer_types", "no_rope_layer_interval": "no_rope_layers",
    "interleave_moe_layer_step": "moe_layers", "attn_layer_period": "layers_block_type", "decoder_sparse_step": None,
    "moe_layer_freq": None, "expert_layer_period": None, "moe_layer_interval": None,
}  # fmt: skip


def stacked_config(stack: Stack, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """The first model's config for the layers of `stack`. Raises MergeError where a config cannot say what they are."""
    donor, configs = dict(checkpoints[0].config), [c.config for c in checkpoints]
    if not stack:
        return donor
    nested = donor.get("text_config")
    if isinstance(nested, Mapping) and (count := layer_count(nested)) is not None:
        inner = [c.get("text_config") for c in configs]
        restacked = restack(stack, [c if isinstance(c, Mapping) else {} for c in inner], checkpoints)
        return {**donor, **counts(donor, count, len(stack)), "text_config": restacked}
    return restack(stack, configs, checkpoints)


def restack(stack: Stack, configs: Sequence[Json], checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    config = dict(configs[0])
    refuse_unsayable(stack, configs, checkpoints)
    changed = counts(config, layer_count(config), len(stack))
    for key in config:
        if key not in changed and kinds_by(key, config) is not None:
            changed |= rewritten(key, config, kinds_of(key, stack, configs, checkpoints), checkpoints[0].label)
    return config | changed


def refuse_unsayable(stack: Stack, configs: Sequence[Json], checkpoints: Sequence[Checkpoint]) -> None:
    """Raise MergeError where a layer is of a kind of which the first config has no word."""
    if key := next((key for key in TABLES if configs[0].get(key)), None):
        raise MergeError(
            f"By {key}, the embeddings of {checkpoints[0].label} have a part for each layer, which slices would mix "
            "up. Merge whole models."
        )
    used = sorted({place for layer in stack for place in layer})
    for model, config in enumerate(configs):
        for key in config.keys() - configs[0].keys():
            kinds = kinds_by(key, config) or []
            if len({str(kinds[number]) for m, number in used if m == model and kinds}) > 1:
                raise MergeError(
                    f"config.json of {checkpoints[model].label} says by {key} what each layer is, and that of "
                    f"{checkpoints[0].label} does not. Stack models whose configs agree in this."
                )


def counts(config: Json, count: int | None, layers: int) -> dict[str, Any]:
    return {key: layers for key in COUNTS if key in config and config[key] == count}


def kinds_by(key: str, config: Json) -> Kinds | None:
    """What a setting makes of each layer; None where it says nothing about single layers."""
    value, count = config.get(key), layer_count(config) or 0
    if isinstance(value, list):
        return kinds_by_list(key, value, count)
    if isinstance(value, str):
        return [*value] if key in PATTERNS and len(value) == count else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    if key in FROM and (value >= count or config.get("use_sliding_window")):
        return [layer >= value for layer in range(count)]
    if key in (*UP_TO, *LAST, *AT_END):
        return [layer < before_others(key, value, count) for layer in range(count)]
    if key in EVERY and value > 1 and EVERY[key] not in config:
        return [layer % value for layer in range(count)]
    return None


def before_others(key: str, value: int, count: int) -> int:
    """How many layers come before those of another kind."""
    if key in LAST:
        return value + 1 or count
    return count - value if key in AT_END else value


def kinds_by_list(key: str, value: list[Any], count: int) -> Kinds | None:
    if key in NUMBERED:
        return [layer in value for layer in range(count)]
    by_layer = key not in NOT_BY_LAYER and not key.endswith(NOT_BY_LAYER_ENDS)
    return value if by_layer and len(value) == count else None


def kinds_of(key: str, stack: Stack, configs: Sequence[Json], checkpoints: Sequence[Checkpoint]) -> Kinds:
    """What a setting makes of each layer of the stack: what its sources are, which must be the same."""
    known = {model: known_kinds(key, model, configs, checkpoints) for model in {m for layer in stack for m, _ in layer}}
    for (first, at), *others in stack:
        for model, number in others:
            if known[model][number] != known[first][at]:
                raise MergeError(
                    f"By {key}, layer {at} of {checkpoints[first].label} is {known[first][at]} and layer {number} of "
                    f"{checkpoints[model].label} is {known[model][number]}. Merge layers of one kind."
                )
    return [known[layer[0][0]][layer[0][1]] for layer in stack]


def known_kinds(key: str, model: int, configs: Sequence[Json], checkpoints: Sequence[Checkpoint]) -> Kinds:
    """A config may leave out what others of its architecture say, where it is known all the same."""
    if (kinds := kinds_by(key, configs[model])) is not None:
        return kinds
    donors, count = kinds_by(key, configs[0]) or [], layer_count(configs[model]) or 0
    if len(donors) == count:
        return donors
    if all(kind == donors[0] for kind in donors):
        return donors[:1] * count
    raise MergeError(
        f"config.json of {checkpoints[0].label} says by {key} what each layer is, and that of "
        f"{checkpoints[model].label} does not. Stack models whose configs agree in this."
    )


def rewritten(key: str, config: Json, kinds: Kinds, label: str) -> dict[str, Any]:
    """The settings that make the layers what they should be."""
    value = config[key]
    if key in NUMBERED:
        return {key: [layer for layer, is_so in enumerate(kinds) if is_so]}
    if isinstance(value, list):
        return {key: kinds}
    if isinstance(value, str):
        return {key: "".join(kinds)}
    return renumbered(key, value, kinds, label, is_explicit="layer_types" in config)


def renumbered(key: str, value: int, kinds: Kinds, label: str, *, is_explicit: bool) -> dict[str, Any]:
    """A single number that says where layers of another kind are."""
    if key in EVERY:
        if kinds == [layer % value for layer in range(len(kinds))]:
            return {}
        raise MergeError(
            f"By {key}: {value}, layers of {label} are of another kind at regular distances, which the slices break. "
            f"Begin every slice at a layer that is a multiple of {value}, and make it as long."
        )
    new = next((layer for layer, is_so in enumerate(kinds) if is_so == (key in FROM)), len(kinds))
    if is_explicit or kinds == [(layer >= new) == (key in FROM) for layer in range(len(kinds))]:
        return {key: new - 1 if key in LAST else len(kinds) - new if key in AT_END else new}
    if key in FROM:
        return {"layer_types": ["sliding_attention" if slides else "full_attention" for slides in kinds]}
    raise MergeError(
        f"By {key}: {value}, layers at one end of {label} are of another kind, and the slices mix these with the "
        "others. Take them once, at that end."
    )
