"""The Inspect stage: what the weights say before a merge, one tensor of it, and a few numbers to play with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.diagnostics import Diagnosis, advise
from merging.diagnostics.tables import percent
from merging.errors import MergeError
from space import inspect_view, view
from space.download import address, changes_address
from space.jobs import Job
from space.pages.desk import QUEUED, QUICK, TYPED, Desk, Shared, Token
from space.pages.recipe import RecipeColumn
from space.pages.recipe_values import current
from space.playground import CHOICES, FIRST, Play, share_label, shown, typed
from space.viewer import Viewer

EMPTY = view.empty(
    "Look before you merge",
    "What did each fine-tune change, where, and do their changes agree? Every number stands beside what two models "
    "would show that have nothing to do with each other. Nothing is stored but the numbers.",
)
BEGUN = view.empty("Looking", "Opening the models.", busy=True)
READING = view.empty("Reading", "A few numbers of this tensor.", busy=True)
SAMPLE, WHOLE = "A sample: at most 64 MB of each model, which is all of a small one", "Every entry of every model"
LOOK, AGAIN = "Look at the weights", "Look again"
HIDDEN, SHOWN = gr.update(visible=False), gr.update(visible=True)


@dataclass(frozen=True, slots=True)
class InspectStage:
    amount: gr.Radio
    look: gr.Button
    cancel: gr.Button
    panel: gr.HTML
    report: gr.HTML
    body: gr.Column
    tensor: gr.Dropdown
    changes: gr.HTML
    take: gr.Button
    method: gr.Radio
    numbers: gr.Textbox
    sliders: tuple[gr.Slider, gr.Slider, gr.Slider]  # lambda of the first model and of the others, density or t
    walk: gr.HTML

    @property
    def looked(self) -> list[Any]:
        """What changes while weights are looked at, and when that ends."""
        return [self.panel, self.look, self.cancel, self.report, self.body, self.tensor, self.changes, self.take]

    @property
    def controls(self) -> list[Any]:
        """Those of the playground, in the order of Play."""
        return [self.numbers, self.method, *self.sliders]


def build_inspect() -> InspectStage:
    with gr.Row(elem_classes="stage-action look-row"):
        look = gr.Button(LOOK, variant="primary", interactive=False, elem_id="look-button")
        cancel = gr.Button("Cancel", visible=False, elem_id="look-cancel")
    amount = gr.Radio([SAMPLE, WHOLE], value=SAMPLE, show_label=False, container=False, elem_id="look-amount")
    panel = gr.HTML(EMPTY, elem_id="look-panel")
    report = gr.HTML("", elem_id="look-report")
    with gr.Column(visible=False, elem_classes="one-tensor") as body:
        gr.HTML(
            '<h2>One tensor</h2><p class="help">What each model changed of it, and what the method makes of that.</p>'
        )
        tensor = gr.Dropdown(
            [], value=None, label="Tensor: those that moved most first; type any part of a name", elem_id="look-tensor"
        )
        changes = gr.HTML("", elem_id="look-changes")
        take = gr.Button("Play with 8 of its numbers", size="sm", visible=False, elem_id="look-take")
    gr.HTML(
        '<h2>Playground</h2><p class="help">What a method does to a few numbers, step by step. Type your own, or take '
        "some of a tensor above; then move the sliders.</p>", elem_id="playground",
    )  # fmt: skip
    method = gr.Radio(CHOICES, value="ties", label="Method", show_label=False, container=False, elem_id="play-method")
    numbers = gr.Textbox(
        FIRST, label="One line for the base, one for each model", lines=3, max_lines=9, elem_id="play-numbers"
    )
    with gr.Row(elem_classes="pair play-sliders"):
        first = gr.Slider(-2, 2, 1.0, step=0.05, label="First lambda", elem_id="play-first")
        others = gr.Slider(-2, 2, 1.0, step=0.05, label="Other lambdas", elem_id="play-others")
        share = gr.Slider(0, 1, 0.5, step=0.05, label=share_label("ties"), elem_id="play-share")
    walk = gr.HTML(shown(Play(FIRST, "ties")), elem_id="play-walk")
    return InspectStage(
        amount, look, cancel, panel, report, body, tensor, changes, take, method, numbers, (first, others, share), walk
    )  # fmt: skip


# -- listeners ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    desk: Desk

    def begin(self, request: gr.Request, token: Token, gathered: list[Any], amount: str) -> list[Any]:
        """Queue the job, and show it at once; what was shown before is another one."""
        try:
            viewer = self.desk.viewer(request, token)
            job = self.desk.service.inspections.begin(current(gathered), viewer, sample=amount != WHOLE)
        except MergeError as e:
            return [gr.skip(), gr.skip(), *looked_at(view.problem("These weights cannot be looked at", str(e)))]
        return [job.id, gr.Timer(active=True), *looked_at(view.job_panel(job), active=True)]

    def follow(self, request: gr.Request, token: Token, id: str) -> list[Any]:
        try:
            viewer = self.desk.viewer(request, token)
        except MergeError:  # the notice of the page says it
            return [gr.skip()] * 8
        try:
            job = self.desk.service.inspections.get(id, viewer)
        except MergeError:  # none yet, or it was removed
            return looked_at(EMPTY)
        if job.state != "done":
            return looked_at(view.job_panel(job), active=job.active)
        return self.found(job, viewer)

    def found(self, job: Job, viewer: Viewer) -> list[Any]:
        inspections = self.desk.service.inspections
        try:
            diagnosis, files = inspections.diagnosis(job.id, viewer), inspections.files(job.id, viewer)
        except MergeError as e:
            return looked_at(view.problem("This inspection cannot be shown", str(e)))
        located = {name: (address(job.id, name), path.stat().st_size) for name, path in files.items()}
        said = inspect_view.report(diagnosis, advise(diagnosis), located)
        return looked_at("", report=said, tensors=tensors_of(diagnosis))

    def cancel(self, request: gr.Request, token: Token, id: str) -> Any:
        try:
            self.desk.service.cancel(id, self.desk.viewer(request, token))
        except MergeError:
            return gr.skip()
        return gr.update(value="Cancelling", interactive=False)

    def changes(self, request: gr.Request, token: Token, id: str, tensor: str | None) -> Iterator[list[Any]]:
        if not tensor:
            yield ["", HIDDEN]
            return
        yield [READING, HIDDEN]
        try:
            found = self.desk.service.inspections.histogram(id, tensor, self.desk.viewer(request, token))
        except MergeError as e:
            yield [view.note(str(e), "error"), HIDDEN]
            return
        files = {f"Download {kind.upper()}": changes_address(id, tensor, kind) for kind in ("csv", "png")}
        yield [inspect_view.changes(found, files), SHOWN]

    def take(self, request: gr.Request, token: Token, id: str, tensor: str) -> list[Any]:
        """Some numbers of the tensor, as if they had been typed."""
        try:
            found = self.desk.service.inspections.patch(id, tensor, self.desk.viewer(request, token))
        except MergeError as e:
            return [gr.skip(), view.note(str(e), "error")]
        return [typed(found), gr.skip()]


def looked_at(
    panel: str, *, active: bool = False, report: str = "", tensors: list[tuple[str, str]] | None = None
) -> list[Any]:  # fmt: skip
    """One button that does what is next, the panel or the report, and what can be picked."""
    look = gr.update(visible=not active, value=AGAIN if report else LOOK, variant="secondary" if report else "primary")
    cancel = gr.update(visible=active, value="Cancel", interactive=True)
    picked = gr.update(choices=tensors or [], value=None)
    return [panel, look, cancel, report, gr.update(visible=bool(tensors)), picked, "", HIDDEN]


def tensors_of(found: Diagnosis) -> list[tuple[str, str]]:
    """Each with how far the model moved that changed it most, and these first; none without a base to be moved from."""
    if not found.has_base:
        return []
    sizes = [(part.name, max((m.size or 0.0 for m in part.models), default=0.0)) for part in found.tensors]
    sizes.sort(key=lambda one: -one[1])
    return [(f"{name} ({percent(size)})", name) for name, size in sizes]


def wire_inspect(stage: InspectStage, recipe: RecipeColumn, desk: Desk, shared: Shared) -> None:
    look = Look(desk)
    begun = stage.look.click(begin, None, [stage.panel, stage.look, stage.report, stage.body], **QUICK)
    begun.then(**recipe.gathering).then(
        look.begin, [recipe.gathered, stage.amount], [shared.inspection, shared.timer, *stage.looked], **QUEUED
    )
    gr.on([shared.inspection.change, shared.looks.change], look.follow, shared.inspection, stage.looked, **QUICK)
    stage.cancel.click(look.cancel, shared.inspection, stage.cancel, **QUICK)
    recipe.problem.change(lambda text: gr.update(interactive=not text), recipe.problem, stage.look, **QUICK)
    chosen = [shared.inspection, stage.tensor]
    stage.tensor.input(look.changes, chosen, [stage.changes, stage.take], **QUEUED)
    stage.take.click(look.take, chosen, [stage.numbers, stage.walk], **QUICK)
    wire_playground(stage)


def wire_playground(stage: InspectStage) -> None:
    """Nothing of it needs the queue: it is a moment's work on what was typed."""
    # Input alone misses what is pasted, and what a tensor puts there.
    events = [stage.numbers.change, *(slider.input for slider in stage.sliders)]
    gr.on(events, played, stage.controls, stage.walk, **TYPED)
    stage.method.input(changed_method, stage.controls, [*stage.sliders, stage.walk], **TYPED)


def begin() -> list[Any]:
    return [BEGUN, gr.update(visible=False), "", HIDDEN]


def played(*controls: Any) -> str:
    numbers, method, *sliders = controls
    return shown(Play(numbers or "", method, *(float(value or 0) for value in sliders)))


def changed_method(*controls: Any) -> list[Any]:
    label = share_label(controls[1])
    lambdas = gr.update(visible=controls[1] != "slerp")
    return [lambdas, lambdas, gr.update(visible=bool(label), **({"label": label} if label else {})), played(*controls)]
