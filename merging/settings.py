"""A recipe's parameters: checked against what the method declares, and resolved for one tensor."""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from merging.errors import MergeError
from merging.methods import Method, Param
from merging.methods.spec import Setting, Settings
from merging.values import Case, Filtered, Gradient, Parameters, Value, at

SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # which YAML 1.1 reads as text where there is no point
MAX_POINTS = 10_000  # of a gradient, and cases of a list with filters


def read_parameters(raw: Any, place: str, method: Method, *, per_model: bool) -> dict[str, Value]:
    """Check the parameters of one model (`per_model`), of a slice or of the whole recipe."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MergeError(f"{place} must be a mapping of names to values, not {shown(raw)}.")
    return {name: read_parameter(name, value, place, method, per_model) for name, value in raw.items()}


def read_parameter(name: str, value: Any, place: str, method: Method, per_model: bool) -> Value:
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


def read_value(value: Any, where: str, param: Param) -> Value:
    """One value, a gradient, or a list of cases with filters."""
    if isinstance(value, dict):  # a list of one, as mergekit reads it
        return Filtered((read_case(value, where, param),))
    if not isinstance(value, list):
        return read_setting(value, where, param)
    if not value:
        raise MergeError(f"{where} is an empty list. Give one value, a gradient over the layers, or a list of filters.")
    if len(value) > MAX_POINTS:
        raise MergeError(f"{where} is a list of {len(value):,}; at most {MAX_POINTS:,} are read.")
    if any(isinstance(entry, dict) for entry in value):
        return Filtered(tuple(read_case(entry, f"{where}[{i}]", param) for i, entry in enumerate(value)))
    return read_gradient(value, where, param)


def read_gradient(value: list[Any], where: str, param: Param) -> Gradient:
    if param.type is not float:
        raise MergeError(
            f"{where} is a list, and {param.name} {kind(param)}, so there is nothing between two values. "
            "Give one value, or a list of mappings with filter and value."
        )
    return Gradient(tuple(read_setting(point, f"{where}[{i}]", param) for i, point in enumerate(value)))


def read_case(raw: Any, where: str, param: Param) -> Case:
    """One entry of a list with filters. Its value may be a gradient, but not such a list again."""
    if not isinstance(raw, dict):
        raise MergeError(f"{where} is {shown(raw)}. Beside entries with a filter it must be one too: `value: ...`.")
    for key in raw:
        if key not in ("filter", "value"):
            raise MergeError(f"{where}.{shown(key)} is not known here. {nearest(key, ('filter', 'value'))}")
    if "value" not in raw:
        raise MergeError(f"{where}.value is missing: an entry needs one, and may have a filter.")
    pattern, value = raw.get("filter"), raw["value"]
    if pattern is not None and not (isinstance(pattern, str) and pattern.isprintable()):
        raise MergeError(f"{where}.filter is {shown(pattern)}, it must be a part of a tensor's name, like mlp.")
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value)):
        raise MergeError(f"{where}.value has filters inside a filter. Give one value, or a gradient over the layers.")
    read = read_value(value, f"{where}.value", param)
    assert not isinstance(read, Filtered), "refused above"
    return Case(read, pattern)


def read_setting(value: Any, where: str, param: Param) -> Setting:
    if isinstance(value, list):
        raise MergeError(f"{where} is a list inside a list. Give one value.")
    if param.type is bool:
        if isinstance(value, bool):
            return value
        raise MergeError(f"{where} is {shown(value)}, it must be true or false.")
    return read_number(float(value) if is_scientific(value) else value, where, param)


def is_scientific(value: Any) -> bool:
    return isinstance(value, str) and SCIENTIFIC.fullmatch(value) is not None


def read_number(value: Any, where: str, param: Param) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MergeError(f"{where} is {shown(value)}, it must be a number{allowed(param)}.{hint(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise MergeError(f"{where} is {value}, it must be a finite number{allowed(param)}.")
    if param.range is not None and value not in param.range:
        raise MergeError(f"{where} is {shown(value)}, it must be{allowed(param)}.")
    if param.type is int and value != int(value):
        raise MergeError(f"{where} is {shown(value)}, it must be a whole number{allowed(param)}.")
    return int(value) if param.type is int else value


def kind(param: Param) -> str:
    return "is true or false" if param.type is bool else "is a whole number"


def example(param: Param) -> str:
    return "true" if param.type is bool else "1" if param.type is int else "0.5"


def allowed(param: Param) -> str:
    if param.range is None:
        return ""
    low, high = param.range.limits
    return f" above {low:g} and up to {high:g}" if param.range.above else f" between {low:g} and {high:g}"


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


def resolve(
    method: Method, inputs: Sequence[tuple[str, Parameters]], shared: Sequence[Parameters], tensor: str, depth: float
) -> Settings:
    """The keyword arguments of the method's kernel for one tensor, at its depth (0 to 1) in the slice.

    `inputs` are the models, each with the tensor's name in it and its own parameters; `shared` those of the slice, then
    those of the recipe. The first of these that has a value for this tensor decides, else the default. As in mergekit
    a filter looks at the input's name where each model has a value, and at the output's (`tensor`) where all share one.
    """
    return {
        keyword(p.name): tuple(value_for(p, (own, *shared), name, depth) for name, own in inputs)
        if p.per_model
        else value_for(p, shared, tensor, depth)
        for p in method.params
    }


def value_for(param: Param, levels: Sequence[Parameters], tensor: str, depth: float) -> Setting:
    for given in levels:
        if param.name in given and (value := at(given[param.name], tensor, depth)) is not None:
            return value
    if param.default is None:
        raise MergeError(
            f"{param.name} has no value for {tensor!r}: no filter lets it through. "
            f"Add an entry without a filter at the end, like `- value: {example(param)}`."
        )
    return param.default


def keyword(name: str) -> str:
    return "lambda_" if name == "lambda" else name
