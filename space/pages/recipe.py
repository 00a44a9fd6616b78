"""The recipe column: what goes in. The form and the YAML beside it always say the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from merging.methods import METHODS
from merging.recipe import parse_recipe
from space import view
from space.controls import (
    LAMBDAS,
    control,
    is_common,
    label,
    own_params,
    shared_params,
    shown,
)
from space.form import MAX_ROWS, Form
from space.pages.desk import QUICK, TYPED
from space.pages.recipe_values import (
    add_row,
    changed_method,
    empty_form,
    hint,
    removing,
    texts,
    typed_form,
    typed_yaml,
)
from space.publication import suggested_name

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

    def gathered_after(self, event: Any) -> Any:
        """The same after what has filled the form."""
        return event.then(None, js=SETTLE, api_visibility="private").then(**self.gathering)

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
