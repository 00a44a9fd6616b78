"""A filmstrip: the same recipe at several lambdas, to be asked the same prompt. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from merging.errors import MergeError
from merging.methods import METHODS, Param
from merging.recipe import Input, ModelRef, Recipe, merged_inputs
from merging.values import Value
from space.form import lambda_param

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)
ALL = ""  # which lambdas move: all of them together, or those of one model by its name
BETWEEN = ("t", "alpha")  # settings that go from one model to the other


def frames(recipe: Recipe, which: str = ALL, factors: Sequence[float] = FACTORS) -> list[Recipe]:
    """The recipe with its lambdas, or that of one model, times each of the factors.

    Where the method has no lambda but a place between two models, that goes through the factors. Raises MergeError
    where there is neither, or where what would move is not one number.
    """
    if recipe.slices:
        raise MergeError("This recipe stacks layers, and has no lambda to move. Merge it, then chat with the merge.")
    param = lambda_param(METHODS[recipe.method])
    if param is None:
        return [between(recipe, factor) for factor in factors]
    moved = movable(recipe)
    if which and which not in [str(model) for model in moved]:
        raise MergeError(f"The recipe has no model {which}. Choose another one.")
    chosen = {m for m in moved if which in (ALL, str(m))}
    return [times(recipe, param, chosen, factor) for factor in factors]


def movable(recipe: Recipe) -> list[ModelRef]:
    """The models whose lambda can be moved."""
    if recipe.slices or lambda_param(METHODS[recipe.method]) is None:
        return []
    return [one.model for one in merged_inputs(recipe)]


def between(recipe: Recipe, place: float) -> Recipe:
    name = next((p.name for p in METHODS[recipe.method].params if p.name in BETWEEN and not p.per_model), None)
    if name is None:
        raise MergeError(f"{METHODS[recipe.method].title} has no lambda to move. Choose another method.")
    return replace(recipe, parameters={**recipe.parameters, name: place})


def times(recipe: Recipe, param: Param, models: set[ModelRef], factor: float) -> Recipe:
    inputs = []
    for one in recipe.models:
        value = one.parameters.get(param.name, recipe.parameters.get(param.name, param.default))
        moved = scaled(value, factor, one) if one.model in models else value
        inputs.append(replace(one, parameters={**one.parameters, **({} if moved is None else {param.name: moved})}))
    return replace(recipe, models=tuple(inputs))


def scaled(value: Value | None, factor: float, one: Input) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MergeError(f"The lambda of {one.model} is not one number, so it cannot be moved as one. Set it to one.")
    return round(value * factor, 6) + 0.0  # not -0


def lambdas(recipe: Recipe, *, named: bool = True) -> str:
    """`pocket-reverse 0.7, pocket-add 0.7`: what tells one merge of the same models from another. `0.7, 0.7` where the
    models need no naming."""
    method = METHODS[recipe.method]
    param = lambda_param(method)
    if recipe.slices:
        return method.title
    if param is None:
        name = next((p.name for p in method.params if p.name in BETWEEN and not p.per_model), None)
        value = recipe.parameters.get(name) if name else None
        return f"{method.title}, {name} {value:g}" if isinstance(value, int | float) else method.title
    said = []
    for one in merged_inputs(recipe):
        value = one.parameters.get(param.name, recipe.parameters.get(param.name, param.default))
        name = f"{one.model.path.split('/')[-1]} " if named else ""
        said.append(f"{name}{value:g}" if isinstance(value, int | float) else "by layer")
    return ", ".join(said)
