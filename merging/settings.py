"""A recipe's parameters: checked against what the method declares, and resolved for one tensor."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from merging.errors import MergeError
from merging.methods import Method, Param
from merging.methods.spec import Setting, Settings

Parameters = Mapping[str, Setting]


def read_parameters(raw: Any, place: str, method: Method, *, per_model: bool) -> dict[str, Setting]:
    """Check the parameters of one model (`per_model`) or of the whole recipe."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MergeError(f"{place} must be a mapping of names to values, not {shown(raw)}.")
    return {name: read_parameter(name, value, place, method, per_model) for name, value in raw.items()}


def read_parameter(name: str, value: Any, place: str, method: Method, per_model: bool) -> Setting:
    where = f"{place}.{name}"
    if name in method.without_effect:
        return read_without_effect(value, where)
    if (param := method.param(name)) is None:
        names = [p.name for p in method.params]
        raise MergeError(f"{where} is not a parameter of {method.name}. {nearest(name, names)}")
    if per_model and not param.per_model:
        raise MergeError(f"{where}: {name} is one value for the whole merge. Put it under the recipe's own parameters.")
    return read_value(value, where, param)


def read_without_effect(value: Any, where: str) -> Setting:
    """A parameter of mergekit's that changes nothing here; it still has to be a value."""
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise MergeError(f"{where} is {shown(value)}; it must be a number, true or false. It has no effect: remove it.")


def read_value(value: Any, where: str, param: Param) -> Setting:
    refuse_lists(value, where)
    if param.type is bool:
        if isinstance(value, bool):
            return value
        raise MergeError(f"{where} is {shown(value)}, it must be true or false.")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MergeError(f"{where} is {shown(value)}, it must be a number{allowed(param)}.{hint(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise MergeError(f"{where} is {value}, it must be a finite number{allowed(param)}.")
    if param.range is not None and value not in param.range:
        raise MergeError(f"{where} is {shown(value)}, it must be{allowed(param)}.")
    if param.type is int and value != int(value):
        raise MergeError(f"{where} is {shown(value)}, it must be a whole number{allowed(param)}.")
    return int(value) if param.type is int else value


def refuse_lists(value: Any, where: str) -> None:
    if isinstance(value, list | dict):
        raise MergeError(
            f"{where} is a {'list' if isinstance(value, list) else 'mapping'}. Gradients over the layers and "
            "filters by tensor name are not supported yet: give one value."
        )


def allowed(param: Param) -> str:
    if param.range is None:
        return ""
    if param.range.above:
        return f" above {param.range.low:g} and up to {param.range.high:g}"
    return f" between {param.range.low:g} and {param.range.high:g}"


def hint(value: Any) -> str:
    """What to write instead of a text that looks like a number (YAML 1.1 reads 1e-3 as text)."""
    if isinstance(value, str):
        with suppress(ValueError):
            if math.isfinite(number := float(value)):
                return f" Write it as {number!r}, without quotes."
    return ""


def shown(value: Any) -> str:
    """A value as a person would write it in the recipe, cut short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = "empty" if value is None else repr(value) if isinstance(value, str | float) else digits(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def digits(value: int) -> str:
    return str(value) if abs(value) < 10**50 else "a very large number"


def nearest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    if close := difflib.get_close_matches(name, names, n=1):
        return f"Did you mean {close[0]}?"
    return f"Known here: {', '.join(names)}."


def resolve(method: Method, inputs: Sequence[Parameters], shared: Parameters, tensor: str) -> Settings:
    """The keyword arguments of the method's kernel for one tensor.

    A model's own value counts first, then the recipe's, then the default.
    `tensor` does not matter yet: gradients and filters will choose by it.
    """
    return {keyword(p.name): value_for(p, inputs, shared) for p in method.params}


def value_for(param: Param, inputs: Sequence[Parameters], shared: Parameters) -> Any:
    fallback = shared.get(param.name, param.default)
    return tuple(own.get(param.name, fallback) for own in inputs) if param.per_model else fallback


def keyword(name: str) -> str:
    return "lambda_" if name == "lambda" else name
