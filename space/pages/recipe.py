"""The recipe column: what goes in. The form and the YAML beside it always say the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    control,
    dragged,
    first_settings,
    in_the_yaml,
    is_common,
    label,
    own_params,
    settings,
    shared_params,
    shown,
    typed,
)
from space.form import Form, Row, from_recipe, kept_of_row, lambda_param, pack_kept, to_recipe, with_kept
from space.pages.desk import QUICK, TYPED
from space.publication import suggested_name

MAX_ROWS = 8
SAVE = """(text, name) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text]));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}"""
# Gradio 6.31 tells every input of a listener, each looked for in the whole tree of the page, how far every event is.
# So the browser gathers the many controls into one.
GATHER = "(...all) => [all]"
SETTLE = "() => new Promise(done => setTimeout(() => done([])))"  # a control tells of what is typed before it has it
BY_HAND, BY_FORM = "() => 'yes'", "() => new Promise(done => setTimeout(() => done('')))"
LOCKED = view.note("This recipe stacks layers: it is edited as YAML. Empty the YAML to go back to the form.")
DTYPES = [("As the inputs", ""), ("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """The controls of one fine-tune."""

    group: gr.Column
    repo: gr.Dropdown
    weight: gr.Slider
    revision: gr.Textbox
    own: tuple[gr.Number, ...]  # one for each of own_params
    remove: gr.Button

    @property
    def values(self) -> list[gr.components.Component]:
        return [self.repo, self.weight, self.revision, *self.own]


@dataclass(frozen=True, slots=True)
class RecipeColumn:
    """The controls, in the order in which listeners get their values; the layout around them; and the YAML."""

    controls: gr.Column  # all but the YAML
    locked: gr.HTML  # what stands there instead
    editor: gr.Accordion
    base_group: gr.Column
    base: gr.Dropdown
    base_revision: gr.Textbox
    method: gr.Dropdown
    dtype: gr.Dropdown
    seed: gr.Number
    shared: tuple[gr.components.Component, ...]
    rows: tuple[ModelRow, ...]
    kept: gr.Textbox  # what the YAML says and no control can show
    help: gr.HTML
    add: gr.Button
    summary: gr.HTML
    yaml: gr.Code
    problem: gr.HTML
    check: gr.Button
    count: gr.State  # how many rows are shown
    known: gr.State  # repo IDs that each of the boxes lists
    synced: gr.State  # the YAML that the form says
    by_hand: gr.Textbox  # not empty while the YAML was touched last, and not the form
    gathered: gr.BrowserState  # `by_hand`, YAML and values as they stand; kept in the browser, for a reload

    @property
    def values(self) -> list[gr.components.Component]:
        first: list[gr.components.Component] = [self.base, self.base_revision, self.method, self.dtype, self.seed]
        return [*first, *self.shared, *(c for row in self.rows for c in row.values), self.kept]

    @property
    def gathering(self) -> dict[str, Any]:
        """A listener of the browser's own, to which what needs the form is chained."""
        inputs = [self.by_hand, self.yaml, *self.values]
        return {"fn": None, "js": GATHER, "inputs": inputs, "outputs": self.gathered, "api_visibility": "private"}

    def gathered_on(self, *events: Any, touched: bool = False) -> Any:
        """When one of these happens, the form as it then stands is gathered, to be chained to. `touched`: by it."""
        first: dict[str, Any] = {"outputs": self.by_hand, "js": BY_FORM} if touched else {"js": SETTLE}
        return gr.on(events, None, **first, api_visibility="private").then(**self.gathering)

    @property
    def boxes(self) -> list[gr.Dropdown]:
        return [self.base, *(row.repo for row in self.rows)]

    @property
    def groups(self) -> list[Any]:
        """What is shown or hidden: all controls, the base, for methods that have one, and the rows in use."""
        return [self.controls, self.locked, self.editor, self.base_group, *(row.group for row in self.rows)]

    @property
    def all(self) -> list[Any]:
        """What `shown_form` and `texts` together fill."""
        return [*self.values, *self.groups, self.count, self.help, *self.text]

    @property
    def text(self) -> list[gr.components.Component]:
        """What follows from the form."""
        return [self.yaml, *self.told]

    @property
    def told(self) -> list[gr.components.Component]:
        """What follows from the YAML."""
        return [self.problem, self.summary, self.synced, self.check]


def build_recipe() -> RecipeColumn:
    """Lay out the column."""
    with gr.Row(elem_classes="only-phone recipe-summary"):
        summary = gr.HTML(view.summary(Form()))
        for word in ("Change", "Fold"):  # style.css shows the one that can be done
            button = gr.Button(word, size="sm", scale=0, min_width=90, elem_classes=["quiet", word.lower()])
            button.click(None, js="() => document.querySelector('.workbench').classList.toggle('folded')")
    with gr.Column(elem_classes="recipe-body"):
        with gr.Column(elem_classes="recipe-controls") as controls:
            gr.HTML("<h2>Models</h2>")
            base_group, base, base_revision = build_base()
            rows = tuple(build_row(i) for i in range(MAX_ROWS))
            add = gr.Button("Add a model", size="sm", elem_classes="quiet")
            gr.HTML("<h2>Method</h2>")
            first = METHODS[Form().method]
            titles = [(m.title, m.name) for m in METHODS.values()]
            method = gr.Dropdown(titles, value=first.name, label="Method", elem_id="method")
            helped = gr.HTML(view.method_help(first))
            looks = list(zip(shared_params().values(), shown(first, {}), strict=True))
            shared = tuple(control(p, look) for p, look in looks if is_common(p))
            with gr.Accordion("More settings of the method", open=False):
                shared += tuple(control(p, look) for p, look in looks if not is_common(p))
            with gr.Accordion("Precision and seed", open=False):
                dtype = gr.Dropdown(
                    DTYPES, value="", label="Precision of the result", info="Sums are always in float32."
                )
                seed = gr.Number(0, label="Seed", precision=0, info="Used by methods that drop at random.")
        locked = gr.HTML(LOCKED, visible=False, elem_id="recipe-locked")
        text, missing, *_ = texts(empty_form())
        editor, yaml = build_editor(text)
    with gr.Column(elem_classes="next-action"):
        problem = gr.HTML(missing, elem_id="recipe-problem")
        check = gr.Button("Check", variant="primary", interactive=False, elem_id="check-button")
    return RecipeColumn(
        controls, locked, editor, base_group, base, base_revision, method, dtype, seed, shared, rows,
        gr.Textbox("", visible=False), helped, add, summary, yaml, problem, check, gr.State(2),
        gr.State([[]] * (1 + MAX_ROWS)), gr.State(text), gr.Textbox("", visible=False),
        gr.BrowserState(None, storage_key="alloy-recipe", secret="alloy"),
    )  # fmt: skip


def build_editor(text: str) -> tuple[gr.Accordion, gr.Code]:
    """The recipe as text. It is saved under the name of the merge; Gradio's own button calls every recipe alike."""
    with gr.Accordion("Recipe as YAML", open=False) as editor:
        yaml = gr.Code(text, language="yaml", show_label=False, buttons=["copy"], elem_id="recipe-yaml")
        name = gr.Textbox("", visible=False)
        save = gr.Button("Download", size="sm", elem_classes="quiet", elem_id="recipe-download")
        save.click(file_name, yaml, name, **QUICK).then(None, [yaml, name], js=SAVE)
    return editor, yaml


def file_name(text: str) -> str:
    try:
        return f"{suggested_name(parse_recipe(text))}.yaml"
    except MergeError:  # unfinished, and worth saving all the same
        return "recipe.yaml"


def build_examples(examples: Sequence[tuple[str, Form]]) -> list[gr.Button]:
    with gr.Row(elem_classes="examples"):
        gr.HTML('<p class="help">Examples</p>')
        return [gr.Button(title, size="sm", elem_classes="quiet") for title, _ in examples]


def build_base() -> tuple[gr.Column, gr.Dropdown, gr.Textbox]:
    with gr.Column(elem_classes="model-row base") as group:
        base = repo_box("Base: what all of them started from")
        with gr.Accordion("Revision", open=False, elem_classes="more"):
            revision = gr.Textbox(label="Revision of the base", placeholder="main", max_lines=1)
    return group, base, revision


def build_row(index: int) -> ModelRow:
    name = f"Model {index + 1}"
    with gr.Column(visible=index < 2, elem_classes=["model-row", f"c{index + 1}"]) as group:
        with gr.Row(elem_classes="model-head"):
            repo = repo_box(name)
            remove = gr.Button("Remove", size="sm", elem_classes="remove quiet", min_width=72, scale=0)
        weight = gr.Slider(
            *LAMBDAS, 1.0, step=0.01, label=f"Lambda {index + 1}", info=hint(METHODS[Form().method], index + 1),
            elem_classes="lambda",
        )  # fmt: skip
        with gr.Accordion("More", open=False, elem_classes="more"):
            revision = gr.Textbox(label=f"Revision of model {index + 1}", placeholder="main", max_lines=1)
            own = tuple(
                gr.Number(None, label=f"{label(p.name)} of model {index + 1}", placeholder="as for all", visible=False)
                for p in own_params().values()
            )
    return ModelRow(group, repo, weight, revision, own, remove)


def repo_box(name: str) -> gr.Dropdown:
    return gr.Dropdown([], value=None, label=name, allow_custom_value=True, filterable=True, elem_classes="repo")


# -- values of the controls <-> form -----------------------------------------------------------------------------------


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


# -- listeners ---------------------------------------------------------------------------------------------------------


def wire_recipe(column: RecipeColumn, search: Callable[..., Any]) -> None:
    """Keep form, YAML and rows in step."""
    rows = column.count
    typed = [c for c in column.values if c is not column.method]
    # Input alone misses what is pasted, and what a number becomes when it is left.
    events = [getattr(c, name) for c in typed for name in ("input", "blur", "release") if hasattr(c, name)]
    column.gathered_on(*events, touched=True).then(typed_form, column.gathered, column.text, **TYPED)
    column.gathered_on(column.method.input, touched=True).then(
        changed_method,
        [rows, column.synced, column.gathered],
        [*column.values, *column.groups, column.help, *column.text],
        **TYPED,
    )
    column.yaml.input(None, None, column.by_hand, js=BY_HAND, api_visibility="private").then(
        typed_yaml, column.yaml, [*column.values, *column.groups, rows, column.help, *column.told],
        **TYPED,
    )  # fmt: skip
    column.add.click(add_row, [rows, column.method], [rows, *column.groups, column.add], **TYPED)
    for index, row in enumerate(column.rows):
        column.gathered_on(row.remove.click, touched=True).then(
            removing(index), [rows, column.gathered], [rows, *column.values, *column.groups, column.add, *column.text],
            **TYPED,
        )  # fmt: skip
    for number, box in enumerate(column.boxes):
        box.key_up(search(number), column.known, [column.known, box], **TYPED)


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
