"""The Check stage: whether these models belong together, and what merging them will cost."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from merging.compatibility import Check
from merging.errors import MergeError
from merging.recipe import parse_recipe, to_yaml
from merging.waiting import Stopped
from space import view
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token
from space.pages.merge import MergeStage, merge_state
from space.pages.recipe import RecipeColumn
from space.pages.recipe_values import current
from space.pages.try_it import TryStage, offer
from space.publication import suggested_name
from space.words import size

EMPTY = view.steps(
    "From fine-tunes to one model",
    [
        ("Choose", "models that were fine-tuned from one base, or an example above."),
        ("Check", "whether they belong together, and what the merge costs, before anything is downloaded in full."),
        ("Merge", "them. It goes on when you close this page."),
        ("Chat", "with the result beside its parents."),
        ("Publish", "it on the Hub, with a card that reproduces it. Private, unless you say otherwise."),
    ],
)
READING = view.empty("Checking", "Reading configs, tokenizers, headers and samples of weights.", busy=True)
CANCELLED = view.empty("Check cancelled", "Nothing was changed. Press Check to look again.")
OUTDATED = view.note("The recipe has changed since this check. Check again.", "warn")
CACHED = "Read what the Hugging Face cache here holds, and stream only the rest"
KEEP, PUBLISH = "Keep the merge here", "Publish it while it is made"
HIDDEN = gr.update(visible=False)
CHOICES = 5  # see CheckStage.choices
SHOWN = 5 + 3 + CHOICES + 2  # all that a check changes
# After Check a phone shows the verdict, and the recipe as one line.
FOLD = """(gathered) => {
    document.querySelector('.workbench').classList.add('folded'); window.scrollTo({top: 0}); return [gathered]
}"""


# The YAML follows the form by itself, but for what no event has told of. What was changed since it was gathered stays.
CAUGHT_UP = "(now, then, text) => now === then ? text : now"


@dataclass(frozen=True, slots=True)
class CheckStage:
    verdict: gr.HTML
    findings: gr.HTML
    merge: gr.Button
    cancel: gr.Button
    cached: gr.Checkbox
    place: gr.Radio
    name: gr.Textbox
    public: gr.Checkbox
    why_not: gr.HTML
    to_try: gr.Button
    said: tuple[gr.Textbox, gr.Textbox]  # what the YAML was when a check began, and what is checked
    passed: gr.State  # the recipe that may be merged, at the commits looked at; empty where something stands in the way

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.verdict, self.findings, self.merge, self.why_not, self.cancel]

    @property
    def choices(self) -> list[gr.components.Component]:
        """What can be chosen about a merge, once it may be made."""
        return [self.cached, self.place, self.name, self.public, self.to_try]


def build_check() -> CheckStage:
    verdict = gr.HTML(EMPTY, elem_id="verdict")
    with gr.Row(elem_classes="stage-action"):
        merge = gr.Button("Merge", variant="primary", interactive=False, visible=False, elem_id="merge-button")
        to_try = gr.Button("Try it first", visible=False, elem_id="to-try")
        cancel = gr.Button("Cancel", visible=False, elem_id="check-cancel")
    place = gr.Radio([KEEP, PUBLISH], value=KEEP, show_label=False, visible=False, elem_id="merge-place")
    with gr.Row(elem_classes="pair"):
        name = gr.Textbox(label="New repo, as owner/name", max_lines=1, visible=False, elem_id="merge-repo")
        public = gr.Checkbox(False, label="Public: everyone can see it", visible=False, elem_id="merge-public")
    cached = gr.Checkbox(False, label=CACHED, visible=False, container=False, elem_id="merge-cached")
    why_not = gr.HTML("", elem_id="merge-why-not")
    return CheckStage(
        verdict, gr.HTML("", elem_id="findings"), merge, cancel, cached, place, name, public, why_not, to_try,
        (gr.Textbox("", visible=False), gr.Textbox("", visible=False)), gr.State(""),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks under way, by browser tab: whoever waits for a Hub that is away can leave."""

    desk: Desk
    stops: dict[str, threading.Event] = field(default_factory=dict)

    def begin(self, request: gr.Request, gathered: list[Any]) -> list[Any]:
        """The newest check of a tab is the one that tells: an earlier one that is under way ends unseen.

        The YAML says what is checked from the start: see CAUGHT_UP.
        """
        if earlier := self.stops.get(str(request.session_hash)):
            earlier.set()
        self.stops[str(request.session_hash)] = threading.Event()
        shown = gr.update(visible=True)
        said = [gathered[1], current(gathered)]
        return [READING, "", *hidden_button(), shown, "", "", *said, gr.Tabs(selected="check"), *[HIDDEN] * CHOICES]

    def cancel(self, request: gr.Request) -> list[Any]:
        """Said at once. What was begun ends a moment later, and is not shown."""
        if stop := self.stops.get(str(request.session_hash)):
            stop.set()
        return [CANCELLED, "", *hidden_button(), HIDDEN, gr.update(variant="primary")]

    @contextmanager
    def running(self, request: gr.Request) -> Iterator[Callable[[], None]]:
        """Something to call again and again, which raises Stopped once this tab's check was cancelled."""
        tab = str(request.session_hash)
        stop = self.stops.get(tab) or threading.Event()

        def tick() -> None:
            if stop.is_set():
                raise Stopped("The check was cancelled.")

        try:
            yield tick
        finally:
            if self.stops.get(tab) is stop:
                del self.stops[tab]

    def check(self, request: gr.Request, token: Token, gathered: list[Any]) -> list[Any]:
        text = current(gathered)
        try:
            viewer = self.desk.viewer(request, token)
            with self.running(request) as tick:
                found = self.desk.service.check(text, viewer, tick=tick)
                tick()
        except Stopped:
            return [gr.skip()] * SHOWN
        except MergeError as e:
            said = view.problem("This recipe cannot be checked", str(e))
            hidden = [HIDDEN] * CHOICES
            return [said, "", *hidden_button(), HIDDEN, "", gr.skip(), "", *hidden, gr.skip(), gr.skip()]
        done = gr.update(variant="primary" if found.blocked else "secondary")  # one primary button at a time
        choice = gr.update(visible=not (found.blocked or self.desk.settings.hosted))
        places = place_state(self.desk.service.owners(viewer), text) if not found.blocked else [HIDDEN] * 3
        to_try = gr.update(visible=not found.blocked)
        offered = offer(self.desk, str(request.session_hash), viewer, text, found)
        reason = self.desk.service.may_not_merge(viewer, found)
        passed = "" if found.blocked or reason else to_yaml(found.recipe)
        return [*checked(found, reason), passed, done, text, choice, *places, to_try, *offered]


def wire_check(
    stage: CheckStage, recipe: RecipeColumn, try_stage: TryStage, merge_stage: MergeStage, desk: Desk, shared: Shared,
    kept: Sequence[Any] = (),
) -> None:  # fmt: skip
    """`kept` are events after which the recipe, gathered, is checked, and merged where nothing stands in the way."""
    checks = Checks(desk)

    def merge(
        request: gr.Request, token: Token, text: str, cached: bool, place: str, name: str, public: bool
    ) -> list[Any]:  # fmt: skip
        """Queue the merge, and show it at once: what was shown before is another job."""
        if not text:  # the check says why
            return [gr.skip()] * (6 + len(merge_stage.outputs))
        try:
            if place == PUBLISH and not name.strip():
                raise MergeError("Name the new repo, as owner/name.")
            publish_as = name.strip() if place == PUBLISH else ""
            viewer = desk.viewer(request, token)
            job = desk.service.merge(text, viewer, cached=cached, publish_as=publish_as, private=not public)
        except MergeError as e:
            return [*[gr.skip()] * (5 + len(merge_stage.outputs)), view.note(str(e), "error")]
        return [job.id, "", "", gr.Timer(active=True), gr.Tabs(selected="merge"), *merge_state(job, []), ""]

    looked = [*stage.outputs, stage.passed, recipe.check, shared.checked, *stage.choices]
    looked += [try_stage.intro, try_stage.load]
    begun = [*stage.outputs, stage.passed, shared.checked, *stage.said, shared.tabs, *stage.choices]

    def checking(gathered: Any) -> Any:
        # Also while one that was cancelled has yet to notice.
        begins = gathered.then(checks.begin, recipe.gathered, begun, js=FOLD, trigger_mode="multiple", **QUICK)
        begins.then(None, [recipe.yaml, *stage.said], recipe.yaml, js=CAUGHT_UP, api_visibility="private")
        return begins.then(checks.check, recipe.gathered, looked, trigger_mode="multiple", **QUEUED)

    checking(recipe.gathered_on(recipe.check.click))
    stage.to_try.click(lambda: gr.Tabs(selected="try"), None, shared.tabs, **QUICK)
    stage.cancel.click(checks.cancel, None, [*stage.outputs, recipe.check], **QUICK)
    stage.place.input(
        lambda place: [gr.update(visible=place == PUBLISH)] * 2, stage.place, [stage.name, stage.public], **QUICK
    )
    # Also when a check has ended: the recipe may have changed while it ran.
    told = [recipe.yaml, shared.checked, stage.passed, stage.why_not]
    changed = [recipe.yaml.change, shared.checked.change]
    gr.on(changed, outdated, told, [stage.merge, stage.why_not, recipe.check], **QUICK)
    shown = [shared.job, shared.publication, shared.finished, shared.timer, shared.tabs, *merge_stage.outputs]
    what = [stage.passed, stage.cached, stage.place, stage.name, stage.public]
    stage.merge.click(merge, what, [*shown, stage.why_not], **QUEUED)
    for one in kept:
        checking(one).then(merge, what, [*shown, stage.why_not], **QUEUED)


def place_state(owners: list[str], text: str) -> list[Any]:
    """Where the merge goes: it can be published at once by who may, under a name that they can change."""
    if not owners:
        return [gr.update(visible=False, value=KEEP), HIDDEN, HIDDEN]
    name = f"{owners[0]}/{suggested_name(parse_recipe(text))}"
    return [gr.update(visible=True, value=KEEP), gr.update(visible=False, value=name), HIDDEN]


def hidden_button() -> list[Any]:
    return [gr.update(visible=False, interactive=False), ""]


def checked(check: Check, may_not_merge: str) -> list[Any]:
    """The stage after a check. `may_not_merge` says why this person cannot; empty when they can."""
    label = f"Merge {size(check.plan.write_bytes)}" if check.plan else "Merge"
    button = gr.update(value=label, visible=not check.blocked, interactive=not may_not_merge)
    why_not = "" if check.blocked else view.note(may_not_merge)
    return [view.verdict(check), view.findings(check), button, why_not, HIDDEN]


def outdated(text: str, checked: str, passed: str, why_not: str) -> list[Any]:
    """How Merge looks while the recipe is not the one checked, and once it is again. `checked` is empty during a check,
    and `passed` where something stands in the way: what, only another check says."""
    if checked and text.rstrip() != checked.rstrip():  # the editor drops the last line's end
        return [gr.update(interactive=False), OUTDATED, gr.update(variant="primary")]
    if not checked or not passed or why_not != OUTDATED:
        return [gr.skip()] * 3
    return [gr.update(interactive=True), "", gr.update(variant="secondary")]
