"""The recipe as the page's form shows it, and the way there and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from merging.methods import METHODS, Method, Param
from merging.recipe import Input, ModelRef, Recipe, all_models, parse_recipe, to_yaml
from merging.settings import read_value
from merging.values import Value, is_plain, plain_tree

HUB_ADDRESS = "https://huggingface.co/"
MAX_ROWS = 8  # models that the form holds

Kept = Mapping[str, Value | None]  # values that no control can show; None: not given, although a control shows one


@dataclass(frozen=True, slots=True)
class Row:
    """One fine-tune. `settings` holds what was set for this model alone; what is absent follows the whole recipe."""

    repo: str = ""
    revision: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """Every control of the recipe column."""

    base: str = ""
    base_revision: str = ""
    rows: tuple[Row, ...] = ()
    method: str = "task_arithmetic"
    settings: Mapping[str, Value] = field(default_factory=dict)
    dtype: str = ""
    seed: int = 0
    yaml: str = ""  # the whole recipe, where it stacks layers: controls only show it

    @property
    def models(self) -> int:
        return sum(1 for row in self.rows if row.repo)


def lambda_param(method: Method) -> Param | None:
    """The setting that gets a slider in each row: the weight, or a scale. Some methods have neither."""
    return next((p for p in method.params if p.name in ("weight", "scale")), None)


def to_recipe(form: Form) -> Recipe:
    """Rows without a repo are left out; a method gets only the settings it declares, and a base only if it uses one."""
    if form.yaml:
        return parse_recipe(form.yaml)
    method = METHODS[form.method]
    declared = {p.name for p in method.params}
    per_model = {p.name for p in method.params if p.per_model}
    base = ref(form.base, form.base_revision)
    models = tuple(
        Input(found, {k: v for k, v in row.settings.items() if k in per_model})
        for row in form.rows
        if (found := ref(row.repo, row.revision))
    )
    listed = any(m.model == base for m in models)
    if base and method.max_models == 1 and method.needs_base and not listed:
        models = (Input(base), *models)  # mergekit lists both ends of a path
    return Recipe(
        method=form.method,
        models=models,
        base=base if method.takes_base or listed else None,
        parameters={k: v for k, v in form.settings.items() if k in declared},
        dtype=form.dtype or None,
        seed=form.seed,
    )


def from_recipe(recipe: Recipe) -> Form:
    """The form that shows this recipe. A weight given once for all models is written into every row."""
    method = METHODS[recipe.method]
    shown = lambda_param(method)
    shared = dict(recipe.parameters)
    rows = [
        Row(m.model.path, m.model.revision or "", dict(m.parameters))
        for m in listed(recipe)
        if not (method.takes_base and m.model == recipe.base)
    ]
    own = [r.settings[shown.name] for r in rows if shown.name in r.settings] if shown else []
    if shown and shown.name in shared and all(can_show(shown, value) for value in (shared[shown.name], *own)):
        everywhere = shared.pop(shown.name)
        rows = [replace(r, settings={shown.name: everywhere, **r.settings}) for r in rows]
    return Form(
        base=recipe.base.path if recipe.base else "",
        base_revision=(recipe.base.revision or "") if recipe.base else "",
        rows=tuple(rows),
        method=recipe.method,
        settings=shared,
        dtype=recipe.out_dtype or recipe.dtype or "",
        seed=recipe.seed,
        yaml=to_yaml(recipe) if recipe.slices else "",
    )


def listed(recipe: Recipe) -> Sequence[Input]:
    """What there is a row for: of slices, every model that they name."""
    return [Input(model) for model in all_models(recipe)] if recipe.slices else recipe.models


def ref(repo: str, revision: str) -> ModelRef | None:
    """A model reference as typed: `org/name`, with the revision beside it or after an @; a repo's address will do."""
    repo, _, tail = repo.strip().removeprefix(HUB_ADDRESS).rstrip("/").partition("@")
    return ModelRef(repo, revision.strip() or tail or None) if repo else None


# -- what no control can show ------------------------------------------------------------------------------------------


def can_show(param: Param, value: Value) -> bool:
    """Whether a control can: one value, and not beyond the end of the slider."""
    if isinstance(value, bool) or not is_plain(value) or param.range is None:
        return is_plain(value)
    return isinstance(value, int | float) and param.range.is_on_slider(value)


def kept_settings(form: Form) -> Kept:
    """The settings of the whole recipe that stay as the YAML has them."""
    params = {p.name: p for p in METHODS[form.method].params}
    slider = lambda_param(METHODS[form.method])
    return {
        name: value
        for name, value in form.settings.items()
        if name in params and (params[name] is slider or not can_show(params[name], value))
    }


def kept_of_row(form: Form, row: Row) -> Kept:
    """The same of one model. Where the slider's setting is the whole recipe's, the row has none of its own."""
    params = {p.name: p for p in METHODS[form.method].params if p.per_model}
    slider = lambda_param(METHODS[form.method])
    kept: dict[str, Value | None] = {
        name: value for name, value in row.settings.items() if name in params and not can_show(params[name], value)
    }
    if slider and slider.name in form.settings and slider.name not in row.settings:
        kept[slider.name] = None
    return kept


def pack_kept(form: Form, rows: int) -> str:
    """What the controls cannot show, as text that travels with them; empty when that is nothing."""
    if form.yaml:
        return json.dumps({"yaml": form.yaml})
    padded = [*form.rows, *[Row()] * rows][:rows]
    tree = {"settings": trees(kept_settings(form)), "rows": [trees(kept_of_row(form, row)) for row in padded]}
    return json.dumps(tree) if tree["settings"] or any(tree["rows"]) else ""


def trees(kept: Kept) -> dict[str, Any]:
    return {name: None if value is None else plain_tree(value) for name, value in kept.items()}


def with_kept(form: Form, packed: str | None) -> Form:
    """The form that the controls say, with what they could not show."""
    tree = json.loads(packed) if packed else {}
    if "yaml" in tree:
        return from_recipe(parse_recipe(tree["yaml"]))
    method = METHODS[form.method]
    rows = tuple(
        replace(row, settings=restored(row.settings, tree["rows"][i], method)) if tree else row
        for i, row in enumerate(form.rows)
    )
    return replace(form, rows=rows, settings=restored(form.settings, tree.get("settings", {}), method))


def restored(settings: Mapping[str, Value], kept: Mapping[str, Any], method: Method) -> dict[str, Value]:
    """Settings with the kept ones in their places, as far as the method has them."""
    found = dict(settings)
    for name, value in kept.items():
        if param := method.param(name):
            found.pop(name, None)
            if value is not None:
                found[name] = read_value(value, name, param)
    return found
