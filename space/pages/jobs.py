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
from space.pages.recipe import RecipeColumn, shown_form, texts
from space.settings import kept_seconds

SURE = "(chosen, shown) => [confirm('Remove this job and its files for good?') ? chosen : '', shown]"
SHOWN_HERE = ("merge", "publish", "verify")  # other kinds have a stage of their own, which shows them
EMPTY = view.empty("No jobs yet", "Merges and publications are listed here.")


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

    @told()
    def listed(request: gr.Request, token: Token, chosen: str | None) -> list[Any]:
        return jobs_state(desk.service.jobs(desk.viewer(request, token)), chosen, kept)

    @told()
    def opened(request: gr.Request, token: Token, chosen: str) -> list[Any]:
        """Show a job where it belongs, and the recipe it was made from."""
        viewer = desk.viewer(request, token)
        job = desk.find(chosen, viewer)
        tab = gr.Tabs(selected="merge" if job is not None and job.kind == "merge" else "publish")
        if job is not None and job.kind == "verify":  # shown with what it verifies
            job = desk.find(job.payload["of"], viewer)
        merge = job if job is None or job.kind == "merge" else desk.find(str(job.payload.get("merge", "")), viewer)
        if job is None or job.kind not in SHOWN_HERE:
            return [gr.skip()] * (3 + len(recipe.all))
        if merge is None:  # its files were removed; the publication is still there to see
            return ["", job.id, tab, *[gr.skip()] * len(recipe.all)]
        form = from_recipe(parse_recipe(merge.payload["recipe"]))
        return [merge.id, "" if job is merge else job.id, tab, *shown_form(form), *texts(form)]

    @told()
    def removed(request: gr.Request, token: Token, chosen: str, shown: str) -> list[Any]:
        viewer = desk.viewer(request, token)
        if not chosen:  # asked whether they are sure, they were not
            return [gr.skip()] * (1 + len(stage.outputs))
        desk.service.forget(chosen, viewer)
        return ["" if chosen == shown else shown, *jobs_state(desk.service.jobs(viewer), None, kept)]

    gr.on([tab.select, shared.states.change], listed, stage.chosen, stage.outputs, **QUICK)
    stage.chosen.input(listed, stage.chosen, stage.outputs, **QUICK)
    stage.open.click(opened, stage.chosen, [shared.job, shared.publication, shared.tabs, *recipe.all], **QUICK)
    stage.remove.click(removed, [stage.chosen, shared.job], [shared.job, *stage.outputs], js=SURE, **QUICK)


def jobs_state(jobs: Sequence[Job], chosen: str | None, kept: float | None) -> list[Any]:
    ended = {job.id: not job.active for job in jobs}
    return [
        gr.update(visible=not jobs),
        gr.update(
            choices=[(view.job_label(job, kept), job.id) for job in jobs],
            value=chosen if chosen in ended else None,
            visible=bool(jobs),
        ),
        gr.update(visible=chosen in ended),
        gr.update(visible=ended.get(chosen or "", False)),
    ]
