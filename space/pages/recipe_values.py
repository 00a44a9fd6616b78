"""What the controls of the recipe column say, and how they look for a recipe: values in, updates out, no layout."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import gradio as gr

from merging.errors import MergeError
from merging.methods import METHODS, Method
from merging.recipe import Setting, parse_recipe, to_yaml
from merging.strict_yaml import load_yaml
from merging.values import Value
from space import view
from space.controls import (
    LAMBDAS,
    dragged,
    first_settings,
    in_the_yaml,
    label,
    own_params,
    settings,
    shared_params,
    shown,
    typed,
)
from space.form import MAX_ROWS, Form, Row, from_recipe, kept_of_row, lambda_param, pack_kept, to_recipe, with_kept


def form_of(values: Sequence[Any]) -> Form:
    """What the controls of `RecipeColumn.values` say."""
    left = iter(values)
    base, revision, method, dtype, seed = islice(left, 5)
    shared = settings(METHODS[method], list(islice(left, len(shared_params()))))
    rows = [row_of(method, list(islice(left, 3 + len(own_params())))) for _ in range(MAX_ROWS)]
    form = Form(base or "", revision or "", tuple(rows), method, shared, dtype or "", int(seed or 0))
    return with_kept(form, next(left, ""))


def row_of(method: str, values: Sequence[Any]) -> Row:
    repo, weight, revision, *own = values
    slider = lambda_param(METHODS[method])
    mine: dict[str, Setting] = {slider.name: typed(slider, dragged(weight, *LAMBDAS))} if slider else {}
    declared = {p.name: p for p in METHODS[method].params if p.per_model}
    for name, value in zip(own_params(), own, strict=True):
        if value is not None and name in declared:
            mine[name] = typed(declared[name], value)
    return Row(repo or "", revision or "", mine)


def controls_of(form: Form) -> list[Any]:
    """The inverse of `form_of`: an update for each control."""
    method = METHODS[form.method]
    padded = [*form.rows, *[Row()] * MAX_ROWS][:MAX_ROWS]
    head = [form.base or None, form.base_revision, form.method, form.dtype, form.seed]
    shared = [s.update() for s in shown(method, form.settings)]
    rows = [update for i, row in enumerate(padded, 1) for update in row_updates(i, row, form)]
    return [*head, *shared, *rows, pack_kept(form, MAX_ROWS)]


def row_updates(number: int, row: Row, form: Form) -> list[Any]:
    """The controls of a row: its slider is the method's, or hidden with its value kept where the method has none.

    What a control cannot show is locked, and says what the YAML says.
    """
    method = METHODS[form.method]
    slider, kept = lambda_param(method), kept_of_row(form, row)
    weight = gr.update(visible=False)
    if slider:
        name = f"{'Lambda' if slider.name == 'weight' else label(slider.name)} {number}"
        value = 1.0 if slider.name in kept else row.settings.get(slider.name, 1.0)
        said = in_the_yaml(kept[slider.name] or form.settings.get(slider.name, 1.0)) if slider.name in kept else ""
        weight = gr.update(
            value=value, visible=True, label=name, info=said or hint(method, number), interactive=not said
        )
    declared = {p.name for p in method.params if p.per_model and p is not slider}
    own = [own_update(row.settings.get(name), name in declared, is_kept=name in kept) for name in own_params()]
    return [row.repo or None, weight, row.revision, *own]


def hint(method: Method, number: int) -> str:
    """What the sliders mean: said once, at the first."""
    slider = lambda_param(method)
    return slider.help if slider and number == 1 else ""


def own_update(value: Value | None, visible: bool, *, is_kept: bool) -> Any:
    placeholder = "set in the YAML" if is_kept else "as for all"
    return gr.update(
        value=None if is_kept else value, visible=visible, placeholder=placeholder, interactive=not is_kept
    )


def visible_groups(form: Form, count: int) -> list[Any]:
    """All controls or none, the YAML where there are none; the base, and as many rows."""
    whole = [gr.update(visible=not form.yaml), gr.update(visible=bool(form.yaml))]
    editor = gr.update(open=True) if form.yaml else gr.skip()
    base = gr.update(visible=METHODS[form.method].takes_base)
    return [*whole, editor, base, *(gr.update(visible=i < max(1, count)) for i in range(MAX_ROWS))]


def empty_form() -> Form:
    """A form that nothing was typed into: the first method, as it starts."""
    first = Form()
    return replace(first, settings=first_settings(METHODS[first.method]))


def texts(form: Form) -> tuple[Any, ...]:
    """YAML; what is still missing or wrong; the summary line; the YAML again, as what the form says; the button."""
    text = form.yaml or to_yaml(to_recipe(form))
    return text, *told(text, problem_of(text, form), form)


def told(text: str, problem: str, form: Form) -> tuple[Any, ...]:
    kind = "warn" if form.models else "quiet"  # an empty form is no fault
    return view.note(problem, kind), view.summary(form), text, gr.update(interactive=not problem)


def problem_of(text: str, form: Form | None = None) -> str:
    """Why the recipe cannot be checked yet, in a sentence; empty when it can."""
    if form is not None and not form.models:
        return "Choose the models to merge."
    try:
        parse_recipe(text)
    except MergeError as e:
        return str(e)
    return ""


def typed_form(gathered: Sequence[Any]) -> tuple[Any, ...]:
    return texts(form_of(gathered[2:]))


def changed_method(count: int, synced: str, gathered: Sequence[Any]) -> list[Any]:
    """A new method starts from its own defaults; models and lambdas stay.

    Gradio's list says that it has changed whenever it is left: then nothing is touched.
    """
    form = form_of(gathered[2:])
    is_new = form.method != method_in(synced)
    slider = lambda_param(METHODS[form.method])
    start: dict[str, Value] = {slider.name: 1.0} if slider else {}
    rows = tuple(replace(row, settings={**start, **row.settings}) for row in form.rows)
    form = replace(form, rows=rows, settings=first_settings(METHODS[form.method]))
    groups = visible_groups(form, count)
    said = [*controls_of(form), *groups, view.method_help(METHODS[form.method]), *texts(form)]
    return said if is_new else [gr.skip()] * len(said)


def method_in(text: str) -> str:
    """The method that a recipe names; empty when it cannot be read."""
    try:
        raw = load_yaml(text, "The recipe")
    except MergeError:
        return ""
    return str(raw.get("merge_method", "")) if isinstance(raw, dict) else ""


def typed_yaml(text: str) -> list[Any]:
    """The YAML was edited: the form follows when it can be read, and stays when it cannot. Without any it is empty."""
    try:
        form = read_form(text) if text.strip() else empty_form()
    except MergeError as e:
        keep = [gr.skip()] * (control_count() + len(visible_groups(Form(), 0)) + 2)
        return [*keep, view.note(str(e), "warn"), gr.skip(), gr.skip(), gr.update(interactive=False)]
    return [*shown_form(form), *told(text, problem_of(text, form), form)]


def read_form(text: str) -> Form:
    """The form that shows a recipe; raises MergeError where the text is none, or lists more than the form holds."""
    form = from_recipe(parse_recipe(text))
    if len(form.rows) > MAX_ROWS and not form.yaml:
        raise MergeError(f"The recipe lists {len(form.rows)} models; at most {MAX_ROWS} can be merged here.")
    return form


def current(gathered: Sequence[Any]) -> str:
    """The recipe as it stands: the form, which may be a step ahead of the YAML; or the YAML, when that was edited."""
    by_hand, text, *values = gathered
    return text if by_hand else to_yaml(to_recipe(form_of(values)))


def shown_form(form: Form) -> list[Any]:
    """Updates of all controls, the row groups, the number of rows and the words about the method."""
    count = max(2, len(form.rows))
    return [*controls_of(form), *visible_groups(form, count), count, view.method_help(METHODS[form.method])]


def control_count() -> int:
    return 6 + len(shared_params()) + MAX_ROWS * (3 + len(own_params()))


def add_row(count: int, method: str) -> list[Any]:
    count = min(MAX_ROWS, count + 1)
    return [count, *visible_groups(Form(method=method), count), gr.update(interactive=count < MAX_ROWS)]


def removing(index: int) -> Callable[..., list[Any]]:
    def remove(count: int, gathered: Sequence[Any]) -> list[Any]:
        form = form_of(gathered[2:])
        kept = tuple(row for i, row in enumerate(form.rows) if i != index)
        less = replace(form, rows=kept)
        count = max(1, count - 1)
        return [
            count,
            *controls_of(less),
            *visible_groups(less, count),
            gr.update(interactive=True),
            *texts(less),
        ]

    return remove
