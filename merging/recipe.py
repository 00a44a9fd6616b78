"""Recipe: what to merge and how, as frozen values. Parsed from mergekit's YAML; refused with the place of the fault."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from merging.errors import MergeError
from merging.methods import METHODS, Method
from merging.methods.spec import Setting, Settings
from merging.settings import nearest, read_parameters, resolve, shown
from merging.strict_yaml import load_yaml

__all__ = ["Input", "ModelRef", "Recipe", "Setting", "all_models", "parse_recipe", "settings_for", "to_yaml"]

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # recipe name -> safetensors name
KEYS = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "seed")
NOT_YET = {  # mergekit's, with what to do without it
    "slices": "Layer stacking is not supported yet: merge whole models with `models`.",
    "modules": "Merging module by module is not supported yet: merge whole models with `models`.",
    "tokenizer_source": "The tokenizer is taken whole from the base or the first model: remove this key.",
    "tokenizer": "The tokenizer is taken whole from the base or the first model: remove this key.",
    "chat_template": "The chat template is taken from the base or the first model: remove this key.",
}
MAX_MODELS = 100
MAX_SEED = 2**63 - 1
WITH_REVISION = re.compile(r"(?P<path>[\w-][\w.-]*(/[\w.-]+)?)@(?P<revision>[^@\s]+)")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A local folder, or a Hub repo at a revision: `org/name[@revision]`."""

    path: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.path}@{self.revision}" if self.revision else self.path


@dataclass(frozen=True, slots=True)
class Input:
    """One model of the recipe's list, with the parameters given to it alone."""

    model: ModelRef
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`models` keeps the order of the file, and may list the base as well."""

    method: str
    models: tuple[Input, ...]
    base: ModelRef | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    dtype: str | None = None  # bfloat16, float16, float32; None: the widest of the inputs, tensor by tensor
    out_dtype: str | None = None
    seed: int = 0  # ours, not mergekit's: a merge must be reproducible from its recipe


def parse_recipe(text: str) -> Recipe:
    """Read a YAML recipe, and check it against what its method declares.

    Raises MergeError with the place: `models[1].parameters.weight is 3, it must be between -2 and 2.`
    `dtype` decides the type that is written, as in mergekit; the arithmetic is float32 whatever it says.
    """
    raw = load_yaml(text, "The recipe")
    if not isinstance(raw, dict):
        raise MergeError("The recipe must be a mapping with merge_method and models.")
    refuse_unknown_keys(raw)
    method = read_method(raw.get("merge_method"))
    recipe = Recipe(
        method=method.name,
        models=read_models(raw.get("models"), method),
        base=None if raw.get("base_model") is None else read_model(raw["base_model"], "base_model"),
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
        if key in NOT_YET:
            raise MergeError(f"{key}: {NOT_YET[key]}")
        if any(m.param(key) for m in METHODS.values()):
            raise MergeError(f"{key} is a parameter. Put it under `parameters:`.")
        if key not in KEYS:
            raise MergeError(f"{shown(key)} is not a key of a recipe. {nearest(key, KEYS)}")


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
    for key in raw:
        if method.param(key):
            raise MergeError(f"{place}.{key} is a parameter. Put it under `parameters:` of this model.")
        if key not in ("model", "parameters"):
            raise MergeError(f"{place}.{shown(key)} is not known here. {nearest(key, ('model', 'parameters'))}")
    parameters = read_parameters(raw.get("parameters"), f"{place}.parameters", method, per_model=True)
    return Input(read_model(raw.get("model"), f"{place}.model"), parameters)


def read_model(raw: Any, place: str) -> ModelRef:
    if isinstance(raw, dict):
        raise MergeError(
            f"{place} is a mapping; write it as `org/name@revision`. Adapters (lora) are not supported yet."
        )
    if not isinstance(raw, str) or not raw or len(raw) > 1000 or not raw.isprintable() or raw != raw.strip():
        raise MergeError(f"{place} is {shown(raw)}, it must be a Hub repo like `org/name[@revision]` or a folder.")
    local = raw.startswith(("/", ".", "~"))
    if "+" in raw and not local:
        raise MergeError(
            f"{place} is {shown(raw)}. Adapters (model+lora) are not supported yet; write a folder as ./{raw}."
        )
    if not local and (found := WITH_REVISION.fullmatch(raw)):
        return ModelRef(found["path"], found["revision"])
    return ModelRef(raw)


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
    """The number of models, and the base where there must be one."""
    listed = [i.model for i in recipe.models]
    if twice := next((m for i, m in enumerate(listed) if m in listed[:i]), None):
        raise MergeError(f"models lists {twice} twice. List it once, with the sum of its weights.")
    if method.needs_base and recipe.base is None:
        raise MergeError(f"{method.name} needs base_model: the model that the others were fine-tuned from.")
    if not method.takes_base and recipe.base is not None and recipe.base not in listed:
        raise MergeError(
            f"{method.name} merges the models of its list, and base_model {recipe.base} is not among them. "
            "Add it to models, or remove base_model."
        )
    count, beside = len(merged_inputs(recipe)), " besides the base" if takes_base(recipe) else ""
    if count < method.min_models:
        raise MergeError(f"{method.name} needs at least {plural(method.min_models)}{beside}; the recipe has {count}.")
    if method.max_models is not None and count > method.max_models:
        raise MergeError(f"{method.name} takes at most {plural(method.max_models)}{beside}; the recipe has {count}.")


def plural(models: int) -> str:
    return f"{models} model" if models == 1 else f"{models} models"


def check_settings(recipe: Recipe, method: Method) -> None:
    """Every required parameter has a value, and the values go together."""
    for i, model in enumerate(recipe.models):
        if takes_base(recipe) and model.model == recipe.base:
            continue
        for p in method.params:
            if p.per_model and p.default is None and p.name not in model.parameters and p.name not in recipe.parameters:
                raise MergeError(
                    f"models[{i}].parameters.{p.name} is missing: {method.name} needs one for {model.model}. {p.help}"
                )
    for p in method.params:
        if not p.per_model and p.default is None and p.name not in recipe.parameters:
            raise MergeError(f"parameters.{p.name} is missing: {method.name} needs it. {p.help}")
    if fault := method.fault(settings_for(recipe, "")):
        raise MergeError(fault)


def all_models(recipe: Recipe) -> tuple[ModelRef, ...]:
    """Every model that will be read: the base first when there is one, none twice."""
    listed = (i.model for i in recipe.models)
    return tuple(dict.fromkeys((recipe.base, *listed) if recipe.base else listed))


def takes_base(recipe: Recipe) -> bool:
    """Whether the kernel gets the base beside the models: some methods do with and without one."""
    return METHODS[recipe.method].takes_base and recipe.base is not None


def merged_inputs(recipe: Recipe) -> tuple[Input, ...]:
    """The models that a kernel sees as `models`, in the order of `all_models`, with their parameters.

    A method with a base never takes the base for one of them, even when the recipe lists it.
    """
    listed = {i.model: i for i in recipe.models}
    beside = recipe.base if takes_base(recipe) else None
    return tuple(listed[model] for model in all_models(recipe) if model != beside)


def settings_for(recipe: Recipe, tensor: str) -> Settings:
    """The keyword arguments of the method's kernel for one tensor, by its name."""
    inputs = [i.parameters for i in merged_inputs(recipe)]
    return resolve(METHODS[recipe.method], inputs, recipe.parameters, tensor)


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML that `parse_recipe` reads back to an equal value."""
    entries = [
        {"model": str(i.model)} | ({"parameters": dict(i.parameters)} if i.parameters else {}) for i in recipe.models
    ]
    optional = {
        "base_model": str(recipe.base) if recipe.base else None,
        "parameters": dict(recipe.parameters),
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
        "seed": recipe.seed,
    }
    tree = {"merge_method": recipe.method, "models": entries} | {k: v for k, v in optional.items() if v}
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=10**9))
