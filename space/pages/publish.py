"""The Publish stage: what will be pushed, to whom, seen by whom; the card; then the link."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import view
from space.jobs import Job
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token

LICENSES = [
    "apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "llama3.1", "llama3.2", "llama3.3", "gemma",
    "bsd-3-clause", "openrail", "other",
]  # fmt: skip
EMPTY = view.empty("Nothing to publish yet", "Finish a merge first.")
PRIVATE, PUBLIC = "Private: only the owner", "Public: everyone"


@dataclass(frozen=True, slots=True)
class PublishStage:
    empty: gr.HTML
    form: gr.Column
    owner: gr.Dropdown
    name: gr.Textbox
    seen: gr.Radio
    license: gr.Dropdown
    preview: gr.Markdown
    card: gr.Code
    remake: gr.Button
    button: gr.Button
    why_not: gr.HTML
    panel: gr.HTML
    link: gr.HTML


def build_publish() -> PublishStage:
    empty = gr.HTML(EMPTY)
    with gr.Column(visible=False) as form:
        with gr.Row(elem_classes="pair"):
            owner = gr.Dropdown([], label="Owner", elem_id="publish-owner")
            name = gr.Textbox(label="Name", max_lines=1, elem_id="publish-name")
        with gr.Row(elem_classes="pair"):
            seen = gr.Radio([PRIVATE, PUBLIC], value=PRIVATE, label="Who can see it", elem_id="publish-seen")
            license = gr.Dropdown(LICENSES, label="License", allow_custom_value=True, elem_id="publish-license")
        with gr.Row(elem_classes="stage-action"):
            button = gr.Button("Publish", variant="primary", elem_id="publish-button")
        why_not = gr.HTML("", elem_id="publish-why-not")
        panel = gr.HTML("", elem_id="publish-panel")
        link = gr.HTML("", elem_id="publish-link")
        gr.HTML("<h2>The model card</h2>")
        with gr.Tabs(elem_classes="inner-tabs"):
            with gr.Tab("As it will look"):
                preview = gr.Markdown("", elem_classes="card-preview", sanitize_html=True)
            with gr.Tab("Edit"):
                card = gr.Code("", language="markdown", show_label=False, wrap_lines=True, elem_id="card-text")
                remake = gr.Button("Write it anew", size="sm", elem_classes="quiet")
    return PublishStage(empty, form, owner, name, seen, license, preview, card, remake, button, why_not, panel, link)


def wire_publish(stage: PublishStage, desk: Desk, shared: Shared) -> None:
    def prepare(request: gr.Request, token: Token, finished: str, publication: str) -> list[Any]:
        """A merge is done: propose where it goes, and write its card."""
        if not finished:
            return [gr.update(visible=True), gr.update(visible=False), *[gr.skip()] * 7]
        viewer = desk.viewer(request, token)
        owners, job = desk.service.owners(viewer), desk.service.job(finished, viewer)
        owner, name = owners[0] if owners else "", desk.service.default_name(job)
        card = desk.service.card(finished, viewer, repo_id=f"{owner}/{name}" if owner else "")
        pushed = desk.find(publication, viewer)
        why_not = "" if owners else desk.service.may_not_publish(viewer)
        return [
            gr.update(visible=False),
            gr.update(visible=True),
            gr.update(choices=owners, value=owner or None, interactive=bool(owners)),
            name,
            license_of(card),
            without_front_matter(card),
            card,
            gr.update(interactive=False) if pushed and pushed.state == "done" else button_text(owner, name, PRIVATE),
            view.note(why_not),
        ]

    def write_card(request: gr.Request, token: Token, job_id: str, owner: str, name: str, license: str) -> list[Any]:
        card = desk.service.card(
            job_id, desk.viewer(request, token), repo_id=f"{owner}/{name}" if owner else "", license=license or ""
        )
        return [card, without_front_matter(card)]

    def publish(
        request: gr.Request, token: Token, job_id: str, owner: str, name: str, seen: str, license: str, card: str
    ) -> list[Any]:
        try:
            job = desk.service.publish(
                job_id, desk.viewer(request, token), repo_id=f"{owner or ''}/{name}", private=seen != PUBLIC, card=card,
                license=license or "",
            )  # fmt: skip
        except MergeError as e:
            return [gr.skip(), gr.skip(), view.note(str(e), "error")]
        return [job.id, gr.Timer(active=True), ""]

    shared.finished.change(
        prepare, [shared.finished, shared.publication],
        [
            stage.empty, stage.form, stage.owner, stage.name, stage.license, stage.preview, stage.card, stage.button,
            stage.why_not,
        ], **QUICK,
    )  # fmt: skip
    where = [stage.owner, stage.name, stage.seen]
    changes = [stage.owner.change, stage.name.change, stage.seen.change]
    gr.on(changes, button_text, where, stage.button, **QUICK)
    remade = [shared.finished, stage.owner, stage.name, stage.license]
    gr.on(
        [stage.name.blur, stage.owner.input, stage.license.input, stage.remake.click],
        write_card, remade, [stage.card, stage.preview], **QUICK,
    )  # fmt: skip
    stage.card.input(without_front_matter, stage.card, stage.preview, trigger_mode="always_last", **QUICK)
    stage.button.click(
        publish, [shared.finished, *where, stage.license, stage.card],
        [shared.publication, shared.timer, stage.why_not], **QUEUED,
    )  # fmt: skip


def without_front_matter(card: str) -> str:
    """What a reader sees of a card."""
    parts = card.split("---\n", 2)
    return parts[2] if card.startswith("---\n") and len(parts) == 3 else card


def license_of(card: str) -> str:
    """The licence that the card's front matter names."""
    lines = (line for line in card.split("\n---", 1)[0].splitlines() if line.startswith("license: "))
    return next(lines, "license: other").removeprefix("license: ").strip("\"'")


def button_text(owner: str, name: str, seen: str) -> Any:
    """The button says what it does; a changed name or owner makes it ready again."""
    if not owner or not name:
        return gr.update(value="Publish", interactive=False)
    return gr.update(value=f"Publish to {owner}/{name}, {'public' if seen == PUBLIC else 'private'}", interactive=True)


def publication_state(job: Job | None) -> list[Any]:
    """The panel, the link and the button, for the publication that runs or ran. What is published is not sent twice."""
    if job is None:
        return ["", "", gr.skip()]
    again = job.state not in ("queued", "running", "done")
    return [view.job_panel(job), view.published(job), gr.update(interactive=again)]
