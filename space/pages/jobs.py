"""The Jobs stage: mine, with state and age, and what can be done next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.recipe import parse_recipe
from space import view
from space.form import from_recipe
from space.jobs import Job
from space.pages.desk import QUICK, Desk, Shared, Token, told
from space.pages.recipe import RecipeColumn
from space.pages.recipe_values import shown_form, texts
from space.settings import kept_seconds
from space.viewer import Viewer

SURE = "(chosen, ...shown) => [confirm('Remove this job and its files for good?') ? chosen : '', ...shown]"
EMPTY = view.empty("No jobs yet", "Merges, publications, looks at weights and evaluations are listed here.")
TABS = {"merge": "merge", "diagnose": "inspect", "judge": "judge"}  # where a job is shown; others at what they publish


@dataclass(frozen=True, slots=True)
class JobsStage:
    empty: gr.HTML
    chosen: gr.Radio
    open: gr.Button
    remove: gr.Button

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.empty, self.chosen, self.open, self.remove]


def build_jobs() -> JobsStage:
    empty = gr.HTML(EMPTY)
    chosen = gr.Radio([], label="My jobs", visible=False, elem_classes="job-list", elem_id="job-list")
    with gr.Row(elem_classes="stage-action"):
        open_it = gr.Button("Open", variant="primary", visible=False, elem_id="open-job")
        remove = gr.Button("Remove it and its files", visible=False, elem_id="remove-job")
    return JobsStage(empty, chosen, open_it, remove)


def wire_jobs(stage: JobsStage, tab: gr.Tab, recipe: RecipeColumn, desk: Desk, shared: Shared) -> None:
    kept = kept_seconds(desk.settings)
    places = [shared.job, shared.publication, shared.inspection, shared.tabs, *recipe.all]

    @told()
    def listed(request: gr.Request, token: Token, chosen: str | None) -> list[Any]:
        return jobs_state(desk.service.jobs(desk.viewer(request, token)), chosen, kept)

    @told()
    def opened(request: gr.Request, token: Token, chosen: str) -> list[Any]:
        """Show a job where it belongs, and the recipe it was made from."""
        viewer = desk.viewer(request, token)
        job = desk.find(chosen, viewer)
        return [gr.skip()] * len(places) if job is None else shown_at(job, desk, viewer, len(recipe.all))

    @told()
    def removed(request: gr.Request, token: Token, chosen: str, *shown: str) -> list[Any]:
        viewer = desk.viewer(request, token)
        if not chosen:  # asked whether they are sure, they were not
            return [gr.skip()] * (len(shown) + len(stage.outputs))
        desk.service.forget(chosen, viewer)
        return [*("" if chosen == one else one for one in shown), *jobs_state(desk.service.jobs(viewer), chosen, kept)]

    events = [tab.select, shared.states.change, stage.chosen.input]
    gr.on(events, listed, stage.chosen, stage.outputs, trigger_mode="always_last", **QUICK)
    stage.open.click(opened, stage.chosen, places, **QUICK)
    ids = [shared.job, shared.inspection]
    stage.remove.click(removed, [stage.chosen, *ids], [*ids, *stage.outputs], js=SURE, **QUICK)


def shown_at(job: Job, desk: Desk, viewer: Viewer, controls: int) -> list[Any]:
    """Which merge, publication and look at weights are shown then, in which tab, and the form with its recipe."""
    tab = gr.Tabs(selected=TABS.get(job.kind, "publish"))
    if job.kind == "diagnose":
        return [gr.skip(), gr.skip(), job.id, tab, *form_of(job)]
    if job.kind == "judge":  # which its own stage shows
        return [*[gr.skip()] * 3, tab, *[gr.skip()] * controls]
    pushed = desk.find(job.payload["of"], viewer) if job.kind == "verify" else job  # it is shown with what it verifies
    if pushed is None:
        return [gr.skip()] * (4 + controls)
    merge = pushed if pushed.kind == "merge" else desk.find(str(pushed.payload.get("merge", "")), viewer)
    if merge is None:  # its files were removed; the publication is still there to see
        return ["", pushed.id, gr.skip(), tab, *[gr.skip()] * controls]
    return [merge.id, "" if pushed is merge else pushed.id, gr.skip(), tab, *form_of(merge)]


def form_of(job: Job) -> list[Any]:
    """The recipe that a job was made from, in the form."""
    form = from_recipe(parse_recipe(job.payload["recipe"]))
    return [*shown_form(form), *texts(form)]


def jobs_state(jobs: Sequence[Job], chosen: str | None, kept: float | None) -> list[Any]:
    """The list anew. What is chosen is not said again, as another one may be chosen by now: only that it is gone."""
    ended = {job.id: not job.active for job in jobs}
    gone = {"value": None} if chosen and chosen not in ended else {}
    return [
        gr.update(visible=not jobs),
        gr.update(choices=[(view.job_label(job, kept), job.id) for job in jobs], visible=bool(jobs), **gone),
        gr.update(visible=chosen in ended) if chosen else gr.skip(),
        gr.update(visible=ended.get(chosen, False)) if chosen else gr.skip(),
    ]
