"""Turn what methods declare into Gradio controls, and their values back into settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.methods import METHODS, Method, Param
from merging.recipe import Setting
from merging.values import Value, in_words, plain_tree
from space.form import can_show, lambda_param

LAMBDAS = (-2.0, 2.0)  # the ends of a row's slider
MAX_WORDS = 80  # of a value that the YAML holds


def label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def shared_params() -> dict[str, Param]:
    """Every setting that some method has, but for the one that each row's slider shows; by name, the common first."""
    found: dict[str, Param] = {}
    for method in METHODS.values():
        for param in method.params:
            if param is not lambda_param(method):
                found.setdefault(param.name, param)
    return dict(sorted(found.items(), key=lambda item: not is_common(item[1])))


def is_common(param: Param) -> bool:
    """What a person must or mostly does choose; the rest is folded."""
    return param.per_model or param.default is None


def own_params() -> dict[str, Param]:
    """The settings that a single model can have of its own, besides its slider."""
    methods = METHODS.values()
    return {p.name: p for method in methods for p in method.params if p.per_model and p is not lambda_param(method)}


@dataclass(frozen=True, slots=True)
class Shown:
    """How one control looks for one method."""

    visible: bool
    value: Setting | None = None
    param: Param | None = None
    kept: Value | None = None  # what the YAML says and the control cannot: it is locked

    def update(self) -> dict[str, Any]:
        if not self.visible or self.param is None:
            return gr.update(visible=False)
        limits: dict[str, Any] = {}
        if self.param.range is not None and self.param.type is not bool:
            limits = {"minimum": self.param.range.low, "maximum": self.param.range.high, "step": self.param.range.step}
        info = self.param.help if self.kept is None else in_the_yaml(self.kept)
        return gr.update(visible=True, value=self.value, info=info, interactive=self.kept is None, **limits)


def in_the_yaml(value: Value) -> str:
    """`Set in the YAML: 0 to 0.5 to 1.`"""
    said = in_words(plain_tree(value))
    return f"Set in the YAML: {said if len(said) <= MAX_WORDS else said[: MAX_WORDS - 1] + '…'}."


def control(param: Param, shown: Shown) -> gr.components.Component:
    """A control for one setting, as it looks for the method that is chosen first."""
    name, value = label(param.name), shown.value if shown.visible else first(param)
    if param.type is bool:
        return gr.Checkbox(bool(value), label=name, info=param.help, visible=shown.visible)
    if param.range is None:
        whole = 0 if param.type is int else None
        return gr.Number(value, label=name, info=param.help, visible=shown.visible, precision=whole)
    limits = param.range
    return gr.Slider(
        limits.low, limits.high, value, step=limits.step, label=name, info=param.help, visible=shown.visible
    )


def shown(method: Method, settings: Mapping[str, Value]) -> list[Shown]:
    """For each of `shared_params`, whether this method has it, and the value: what was set, else its default."""
    mine = {p.name: p for p in method.params if p is not lambda_param(method)}
    return [look(mine[name], settings.get(name)) if name in mine else Shown(False) for name in shared_params()]


def look(param: Param, value: Value | None) -> Shown:
    if value is None:
        return Shown(True, default(param), param)
    if isinstance(value, bool | int | float) and can_show(param, value):
        return Shown(True, value, param)
    return Shown(True, default(param), param, kept=value)


def default(param: Param) -> Setting | None:
    """What a recipe means that does not give it; for what must be given, where its control starts."""
    return first(param) if param.default is None else param.default


def first(param: Param) -> Setting | None:
    """What a new form shows: where the control starts. That can say more than the default (density 1 keeps all)."""
    if param.range is None or param.range.start is None:
        return param.range.low if param.default is None and param.range else param.default
    return param.range.start


def first_settings(method: Method) -> dict[str, Setting]:
    """The settings of a form in which this method was just chosen."""
    mine = [p for p in method.params if p is not lambda_param(method)]
    return {p.name: value for p in mine if (value := first(p)) is not None}


def settings(method: Method, values: Iterable[Setting | None]) -> dict[str, Setting]:
    """The inverse of `shown`: the values of all shared controls, as the settings of this method."""
    mine = {p.name: p for p in method.params}
    named = zip(shared_params(), values, strict=True)
    return {name: said for name, value in named if name in mine and (said := read(mine[name], value)) is not None}


def read(param: Param, value: Setting | None) -> Setting | None:
    """What a control says; None where it is empty."""
    if param.range is not None and param.type is not bool:
        return typed(param, dragged(value, param.range.low, param.range.high))
    return None if value is None else typed(param, value)


def dragged(value: Setting | None, low: float, high: float) -> float:
    """What a slider shows once its number is left: one half typed counts as 0, one out of range as the nearest end."""
    return float(min(max(value or 0.0, low), high))


def typed(param: Param, value: Setting) -> Setting:
    """Gradio gives 1 for 1.0 and the other way round; a recipe keeps the declared type."""
    return param.type(value)  # type: ignore[no-any-return]
