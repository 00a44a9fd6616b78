"""What the configs say: whether the models compute the same thing with their weights."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merging.checks.facts import Facts, Json
from merging.checks.files import as_number, check_files
from merging.findings import Finding, Level, block, listed, ok, warn

SHOWN = 8  # differing settings named in one finding


@dataclass(frozen=True, slots=True)
class Rule:
    """What it means when some settings differ. A setting that only one of the configs has says nothing."""

    id: str
    level: Level
    keys: tuple[str, ...]
    title: str
    why: str
    remedy: str


RULES = (
    Rule(
        "different-architecture",
        "block",
        ("architectures", "model_type", "hidden_act", "hidden_activation", "activation_function"),
        "The models have different architectures",
        "The same weight does different work in them, so a mixture of the two does neither.",
        "Merge fine-tunes of one base model.",
    ),
    Rule(
        "different-sizes",
        "block",
        (
            "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "num_hidden_layers", "n_layer",
            "num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "vocab_size", "num_experts",
            "num_local_experts", "num_experts_per_tok", "moe_intermediate_size",
        ),
        "The models have different sizes",
        "Weights are merged entry by entry: each must have its counterpart, in the same head and layer.",
        "Merge fine-tunes of one base model, of the same size.",
    ),
    Rule(
        "rope",
        "warn",
        ("rope_theta", "rope_type", "rope_factor", "partial_rotary_factor"),
        "The models encode positions differently",
        "The merge uses the first model's encoding; what the others learned about distance in text fits it less well.",
        "Try long prompts before you rely on the merge, or merge models with the same encoding.",
    ),
    Rule(
        "norm-epsilon",
        "warn",
        ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps"),
        "The norms use different epsilons",
        "The merge uses the first model's. The effect is small, but the other models were not trained with it.",
        "Usually none is needed; it is a hint that the models do not share their base.",
    ),
    Rule(
        "context-length",
        "warn",
        ("max_position_embeddings", "n_positions", "sliding_window", "use_sliding_window", "attention_window"),
        "The models see different lengths of text",
        "The merge takes the first model's length, and the others may not have learned to use it.",
        "Try a prompt as long as you need before you rely on the merge.",
    ),
)  # fmt: skip

# Settings that may differ between fine-tunes without meaning anything for the weights.
HARMLESS = {
    "_name_or_path", "_attn_implementation", "transformers_version", "dtype", "torch_dtype", "use_cache", "id2label",
    "label2id", "task_specific_params", "initializer_range", "attention_dropout", "hidden_dropout", "embd_pdrop",
    "attn_pdrop", "resid_pdrop", "pretraining_tp", "gradient_checkpointing", "output_router_logits", "auto_map",
    "router_aux_loss_coef", "unsloth_version", "unsloth_fixed", "quantization_config", "rope_scaling",
    "rope_parameters", "bos_token_id", "eos_token_id", "pad_token_id", "_from_model_config", "problem_type",
    "max_window_layers", "finetuning_task", "summary_type", "model_name", "tie_word_embeddings",
}  # fmt: skip


def check_configs(models: Sequence[Facts]) -> Iterator[Finding]:
    yield from refuse_quantised(models)
    yield from refuse_code(models)
    unusable = [*check_files(models)]
    yield from unusable
    configs = {m.label: with_plain_rope(m.config) for m in models}
    found = [finding for rule in (*RULES, others(configs)) if (finding := compare(rule, configs))]
    yield from found
    if not found and not unusable:
        yield ok("config", f"The configs agree: {describe(models[0].config)}.")


def compare(rule: Rule, configs: Mapping[str, Json]) -> Finding | None:
    """The finding of a rule, when two of the configs have different values for one of its settings."""
    differing = [key for key in rule.keys if differs(key, configs.values())]
    if not differing:
        return None
    values = {label: describe_settings(config, differing) for label, config in configs.items()}
    make = block if rule.level == "block" else warn
    return make(rule.id, f"{rule.title}.", values, why=rule.why, remedy=rule.remedy)


def differs(key: str, configs: Iterable[Json]) -> bool:
    given = [config[key] for config in configs if config.get(key) is not None]
    return any(value != given[0] for value in given)


def describe_settings(config: Json, keys: Sequence[str]) -> str:
    shown = ", ".join(f"{key} {shorten(config.get(key))}" for key in keys[:SHOWN])
    return f"{shown} and {len(keys) - SHOWN} more" if len(keys) > SHOWN else shown


def shorten(value: Any, limit: int = 60) -> str:
    if value is None:
        return "not given"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= limit else text[:limit] + "…"


def others(configs: Mapping[str, Json]) -> Rule:
    """A rule for all settings that have none."""
    ruled = {key for rule in RULES for key in rule.keys}
    keys = sorted({key for config in configs.values() for key in config} - ruled - HARMLESS)
    return Rule(
        "other-config",
        "warn",
        tuple(keys),
        "Further settings of the configs differ",
        "The merge takes the first model's settings; the others were trained with their own.",
        "Look whether the settings matter for what you want. Fine-tunes of one base usually agree in all of them.",
    )


def with_plain_rope(config: Json) -> Json:
    """The rotary settings under one set of names, wherever the version of transformers keeps them."""
    nested = [config.get("rope_parameters"), config.get("rope_scaling")]
    found: Json = next((r for r in nested if isinstance(r, Mapping)), {})
    if any(isinstance(value, Mapping) for value in found.values()):  # one set for each kind of layer
        return {**config, "rope_type": json.dumps(found, sort_keys=True)}
    theta = as_number(found.get("rope_theta", config.get("rope_theta")))
    if theta is None:
        return config
    kind = found.get("rope_type", found.get("type", "default"))
    return {**config, "rope_theta": theta, "rope_type": kind, "rope_factor": as_number(found.get("factor", 1.0))}


def refuse_quantised(models: Sequence[Facts]) -> Iterator[Finding]:
    named = {m.label: m.config["quantization_config"] for m in models if m.config.get("quantization_config")}
    if named:
        kinds = {
            label: str(q.get("quant_method") or q.get("quant_type") or "yes") if isinstance(q, Mapping) else "yes"
            for label, q in named.items()
        }
        yield block(
            "quantised",
            f"{listed(named)} {'is' if len(named) == 1 else 'are'} quantised.",
            kinds,
            why="Quantised weights are codes, not numbers: the mean of two codes is not the code of the mean.",
            remedy="Use the model it was quantised from; its card names it. Quantise the merge afterwards.",
            computable=False,
        )


def refuse_code(models: Sequence[Facts]) -> Iterator[Finding]:
    named = {m.label: "auto_map" for m in models if m.config.get("auto_map") or m.tokenizer_config.get("auto_map")}
    if named:
        yield block(
            "remote-code",
            f"{listed(named)} can only be used by running code from its repo.",
            named,
            why="Such code can do anything on this machine and on that of everybody who loads the merge. "
            "Alloy never runs code of a model, and does not copy it.",
            remedy="Look for a version of the model that transformers supports by itself (without auto_map).",
            computable=False,
        )


def describe(config: Json) -> str:
    """`LlamaForCausalLM, 4 layers, hidden size 128, 4 heads, vocabulary 192`, as far as the config says."""
    names = {
        "layers": ("num_hidden_layers", "n_layer"),
        "hidden size": ("hidden_size", "n_embd"),
        "heads": ("num_attention_heads", "n_head"),
        "vocabulary": ("vocab_size",),
    }
    parts = [shorten(config.get("architectures") or config.get("model_type"))]
    for name, keys in names.items():
        value = next((config[key] for key in keys if key in config), None)
        if value is not None:
            parts.append(f"{value} {name}" if name in ("layers", "heads") else f"{name} {value}")
    return ", ".join(parts)
