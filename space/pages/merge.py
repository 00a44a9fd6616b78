"""The Merge stage: a job as it runs, and what can be done next. The page only looks; the job does not need it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import view
from space.download import address
from space.jobs import Job
from space.pages.desk import QUICK, Desk, Shared, Token, told
from space.pages.publish import PublishStage, publication_state, shown_publication
from space.settings import kept_seconds
from space.viewer import SignedOut, Viewer

EMPTY = view.empty(
    "No merge yet",
    "Check a recipe, then press Merge. The job goes on when you close this page; you will find it here again.",
)


@dataclass(frozen=True, slots=True)
class MergeStage:
    panel: gr.HTML
    cancel: gr.Button
    again: gr.Button
    to_chat: gr.Button
    to_publish: gr.Button
    files: gr.Accordion
    file_list: gr.HTML
    log: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        buttons = [self.cancel, self.again, self.to_chat, self.to_publish]
        return [self.panel, *buttons, self.files, self.file_list, self.log]


def build_merge() -> MergeStage:
    panel = gr.HTML(EMPTY, elem_id="job-panel")
    with gr.Row(elem_classes="stage-action"):
        to_chat = gr.Button("Chat with it", variant="primary", visible=False, elem_id="to-chat")
        to_publish = gr.Button("Publish", visible=False, elem_id="to-publish")
        again = gr.Button("Start again", variant="primary", visible=False, elem_id="again-button")
        cancel = gr.Button("Cancel", visible=False, elem_id="cancel-button")
    with gr.Accordion("Download", open=False, visible=False, elem_id="download") as files:
        file_list = gr.HTML("")
    with gr.Accordion("Log", open=False):
        log = gr.HTML(view.log_lines([]))
    return MergeStage(panel, cancel, again, to_chat, to_publish, files, file_list, log)


def wire_merge(stage: MergeStage, publish: PublishStage, desk: Desk, shared: Shared) -> None:
    def poll(request: gr.Request, token: Token, job_id: str, publication_id: str) -> list[Any]:
        try:
            viewer = desk.viewer(request, token)
        except SignedOut as e:  # what is shown stays; there is nothing to be asked until they have signed in
            return [*[gr.skip()] * (len(looked) - 5), gr.Timer(active=False), *[gr.skip()] * 3, view.notice(str(e))]
        except MergeError as e:  # the Hub is away: ask again
            return [*[gr.skip()] * (len(looked) - 1), view.notice(str(e))]
        job, pushed = desk.find(job_id, viewer), desk.find(publication_id, viewer)
        log = desk.service.log(job.id, viewer) if job else []
        mine = desk.service.jobs(viewer)
        timer = gr.Timer(active=any(one.active for one in mine))
        done = job.id if job is not None and is_here(job) else ""
        states, looks = as_text(mine), as_text(one for one in mine if one.kind == "diagnose")
        pushed = shown_publication(job, pushed)
        verification = desk.service.verification(pushed.id, viewer) if pushed else None
        files = view.downloads(located(desk, done, viewer), kept_seconds(desk.settings)) if done else ""
        return [*merge_state(job, log, files), *publication_state(pushed, verification), timer, done, states, looks, ""]

    @told()
    def cancel(request: gr.Request, token: Token, job_id: str) -> Any:
        desk.service.cancel(job_id, desk.viewer(request, token))
        return gr.update(value="Cancelling", interactive=False)

    @told()
    def again(request: gr.Request, token: Token, job_id: str) -> Any:
        desk.service.again(job_id, desk.viewer(request, token))
        return gr.Timer(active=True)

    looked = [
        *stage.outputs, publish.empty, publish.panel, publish.link, publish.cancel, publish.verify, publish.verified,
        shared.timer, shared.finished, shared.states, shared.looks, shared.notice,
    ]  # fmt: skip
    ids = [shared.job, shared.publication]
    shared.timer.tick(poll, ids, looked, **QUICK)
    gr.on([shared.job.change, shared.publication.change], poll, ids, looked, **QUICK)
    stage.cancel.click(cancel, shared.job, stage.cancel, **QUICK)
    stage.again.click(again, shared.job, shared.timer, **QUICK)
    stage.to_chat.click(lambda: gr.Tabs(selected="chat"), None, shared.tabs, **QUICK)
    stage.to_publish.click(lambda: gr.Tabs(selected="publish"), None, shared.tabs, **QUICK)


def as_text(jobs: Iterable[Job]) -> str:
    return " ".join(f"{one.id}:{one.state}:{view.fraction(one):.0f}:{one.place}" for one in jobs)


def is_here(job: Job) -> bool:
    """Whether the merge is done, and was not sent away."""
    return job.state == "done" and not job.result.get("url")


def located(desk: Desk, job_id: str, viewer: Viewer) -> dict[str, tuple[str, int]]:
    """The files of a merge, where each is found, and its size."""
    files = desk.service.files(job_id, viewer)
    return {name: (address(job_id, name), path.stat().st_size) for name, path in files.items()}


def merge_state(job: Job | None, log: list[str], files: str = "") -> list[Any]:
    if job is None:
        return [EMPTY, *[gr.update(visible=False)] * 5, "", view.log_lines([])]
    done, failed = is_here(job), not job.active and job.state != "done"
    return [
        view.job_panel(job) + view.published(job),
        gr.update(visible=True) if job.active else gr.update(visible=False, value="Cancel", interactive=True),
        gr.update(visible=failed),
        gr.update(visible=done),
        gr.update(visible=done),
        gr.update(visible=done),
        files,
        view.log_lines(log),
    ]
