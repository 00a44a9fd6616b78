"""The Publish stage: what will be pushed, to whom, seen by whom; the card; then the link."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.card import with_repo_id
from merging.errors import MergeError
from merging.hub import check_repo_id
from space import view
from space.jobs import Job
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token, told
from space.viewer import Viewer

LICENSES = [
    "apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "llama3.1", "llama3.2", "llama3.3", "gemma",
    "bsd-3-clause", "openrail", "other",
]  # fmt: skip
EMPTY = view.empty("Nothing to publish yet", "Finish a merge first.")
CANCEL_GONE = gr.update(visible=False, value="Cancel", interactive=True)
PRIVATE, PUBLIC = "Private: only the owner", "Public: everyone"


@dataclass(frozen=True, slots=True)
class PublishStage:
    empty: gr.HTML
    form: gr.Column
    about: gr.Column  # the card
    owner: gr.Dropdown
    name: gr.Textbox
    seen: gr.Radio
    license: gr.Dropdown
    preview: gr.Markdown
    card: gr.Textbox
    remake: gr.Button
    votes: gr.Checkbox
    scores: gr.Checkbox
    button: gr.Button
    why_not: gr.HTML
    panel: gr.HTML
    link: gr.HTML
    cancel: gr.Button
    verify: gr.Button
    verified: gr.HTML
    written: gr.State  # the card as it was generated: another one was edited
    prepared: gr.State  # what the form was filled for: the merge and its publication


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
    with gr.Row(elem_classes="stage-action"):
        cancel = gr.Button("Cancel", visible=False, elem_id="publish-cancel")
        verify = gr.Button("Verify the published model", visible=False, elem_id="verify-button")
    verified = gr.HTML("", elem_id="verification")
    with gr.Column(visible=False) as about:
        gr.HTML("<h2>The model card</h2>")
        votes = gr.Checkbox(
            label="Add my blind votes", info="With the prompts they are on, as what they are: one person's.",
            visible=False, elem_id="publish-votes",
        )  # fmt: skip
        scores = gr.Checkbox(
            label="Add my scores", info="Those of this recipe, from Judge, as what they are: on a set of one's own.",
            visible=False, elem_id="publish-scores",
        )  # fmt: skip
        with gr.Tabs(elem_classes="inner-tabs"):
            with gr.Tab("As it will look"):
                preview = gr.Markdown("", elem_classes="card-preview", sanitize_html=True)
            with gr.Tab("Edit"):
                card = gr.Textbox("", show_label=False, lines=24, max_lines=40, elem_id="card-text")
                remake = gr.Button("Write it anew", size="sm", elem_classes="quiet")
    return PublishStage(
        empty, form, about, owner, name, seen, license, preview, card, remake, votes, scores, button, why_not, panel,
        link, cancel, verify, verified, gr.State(""), gr.State(("", "")),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Publisher:
    """The listeners that ask the service."""

    desk: Desk

    @told()
    def prepare(
        self, request: gr.Request, token: Token, finished: str, publication: str, prepared: tuple[str, str]
    ) -> list[Any]:  # fmt: skip
        """A merge is done: propose where it goes, and write its card. A page that loads tells so twice: what has been
        typed by then stays."""
        if not finished:
            return [gr.update(visible=True), *[gr.update(visible=False)] * 2, *[gr.skip()] * 8, ("", "")]
        if tuple(prepared) == (finished, publication):
            return [gr.skip()] * 12
        viewer = self.desk.viewer(request, token)
        owners, job = self.desk.service.owners(viewer), self.desk.service.job(finished, viewer)
        owner, name = owners[0] if owners else "", self.desk.service.default_name(job)
        pushed = self.desk.find(publication, viewer)
        if pushed and pushed.payload["repo_id"].partition("/")[0] in owners:  # where it went, or was to go
            owner, _, name = pushed.payload["repo_id"].partition("/")
        card = self.desk.service.card(finished, viewer, repo_id=f"{owner}/{name}" if owner else "")
        why_not = "" if owners else self.desk.service.may_not_publish(viewer)
        return [
            gr.update(visible=False),
            gr.update(visible=True),
            gr.update(visible=True),
            gr.update(choices=owners, value=owner or None, interactive=bool(owners)),
            name,
            license_of(card),
            without_front_matter(card),
            card,
            self.button(viewer, finished, owner, name, PRIVATE),
            view.note(why_not),
            card,
            (finished, publication),
        ]

    def button(self, viewer: Viewer, merge_id: str, owner: str, name: str, seen: str) -> Any:
        """What has been sent to that name, by whichever publication, is not sent there twice."""
        pushed = self.desk.service.publications(merge_id, viewer) if merge_id else []
        there = next((job for job in pushed if sent_to(job, owner, name)), None)
        return sent(there) if there else button_text(owner, name, seen)

    @told()
    def name_button(self, request: gr.Request, token: Token, finished: str, owner: str, name: str, seen: str) -> Any:
        """The button as the name is typed, and as jobs come and end; not between the owner and the name that are
        proposed together, lest that answer come last."""
        if not owner or not name:
            return gr.skip()
        return self.button(self.desk.viewer(request, token), finished, owner, name, seen)

    @told()
    def verify(self, request: gr.Request, token: Token, job_id: str, publication: str) -> list[Any]:
        """Read again what was published last, or while it was merged."""
        viewer = self.desk.viewer(request, token)
        if found := shown_publication(self.desk.find(job_id, viewer), self.desk.find(publication, viewer)):
            self.desk.service.verify(found.id, viewer)
        return [gr.update(interactive=False), gr.Timer(active=True)]

    @told()
    def cancel(self, request: gr.Request, token: Token, publication: str) -> Any:
        self.desk.service.cancel(publication, self.desk.viewer(request, token))
        return gr.update(value="Cancelling", interactive=False)

    @told()
    def write_card(
        self, request: gr.Request, token: Token, job_id: str, owner: str, name: str, license: str
    ) -> list[Any]:
        repo_id = f"{owner}/{name}" if owner else ""
        card = self.desk.service.card(job_id, self.desk.viewer(request, token), repo_id=repo_id, license=license or "")
        return [card, without_front_matter(card), card]

    @told()
    def adapt_card(
        self,
        request: gr.Request,
        token: Token,
        job_id: str,
        owner: str,
        name: str,
        license: str,
        card: str,
        written: str,
    ) -> list[Any]:
        """Another name or licence: a card that nobody edited is written anew, an edited one only follows in these."""
        if card == written:
            return self.write_card(request, token, job_id, owner, name, license)
        try:
            adapted = with_repo_id(card, f"{owner}/{name}" if owner else "", license=license or "")
        except MergeError:  # its front matter is being edited; publishing says what is wrong with it
            return [gr.skip()] * 3
        return [adapted, without_front_matter(adapted), gr.skip()]

    def publish(
        self, request: gr.Request, token: Token, job_id: str, owner: str, name: str, seen: str, license: str, card: str
    ) -> list[Any]:
        try:
            viewer, repo_id = self.desk.viewer(request, token), f"{owner or ''}/{name}"
            job = self.desk.service.publish(
                job_id, viewer, repo_id=repo_id, private=seen != PUBLIC, card=card, license=license or ""
            )
        except MergeError as e:
            return [gr.skip(), gr.skip(), view.note(str(e), "error")]
        return [job.id, gr.Timer(active=True), ""]


def wire_publish(stage: PublishStage, desk: Desk, shared: Shared) -> None:
    publisher = Publisher(desk)
    shared.finished.change(
        publisher.prepare, [shared.finished, shared.publication, stage.prepared],
        [
            stage.empty, stage.form, stage.about, stage.owner, stage.name, stage.license, stage.preview, stage.card,
            stage.button, stage.why_not, stage.written, stage.prepared,
        ], **QUICK,
    )  # fmt: skip
    where = [stage.owner, stage.name, stage.seen]
    # One listener, so that no answer for an older name comes last.
    changes = [stage.owner.change, stage.name.change, stage.seen.change, shared.states.change]
    gr.on(changes, publisher.name_button, [shared.finished, *where], stage.button, **QUICK)
    gr.on([stage.owner.change, stage.name.change], refused_name, [stage.owner, stage.name], stage.why_not, **QUICK)
    stage.name.blur(no_name, stage.name, stage.button, **QUICK)
    stage.cancel.click(publisher.cancel, shared.publication, stage.cancel, **QUICK)
    stage.verify.click(publisher.verify, [shared.job, shared.publication], [stage.verify, shared.timer], **QUICK)
    named, cards = [shared.finished, stage.owner, stage.name, stage.license], [stage.card, stage.preview, stage.written]
    gr.on(
        [stage.name.blur, stage.owner.input, stage.license.input],
        publisher.adapt_card, [*named, stage.card, stage.written], cards, **QUICK,
    )  # fmt: skip
    stage.remake.click(publisher.write_card, named, cards, **QUICK)
    stage.card.input(without_front_matter, stage.card, stage.preview, trigger_mode="always_last", **QUICK)
    stage.button.click(
        publisher.publish, [shared.finished, *where, stage.license, stage.card],
        [shared.publication, shared.timer, stage.why_not], **QUEUED,
    )  # fmt: skip


def refused_name(owner: str, name: str) -> Any:
    """Why the button cannot be pressed, as the name is typed."""
    return view.note(name_problem(f"{owner}/{name}"), "warn") if owner and name else gr.skip()


def no_name(name: str) -> Any:
    """The button, when one has left the box of the name empty."""
    return gr.skip() if name else button_text("", "", PRIVATE)


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
    where = f"Publish to {owner}/{name}, {'public' if seen == PUBLIC else 'private'}"
    return gr.update(interactive=False) if name_problem(f"{owner}/{name}") else gr.update(value=where, interactive=True)


def sent(job: Job) -> Any:
    """The button when there is nothing left for it to do."""
    word = "Published" if job.state == "done" else "Publishing"
    return gr.update(value=f"{word} to {job.title}", interactive=False)


def sent_to(job: Job, owner: str, name: str) -> bool:
    """Whether a publication is on its way to this repo, or has arrived."""
    return (job.active or job.state == "done") and job.payload["repo_id"] == f"{owner}/{name}"


def name_problem(repo_id: str) -> str:
    """Which rule of the Hub a name breaks; empty when it breaks none."""
    try:
        check_repo_id(repo_id)
    except MergeError as e:
        return str(e)
    return ""


def shown_publication(merge: Job | None, publication: Job | None) -> Job | None:
    """The publication that is shown; of a merge that is published while it is made, the merge itself."""
    return publication or (merge if merge is not None and merge.payload.get("repo_id") else None)


def publication_state(job: Job | None, verification: Job | None) -> list[Any]:
    """What stands in the place of a form for a merge that is sent away, the panel and the link of a publication, and
    how its verification goes."""
    if job is None:
        return [EMPTY, "", "", *[gr.update(visible=False)] * 2, ""]
    reading = verification is not None and verification.active
    return [
        sent_away(job.payload["repo_id"]) if job.kind == "merge" else "",
        view.job_panel(job),
        view.published(job),
        # A merge that is sent away is cancelled where it is made.
        gr.update(visible=True) if job.active and job.kind == "publish" else CANCEL_GONE,
        gr.update(visible=bool(view.published(job)), interactive=not reading),
        view.verification(verification),
    ]


def sent_away(repo_id: str) -> str:
    return view.empty("Published while it is made", f"This merge goes to {repo_id}; nothing of it is kept here.")
