"""What a search may turn: a parameter of a recipe, for one model or all, for all tensors or a group of layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from merging.errors import MergeError
from merging.methods import METHODS, Param
from merging.recipe import Input, ModelRef, Recipe, merged_inputs
from merging.settings import nearest
from merging.values import Case, Filtered, Gradient, Parameters, Value

# Parts of tensor names, in the order in which they are looked for: "norms" has those of attention as well.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "norms": ("norm", "ln_"),
    "embeddings": ("embed_tokens", "wte", "word_embeddings", "embed_in"),
    "head": ("lm_head", "embed_out"),
    "attention": ("attn.", "attention."),
    "mlp": ("mlp.", "feed_forward.", "moe."),
}
AMOUNTS = ("weight", "t", "lambda", "scale")  # what a method may call it
MAX_DIALS = 50
LOW, HIGH = 0.0, 1.2  # where one looks for a lambda unless one is told


@dataclass(frozen=True, slots=True)
class Dial:
    """One number of a recipe, between two bounds."""

    parameter: str
    low: float
    high: float
    model: ModelRef | None = None  # None: the recipe's own, for all models
    group: str | None = None  # of GROUPS; None: all tensors

    @property
    def name(self) -> str:
        of = f" of {self.model}" if self.model else ""
        return f"{self.parameter}{of}{f', {self.group}' if self.group else ''}"


def dials_of(
    recipe: Recipe, parameter: str = "", groups: Sequence[str] = (), low: float = LOW, high: float = HIGH
) -> tuple[Dial, ...]:
    """One for each merged model and group, where the parameter is of models; else one for each group.

    By default the parameter is what the method has for an amount. Raises MergeError where there is nothing to turn.
    """
    param = param_of(recipe, parameter)
    if recipe.slices:
        raise MergeError("The recipe stacks slices; values are searched for whole models. Give a recipe with `models`.")
    if unknown := [group for group in groups if group not in GROUPS]:
        raise MergeError(f"There is no layer group {unknown[0]!r}. {nearest(unknown[0], GROUPS)}")
    if param.range is not None:
        low, high = max(low, param.range.limits[0]), min(high, param.range.limits[1])
    if not low < high:
        raise MergeError(f"There is nothing between {low:g} and {high:g}: give a lower and a higher bound.")
    models: Sequence[ModelRef | None] = [one.model for one in merged_inputs(recipe)] if param.per_model else [None]
    parts: Sequence[str | None] = groups or [None]
    found = tuple(Dial(param.name, low, high, model, part) for model in models for part in parts)
    if len(found) > MAX_DIALS:
        raise MergeError(f"These are {len(found)} values to search; at most {MAX_DIALS} can be. Leave out groups.")
    return found


def numbers_of(method: str) -> list[Param]:
    """What of a method can be searched."""
    return [param for param in METHODS[method].params if param.type is float]


def param_of(recipe: Recipe, name: str) -> Param:
    method, numbers = METHODS[recipe.method], numbers_of(recipe.method)
    wanted = [name] if name else AMOUNTS
    for one in wanted:
        if found := next((param for param in numbers if param.name == one), None):
            return found
    names = [param.name for param in numbers]
    if not names:
        raise MergeError(f"{method.name} has no parameter that is a number, so there is nothing to search.")
    raise MergeError(f"{method.name} has no number called {wanted[0]!r} to search. It has: {', '.join(names)}.")


def turned(recipe: Recipe, dials: Sequence[Dial], values: Sequence[float]) -> Recipe:
    """The recipe with these values; what no dial is for stays as it is."""
    for parameter, model in dict.fromkeys((dial.parameter, dial.model) for dial in dials):
        mine = {
            dial.group: value
            for dial, value in zip(dials, values, strict=True)
            if (dial.parameter, dial.model) == (parameter, model)
        }
        if model is None:
            recipe = replace(recipe, parameters=with_value(recipe.parameters, parameter, mine, recipe.parameters))
        else:
            recipe = replace(
                recipe, models=tuple(with_input(recipe, one, model, parameter, mine) for one in recipe.models)
            )
    return recipe


def with_input(
    recipe: Recipe, one: Input, model: ModelRef, parameter: str, values: Mapping[str | None, float]
) -> Input:
    if one.model != model:
        return one
    return replace(one, parameters=with_value(one.parameters, parameter, values, recipe.parameters))


def with_value(
    parameters: Parameters, name: str, values: Mapping[str | None, float], shared: Parameters
) -> dict[str, Value]:
    """One value for all tensors, or cases for groups before what held for all."""
    if None in values:
        return {**parameters, name: values[None]}
    cases = [Case(values[group], part) for group in GROUPS if group in values for part in GROUPS[group]]
    old = parameters.get(name, shared.get(name))
    rest = () if old is None else old.cases if isinstance(old, Filtered) else (Case(old),)
    return {**parameters, name: Filtered((*cases, *rest))}


def values_in(recipe: Recipe, dials: Sequence[Dial]) -> tuple[float, ...] | None:
    """What the recipe has now where the dials are; None where that is not one number within each dial's bounds."""
    found = [value_at(recipe, dial) for dial in dials]
    inside = [v for v, dial in zip(found, dials, strict=True) if v is not None and dial.low <= v <= dial.high]
    return tuple(inside) if len(inside) == len(dials) else None


def value_at(recipe: Recipe, dial: Dial) -> float | None:
    own = next((one.parameters for one in recipe.models if one.model == dial.model), {})
    param = param_of(recipe, dial.parameter)
    value = own.get(dial.parameter, recipe.parameters.get(dial.parameter, param.default))
    return None if value is None or isinstance(value, Filtered | Gradient) else float(value)
