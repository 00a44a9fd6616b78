"""The Check stage: whether these models belong together, and what merging them will cost."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.compatibility import Check
from merging.errors import MergeError
from merging.recipe import parse_recipe
from space import view
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token
from space.pages.merge import MergeStage, merge_state
from space.pages.recipe import RecipeColumn, current
from space.pages.try_it import TryStage, offer
from space.publication import suggested_name
from space.words import size

EMPTY = view.empty(
    "Nothing checked yet",
    "Choose models that were fine-tuned from one base, then press Check. It reads configs, tokenizers, tensor headers "
    "and a few megabytes of weights. Nothing is downloaded in full.",
)
READING = view.empty("Checking", "Reading configs, tokenizers, headers and samples of weights.", busy=True)
OUTDATED = view.note("The recipe has changed since this check. Check again.", "warn")
CACHED = "Read what the Hugging Face cache here holds, and stream only the rest"
KEEP, PUBLISH = "Keep the merge here", "Publish it while it is made"
HIDDEN = gr.update(visible=False)
# After Check a phone shows the verdict, and the recipe as one line.
FOLD = "() => { document.querySelector('.workbench').classList.add('folded'); window.scrollTo({top: 0}) }"


@dataclass(frozen=True, slots=True)
class CheckStage:
    verdict: gr.HTML
    findings: gr.HTML
    merge: gr.Button
    cached: gr.Checkbox
    place: gr.Radio
    name: gr.Textbox
    public: gr.Checkbox
    why_not: gr.HTML
    to_try: gr.Button

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.verdict, self.findings, self.merge, self.why_not]


def build_check() -> CheckStage:
    verdict = gr.HTML(EMPTY, elem_id="verdict")
    with gr.Row(elem_classes="stage-action"):
        merge = gr.Button("Merge", variant="primary", interactive=False, visible=False, elem_id="merge-button")
        to_try = gr.Button("Try it first", visible=False, elem_id="to-try")
        cached = gr.Checkbox(False, label=CACHED, visible=False, container=False, elem_id="merge-cached")
    place = gr.Radio([KEEP, PUBLISH], value=KEEP, show_label=False, visible=False, elem_id="merge-place")
    with gr.Row(elem_classes="pair"):
        name = gr.Textbox(label="New repo, as owner/name", max_lines=1, visible=False, elem_id="merge-repo")
        public = gr.Checkbox(False, label="Public: everyone can see it", visible=False, elem_id="merge-public")
    why_not = gr.HTML("", elem_id="merge-why-not")
    return CheckStage(verdict, gr.HTML("", elem_id="findings"), merge, cached, place, name, public, why_not, to_try)


def wire_check(
    stage: CheckStage, recipe: RecipeColumn, try_stage: TryStage, merge_stage: MergeStage, desk: Desk, shared: Shared
) -> None:  # fmt: skip
    def check(request: gr.Request, token: Token, text: str, synced: str, *values: Any) -> list[Any]:
        text = current(text, synced, values)
        try:
            viewer = desk.viewer(request, token)
            found = desk.service.check(text, viewer)
        except MergeError as e:
            return [
                view.problem("This recipe cannot be checked", str(e)),
                "",
                *hidden_button(),
                gr.skip(),
                "",
                text,
                *[HIDDEN] * 5,
                gr.skip(),
                gr.skip(),
            ]
        done = gr.update(variant="primary" if found.blocked else "secondary")  # one primary button at a time
        choice = gr.update(visible=not (found.blocked or desk.settings.hosted))
        places = place_state(desk.service.owners(viewer), text) if not found.blocked else [HIDDEN] * 3
        tried = [gr.update(visible=not found.blocked), *offer(desk, request.session_hash or "", viewer, text, found)]
        return [*checked(found, desk.service.may_not_merge(viewer, found)), done, text, text, choice, *places, *tried]

    def merge(
        request: gr.Request, token: Token, text: str, cached: bool, place: str, name: str, public: bool
    ) -> list[Any]:  # fmt: skip
        """Queue the merge, and show it at once: what was shown before is another job."""
        try:
            if place == PUBLISH and not name.strip():
                raise MergeError("Name the new repo, as owner/name.")
            publish_as = name.strip() if place == PUBLISH else ""
            viewer = desk.viewer(request, token)
            job = desk.service.merge(text, viewer, cached=cached, publish_as=publish_as, private=not public)
        except MergeError as e:
            return [*[gr.skip()] * (5 + len(merge_stage.outputs)), view.note(str(e), "error")]
        return [job.id, "", "", gr.Timer(active=True), gr.Tabs(selected="merge"), *merge_state(job, []), ""]

    recipe.check.click(checking, None, [*stage.outputs, shared.tabs], js=FOLD, **QUICK).then(
        check, [recipe.yaml, recipe.synced, *recipe.values],
        [
            *stage.outputs, recipe.check, shared.checked, recipe.yaml, stage.cached, stage.place, stage.name,
            stage.public, stage.to_try, try_stage.intro, try_stage.load,
        ], **QUEUED,
    )  # fmt: skip
    stage.to_try.click(lambda: gr.Tabs(selected="try"), None, shared.tabs, **QUICK)
    stage.place.input(
        lambda place: [gr.update(visible=place == PUBLISH)] * 2, stage.place, [stage.name, stage.public], **QUICK
    )
    told = [recipe.yaml, shared.checked, stage.why_not]
    recipe.yaml.change(outdated, told, [stage.merge, stage.why_not, recipe.check], **QUICK)
    shown = [shared.job, shared.publication, shared.finished, shared.timer, shared.tabs, *merge_stage.outputs]
    stage.merge.click(
        merge, [shared.checked, stage.cached, stage.place, stage.name, stage.public], [*shown, stage.why_not], **QUEUED
    )


def place_state(owners: list[str], text: str) -> list[Any]:
    """Where the merge goes: it can be published at once by who may, under a name that they can change."""
    if not owners:
        return [gr.update(visible=False, value=KEEP), HIDDEN, HIDDEN]
    name = f"{owners[0]}/{suggested_name(parse_recipe(text))}"
    return [gr.update(visible=True, value=KEEP), gr.update(visible=False, value=name), HIDDEN]


def checking() -> list[Any]:
    return [READING, "", *hidden_button(), gr.Tabs(selected="check")]


def hidden_button() -> list[Any]:
    return [gr.update(visible=False, interactive=False), ""]


def checked(check: Check, may_not_merge: str) -> list[Any]:
    """The stage after a check. `may_not_merge` says why this person cannot; empty when they can."""
    label = f"Merge {size(check.plan.write_bytes)}" if check.plan else "Merge"
    button = gr.update(value=label, visible=not check.blocked, interactive=not may_not_merge)
    return [view.verdict(check), view.findings(check), button, "" if check.blocked else view.note(may_not_merge)]


def outdated(text: str, checked: str, why_not: str) -> list[Any]:
    same = text.rstrip() == checked.rstrip()  # the editor drops the last line's end
    if not checked or (same and why_not not in ("", OUTDATED)):  # something else stands in the way
        return [gr.skip()] * 3
    return [
        gr.update(interactive=same),
        "" if same else OUTDATED,
        gr.update(variant="secondary" if same else "primary"),
    ]
