"""Recipe: what to merge and how, as frozen values. Parsed from mergekit's YAML; refused with the place of the fault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from merging.errors import MergeError
from merging.methods import METHODS, Method
from merging.methods.spec import Setting, Settings
from merging.model_ref import ModelRef, read_model
from merging.settings import nearest, read_parameters, resolve, shown
from merging.strict_yaml import load_yaml
from merging.values import Parameters, Value, is_plain, plain_tree

__all__ = [
    "Input", "ModelRef", "Recipe", "Setting", "Slice", "all_models", "has_base", "kernel_sources", "merged_inputs",
    "merged_sources", "parse_recipe", "parts_of", "settings_for", "settings_in", "to_yaml",
]  # fmt: skip

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # recipe name -> safetensors name
KEYS = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "seed")
SLICE_KEYS, SOURCE_KEYS = ("sources", "parameters", "base_model"), ("model", "layer_range", "parameters")
NOT_YET = {  # mergekit's, with what to do without it
    "modules": "Merging module by module is not supported yet: merge whole models with `models`.",
    "tokenizer_source": "The tokenizer is taken whole from the base or the first model: remove this key.",
    "tokenizer": "The tokenizer is taken whole from the base or the first model: remove this key.",
    "chat_template": "The chat template is taken from the base or the first model: remove this key.",
    "name": "Names are for several recipes in one file, and one is read here: remove this key.",
}
MAX_MODELS = 100
MAX_LAYERS = 1000  # of the output; the deepest stacks in use have some 150
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Input:
    """One model of a list, or some layers of it in a slice, with the parameters given to it alone."""

    model: ModelRef
    parameters: Parameters = field(default_factory=dict)
    layers: tuple[int, int] | None = None  # from the first to before the last; None: the whole model


@dataclass(frozen=True, slots=True)
class Slice:
    """Some layers of the output: as many layers of each source, merged one by one."""

    sources: tuple[Input, ...]
    parameters: Parameters = field(default_factory=dict)
    base: ModelRef | None = None  # instead of the recipe's


@dataclass(frozen=True, slots=True)
class Recipe:
    """Either `models` or `slices` has entries. They keep the order of the file, and may list the base as well."""

    method: str
    models: tuple[Input, ...] = ()
    base: ModelRef | None = None
    parameters: Parameters = field(default_factory=dict)
    dtype: str | None = None  # bfloat16, float16, float32; None: the widest of the inputs, tensor by tensor
    out_dtype: str | None = None
    seed: int = 0  # ours, not mergekit's: a merge must be reproducible from its recipe
    slices: tuple[Slice, ...] = ()


def parse_recipe(text: str) -> Recipe:
    """Read a YAML recipe, and check it against what its method declares.

    Raises MergeError with the place: `models[1].parameters.weight[2].value is 300, it must be between -100 and 100.`
    `dtype` decides the type that is written, as in mergekit; the arithmetic is float32 whatever it says.
    """
    raw = load_yaml(text, "The recipe")
    if not isinstance(raw, dict):
        raise MergeError("The recipe must be a mapping with merge_method and models.")
    refuse_unknown_keys(raw)
    method = read_method(raw.get("merge_method"))
    recipe = Recipe(
        method=method.name,
        models=() if "slices" in raw else read_models(raw.get("models"), method),
        slices=read_slices(raw["slices"], method) if "slices" in raw else (),
        base=read_base(raw.get("base_model"), "base_model"),
        parameters=read_parameters(raw.get("parameters"), "parameters", method, per_model=False),
        dtype=read_dtype(raw.get("dtype"), "dtype"),
        out_dtype=read_dtype(raw.get("out_dtype"), "out_dtype"),
        seed=read_seed(raw.get("seed", 0)),
    )
    check_models(recipe, method)
    check_settings(recipe, method)
    return recipe


def refuse_unknown_keys(raw: Mapping[str, Any]) -> None:
    for key in raw:
        if key in NOT_YET and not is_done_anyway(key, raw):
            raise MergeError(f"{key}: {NOT_YET[key]}")
        if any(m.param(key) for m in METHODS.values()):
            raise MergeError(f"{key} is a parameter. Put it under `parameters:`.")
        if key not in (*KEYS, *NOT_YET):
            raise MergeError(f"{shown(key)} is not a key of a recipe. {nearest(key, KEYS)}")
    if "models" in raw and "slices" in raw:
        raise MergeError("The recipe has models and slices. `models` merges whole models, `slices` layers: choose one.")


def is_done_anyway(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether mergekit's key asks for what a merge here does without it: the tokenizer of the base."""
    asks = {"tokenizer_source": "base", "tokenizer": {"source": "base"}}
    return raw.get("base_model") is not None and key in asks and raw[key] == asks[key]


def read_method(raw: Any) -> Method:
    if raw is None:
        raise MergeError(f"The recipe has no merge_method. Choose one of: {', '.join(METHODS)}.")
    if not isinstance(raw, str) or raw not in METHODS:
        raise MergeError(f"merge_method is {shown(raw)}, which is not a method here. {nearest(str(raw)[:99], METHODS)}")
    return METHODS[raw]


def read_models(raw: Any, method: Method) -> tuple[Input, ...]:
    if not isinstance(raw, list) or not raw:
        raise MergeError("The recipe needs `models`: a list of entries like `- model: org/name`.")
    if len(raw) > MAX_MODELS:
        raise MergeError(f"models lists {len(raw):,} models; at most {MAX_MODELS} can be merged at once.")
    return tuple(read_input(entry, f"models[{i}]", method) for i, entry in enumerate(raw))


def read_input(raw: Any, place: str, method: Method) -> Input:
    if isinstance(raw, str):
        return Input(read_model(raw, place))
    if not isinstance(raw, dict):
        raise MergeError(f"{place} is {shown(raw)}, it must be an entry like `- model: org/name`.")
    if "layer_range" in raw:
        raise MergeError(f"{place}.layer_range: layers of a model are chosen in `slices:`, not in `models:`.")
    check_keys(raw, place, ("model", "parameters"), method)
    parameters = read_parameters(raw.get("parameters"), f"{place}.parameters", method, per_model=True)
    return Input(read_model(raw.get("model"), f"{place}.model"), parameters)


def check_keys(raw: Mapping[str, Any], place: str, keys: Sequence[str], method: Method) -> None:
    for key in raw:
        if method.param(key):
            raise MergeError(f"{place}.{key} is a parameter. Put it under `parameters:` there.")
        if key not in keys:
            raise MergeError(f"{place}.{shown(key)} is not known here. {nearest(key, keys)}")


def read_slices(raw: Any, method: Method) -> tuple[Slice, ...]:
    if not isinstance(raw, list) or not raw:
        raise MergeError("slices must be a list of entries with `sources:`.")
    slices = tuple(read_slice(entry, f"slices[{i}]", method) for i, entry in enumerate(raw[: MAX_LAYERS + 1]))
    if (layers := sum(length(one) for one in slices)) > MAX_LAYERS:
        raise MergeError(f"The slices have {layers:,} layers or more; at most {MAX_LAYERS:,} can be stacked.")
    return slices


def read_slice(raw: Any, place: str, method: Method) -> Slice:
    if not isinstance(raw, dict):
        raise MergeError(f"{place} is {shown(raw)}, it must be a mapping with sources.")
    check_keys(raw, place, SLICE_KEYS, method)
    sources = raw.get("sources")
    if not isinstance(sources, list) or not sources:
        raise MergeError(
            f"{place}.sources must be a list of entries like `- {{model: org/name, layer_range: [0, 8]}}`."
        )
    if len(sources) > MAX_MODELS:
        raise MergeError(f"{place}.sources lists {len(sources):,}; at most {MAX_MODELS} can be merged at once.")
    read = Slice(
        sources=tuple(read_source(entry, f"{place}.sources[{i}]", method) for i, entry in enumerate(sources)),
        parameters=read_parameters(raw.get("parameters"), f"{place}.parameters", method, per_model=False),
        base=read_base(raw.get("base_model"), f"{place}.base_model"),
    )
    check_ranges(read, place)
    return read


def read_source(raw: Any, place: str, method: Method) -> Input:
    if not isinstance(raw, dict):
        raise MergeError(
            f"{place} is {shown(raw)}, it must be an entry like `{{model: org/name, layer_range: [0, 8]}}`."
        )
    check_keys(raw, place, SOURCE_KEYS, method)
    parameters = read_parameters(raw.get("parameters"), f"{place}.parameters", method, per_model=True)
    layers = read_layers(raw.get("layer_range"), f"{place}.layer_range")
    return Input(read_model(raw.get("model"), f"{place}.model"), parameters, layers)


def read_layers(raw: Any, place: str) -> tuple[int, int]:
    """`[a, b]`: the layers from a to before b, counted from 0."""
    numbers = raw if isinstance(raw, list) else []
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        raise MergeError(f"{place} is {shown(raw)}, it must be two layer numbers: [0, 8] is the first eight layers.")
    first, end = numbers
    if not 0 <= first < end <= 10**6:
        wrong = (
            "holds no layer" if first == end else "ends before it begins" if end < first else "is no range of layers"
        )
        raise MergeError(
            f"{place} is [{shown(first)}, {shown(end)}], which {wrong}. It goes from the first layer, counted from 0, "
            "to before the last number."
        )
    return first, end


def check_ranges(one: Slice, place: str) -> None:
    """All sources have as many layers, and no layer of a model twice."""
    for i, source in enumerate(one.sources):
        a, b = source.layers or (0, 0)
        if b - a != length(one):
            raise MergeError(
                f"{place}.sources[{i}] has {b - a} layers and sources[0] has {length(one)}. "
                "The layers of a slice are merged one by one: give every source as many."
            )
        for j, other in enumerate(one.sources[:i]):
            c, d = other.layers or (0, 0)
            if other.model == source.model and a < d and c < b:
                raise MergeError(
                    f"{place}: sources[{j}] and sources[{i}] are layers {c} to {d - 1} and {a} to {b - 1} of "
                    f"{source.model}, which overlap. To repeat layers, put them into slices of their own."
                )


def length(one: Slice) -> int:
    """How many layers a slice has."""
    first, end = one.sources[0].layers or (0, 0)
    return end - first


def read_base(raw: Any, place: str) -> ModelRef | None:
    return None if raw is None else read_model(raw, place)


def read_dtype(raw: Any, place: str) -> str | None:
    if raw is None:
        return None
    name = raw.removeprefix("torch.") if isinstance(raw, str) else raw
    if not isinstance(name, str) or name not in DTYPES:
        raise MergeError(f"{place} is {shown(raw)}, it must be one of: {', '.join(DTYPES)}.")
    return name


def read_seed(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 0 <= raw <= MAX_SEED:
        raise MergeError(f"seed is {shown(raw)}, it must be a whole number between 0 and {MAX_SEED}.")
    return raw


def check_models(recipe: Recipe, method: Method) -> None:
    """The number of models in each part, and the base where there must be one."""
    listed = [i.model for i in recipe.models]
    if twice := next((m for i, m in enumerate(listed) if m in listed[:i]), None):
        raise MergeError(f"models lists {twice} twice. List it once, with the sum of its weights.")
    if len(found := all_models(recipe)) > MAX_MODELS + 1:
        raise MergeError(f"The recipe names {len(found):,} models; at most {MAX_MODELS} can be merged at once.")
    if recipe.slices and recipe.base and all(recipe.base != s.model for part in recipe.slices for s in part.sources):
        raise MergeError(f"base_model {recipe.base} is in no slice. Add it to their sources, or remove base_model.")
    for i, part in enumerate(parts_of(recipe)):
        check_base(part, recipe, method, i)
        where = f"slices[{i}]" if recipe.slices else "the recipe"
        check_count(len(merged_sources(part, method)), method, where, beside=has_base(part, method))


def check_base(part: Slice, recipe: Recipe, method: Method, number: int) -> None:
    if method.needs_base and part.base is None:
        raise MergeError(f"{method.name} needs base_model: the model that the others were fine-tuned from.")
    if part.base is None or any(one.model == part.base for one in part.sources):
        return
    if not recipe.slices:
        raise MergeError(
            f"{method.name} merges the models of its list, and base_model {part.base} is not among them. "
            "Add it to models, or remove base_model."
        )
    if method.takes_base or recipe.slices[number].base:
        raise MergeError(
            f"slices[{number}].sources does not list the base_model {part.base}. Add it, with the layers that belong "
            "to those of the others."
        )


def check_count(count: int, method: Method, where: str, *, beside: bool) -> None:
    base = " besides the base" if beside else ""
    if count < method.min_models:
        raise MergeError(f"{method.name} needs at least {plural(method.min_models)}{base}; {where} has {count}.")
    if method.max_models is not None and count > method.max_models:
        raise MergeError(f"{method.name} takes at most {plural(method.max_models)}{base}; {where} has {count}.")


def plural(models: int) -> str:
    return f"{models} model" if models == 1 else f"{models} models"


def check_settings(recipe: Recipe, method: Method) -> None:
    """Every required parameter is given somewhere, and values that hold for all tensors go together."""
    for number, part in enumerate(parts_of(recipe)):
        shared, merged = (part.parameters, recipe.parameters), merged_sources(part, method)
        for one in merged:
            if name := lacking(method, (one.parameters, *shared), per_model=True):
                i = (part.sources if recipe.slices else recipe.models).index(one)
                place = f"slices[{number}].sources[{i}]" if recipe.slices else f"models[{i}]"
                needed = f"{method.name} needs one for {one.model}. {help_of(method, name)}"
                raise MergeError(f"{place}.parameters.{name} is missing: {needed}")
        if name := lacking(method, shared, per_model=False):
            raise MergeError(f"parameters.{name} is missing: {method.name} needs it. {help_of(method, name)}")
        given = (*shared, *(one.parameters for one in merged))
        if all(is_plain(value) for parameters in given for value in parameters.values()):
            inputs = [("", one.parameters) for one in merged]
            if fault := method.fault(resolve(method, inputs, shared, "", 0)):
                raise MergeError(fault)


def lacking(method: Method, levels: Sequence[Parameters], *, per_model: bool) -> str | None:
    """A parameter that must be given, and stands on none of the levels."""
    required = (p.name for p in method.params if p.default is None and p.per_model == per_model)
    return next((name for name in required if not any(name in given for given in levels)), None)


def help_of(method: Method, name: str) -> str:
    return next(p.help for p in method.params if p.name == name)


def all_models(recipe: Recipe) -> tuple[ModelRef, ...]:
    """Every model that will be read, none twice. The first gives the merge its files: the base when there is one."""
    sources = (source.model for part in recipe.slices for source in part.sources)
    base = [recipe.base] if recipe.base else []
    return tuple(dict.fromkeys((*base, *(i.model for i in recipe.models), *sources)))


def parts_of(recipe: Recipe) -> tuple[Slice, ...]:
    """The slices, each with the base that holds for it; or whole models, as the single part that they are.

    Of whole models the base comes first, even unlisted where the method has one; slices keep their order.
    """
    if recipe.slices:
        return tuple(replace(part, base=part.base or recipe.base) for part in recipe.slices)
    listed = {i.model: i for i in recipe.models}
    beside = METHODS[recipe.method].takes_base
    sources = (listed.get(m) or (Input(m) if beside else None) for m in all_models(recipe))
    return (Slice(tuple(one for one in sources if one), {}, recipe.base),)


def has_base(part: Slice, method: Method) -> bool:
    """Whether the kernel gets the base beside the models: some methods do with and without one."""
    return method.takes_base and part.base is not None


def kernel_sources(part: Slice, method: Method) -> tuple[Input, ...]:
    """What is read for each tensor of a part: the base first, where the method has one; else as they are listed."""
    base = next((one for one in part.sources if one.model == part.base), None) if method.takes_base else None
    return part.sources if base is None else (base, *(one for one in part.sources if one is not base))


def merged_sources(part: Slice, method: Method) -> tuple[Input, ...]:
    """What a kernel sees as `models`. A method with a base never takes the base for one of them."""
    sources = kernel_sources(part, method)
    return sources[1:] if has_base(part, method) else sources


def merged_inputs(recipe: Recipe) -> tuple[Input, ...]:
    """The models that are merged, none twice: without the base, where the method has one."""
    found: dict[ModelRef, Input] = {}
    for part in parts_of(recipe):
        for one in merged_sources(part, METHODS[recipe.method]):
            found.setdefault(one.model, one)
    return tuple(found.values())


def settings_in(recipe: Recipe, part: Slice, names: Sequence[str], tensor: str, depth: float) -> Settings:
    """The keyword arguments of the method's kernel for one tensor; `names` are those it has in the merged sources."""
    method = METHODS[recipe.method]
    inputs = [(name, one.parameters) for name, one in zip(names, merged_sources(part, method), strict=True)]
    return resolve(method, inputs, (part.parameters, recipe.parameters), tensor, depth)


def settings_for(recipe: Recipe, tensor: str, depth: float = 0.0) -> Settings:
    """The same for a tensor of whole models."""
    (part,) = parts_of(recipe)
    return settings_in(recipe, part, [tensor] * len(merged_sources(part, METHODS[recipe.method])), tensor, depth)


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML that `parse_recipe` reads back to an equal value."""
    tree: dict[str, Any] = {
        "merge_method": recipe.method,
        "models": [input_tree(one) for one in recipe.models],
        "slices": [slice_tree(one) for one in recipe.slices],
        "base_model": str(recipe.base) if recipe.base else None,
        "parameters": parameters_tree(recipe.parameters),
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
        "seed": recipe.seed,
    }
    kept = {k: v for k, v in tree.items() if v}
    return str(yaml.dump(kept, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**9))


class Dumper(yaml.SafeDumper):
    """Lists of numbers stand in one line, as people write them."""


def in_one_line(dumper: Dumper, data: list[Any]) -> yaml.Node:
    plain = all(isinstance(item, int | float) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


Dumper.add_representer(list, in_one_line)


def slice_tree(one: Slice) -> dict[str, Any]:
    tree = {
        "sources": [input_tree(source) for source in one.sources],
        "base_model": str(one.base) if one.base else None,
        "parameters": parameters_tree(one.parameters),
    }
    return {k: v for k, v in tree.items() if v}


def input_tree(one: Input) -> dict[str, Any]:
    tree = {
        "model": str(one.model),
        "layer_range": list(one.layers) if one.layers else None,
        "parameters": parameters_tree(one.parameters),
    }
    return {k: v for k, v in tree.items() if v}


def parameters_tree(parameters: Mapping[str, Value]) -> dict[str, Any]:
    return {name: plain_tree(value) for name, value in parameters.items()}
