"""The Try stage: chat with a merge that is in memory, while its lambdas are moved in the recipe beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.compatibility import Check
from merging.errors import MergeError
from merging.recipe import parse_recipe, to_yaml
from space import view
from space.film import ALL, FACTORS, frames, lambdas, movable
from space.form import from_recipe
from space.live import GONE, Fit
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token
from space.pages.options import build_options, options_of
from space.pages.recipe import RecipeColumn
from space.pages.recipe_values import current, shown_form, texts
from space.reply import Reply
from space.try_view import TOGETHER, Turn, frame, in_memory, talk
from space.viewer import Viewer
from space.words import size

EMPTY = view.empty(
    "Nothing to try yet",
    "Check a recipe. Then its merge can be made in memory, in seconds and without a file: move a lambda, and the next "
    "answer comes from the merge with that lambda.",
)
LOADING = view.empty("Loading", "Opening the models.", busy=True)
LEFT = view.empty("The merge has left memory", "Load it again to go on; your recipe is as you left it.")
MANY: dict[str, Any] = {**QUICK, "trigger_mode": "multiple"}  # the newest wins: see LiveMerges.remerge
HIDDEN, SHOWN = gr.update(visible=False), gr.update(visible=True)
AGAIN = gr.update(visible=True, value="Load it again")


@dataclass(frozen=True, slots=True)
class TryStage:
    intro: gr.HTML
    load: gr.Button
    cancel: gr.Button
    body: gr.Column
    status: gr.HTML
    keep: gr.Button
    beside: gr.Button
    leave: gr.Button
    talk: gr.HTML
    suggestions: tuple[gr.Button, ...]
    prompt: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    remember: gr.Checkbox
    options: list[gr.components.Component]
    which: gr.Dropdown
    film: gr.Button
    strip: gr.Row
    frames: tuple[gr.HTML, ...]
    keeps: tuple[gr.Button, ...]
    is_live: gr.State  # whether there is a merge in memory for this tab
    turns: gr.State  # what was asked and answered
    pending: gr.State  # the prompt that is being answered
    filmed: gr.State  # the recipes of the frames

    @property
    def loading(self) -> list[Any]:
        """What changes while a merge is loaded, and when it leaves."""
        return [self.intro, self.load, self.cancel, self.body, self.status, self.is_live, self.which]


def build_try(prompts: Sequence[str]) -> TryStage:
    intro = gr.HTML(EMPTY, elem_id="try-intro")
    with gr.Row(elem_classes="stage-action"):
        load = gr.Button("Load it and try it", variant="primary", visible=False, elem_id="try-load")
        cancel = gr.Button("Cancel", visible=False, elem_id="try-cancel")
    with gr.Column(visible=False, elem_classes="try-body") as body:
        with gr.Row(elem_classes="live-head"):
            status = gr.HTML("", elem_id="try-status")
            keep = gr.Button("Check and merge this one", size="sm", scale=0, min_width=190, elem_id="try-keep")
            beside = gr.Button("Ask it beside others", size="sm", scale=0, min_width=170, elem_id="try-beside")
            leave = gr.Button("Let it go", size="sm", scale=0, min_width=90, elem_id="try-leave", elem_classes="quiet")
        said = gr.HTML(talk([], ""), elem_id="try-talk")
        with gr.Row(elem_classes="examples"):
            suggestions = tuple(gr.Button(text, size="sm", elem_classes="quiet") for text in prompts)
        prompt, send, stop, clear = build_prompt()
        remember = gr.Checkbox(
            False, label="Remember what was said", elem_id="try-remember",
            info="Off, every prompt stands alone, so that answers of different lambdas can be compared.",
        )  # fmt: skip
        options = build_options().all
        which, film, strip, shots, keeps = build_film()
    return TryStage(
        intro, load, cancel, body, status, keep, beside, leave, said, suggestions, prompt, send, stop, clear, remember,
        options, which, film, strip, shots, keeps, gr.State(False), gr.State([]), gr.State(""), gr.State([]),
    )  # fmt: skip


def build_prompt() -> tuple[gr.Textbox, gr.Button, gr.Button, gr.Button]:
    with gr.Row(elem_classes="prompt-row"):
        prompt = gr.Textbox(
            label="Prompt", show_label=False, placeholder="Write to the merge", lines=1, max_lines=8, scale=1,
            elem_id="try-prompt",
        )  # fmt: skip
        send = gr.Button("Send", variant="primary", scale=0, min_width=90, elem_id="try-send")
        stop = gr.Button("Stop", visible=False, scale=0, min_width=90, elem_id="try-stop")
        clear = gr.Button("Clear", scale=0, min_width=80, elem_id="try-clear", elem_classes="quiet")
    return prompt, send, stop, clear


def build_film() -> tuple[gr.Dropdown, gr.Button, gr.Row, tuple[gr.HTML, ...], tuple[gr.Button, ...]]:
    """One prompt at several lambdas."""
    gr.HTML('<h2>Filmstrip</h2><p class="help">The prompt above, answered at five lambdas with the same seed.</p>')
    with gr.Row(elem_classes="film-head"):
        which = gr.Dropdown([TOGETHER], value=ALL, label="Which lambda moves", scale=1, elem_id="film-which")
        film = gr.Button("Make the filmstrip", scale=0, min_width=210, elem_id="film-make")
    shots, keeps = [], []
    with gr.Row(visible=False, elem_classes="filmstrip", elem_id="filmstrip") as strip:
        for number in range(len(FACTORS)):
            with gr.Column(min_width=110, elem_classes="frame"):
                shots.append(gr.HTML(frame("")))
                keeps.append(gr.Button("Keep this one", size="sm", visible=False, elem_id=f"film-keep-{number + 1}"))
    return which, film, strip, tuple(shots), tuple(keeps)


def offer(desk: Desk, tab: str, viewer: Viewer, text: str, found: Check) -> list[Any]:
    """The intro and the button after a check: what it takes to try the merge, or why that cannot be."""
    if desk.service.live.made(tab, viewer.owner):  # one is in memory, and follows the recipe
        return [gr.skip(), gr.skip()]
    if found.blocked or found.plan is None:
        return [EMPTY, HIDDEN]
    try:
        fit = desk.service.may_try(text, found, viewer)
    except MergeError as e:
        return [view.empty("This merge cannot be tried", str(e)), HIDDEN]
    label = f"Load {size(fit.disk_bytes or fit.memory_bytes)} {'to disk ' if fit.disk_bytes else ''}and try it"
    return [view.empty("Try it before you merge it", takes(fit)), gr.update(visible=True, value=label)]


def takes(fit: Fit) -> str:
    if not fit.disk_bytes:
        return (
            f"The models and their merge take {size(fit.memory_bytes)} of memory here. They are read once; then every "
            "lambda is a moment away, and nothing is written."
        )
    return (
        f"The models do not fit into the memory here, so they are kept on disk while you try: {size(fit.disk_bytes)}, "
        f"and {size(fit.memory_bytes)} of memory for their merge. Every move of a lambda reads them again, which takes "
        f"up to about {max(1, fit.seconds):.0f} s."
    )


# -- listeners ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Live:
    """The listeners that ask the service. The tab is known by its session."""

    desk: Desk

    def made(self, request: gr.Request, token: Token) -> tuple[str, float] | None:
        return self.desk.service.live.made(tab_of(request), self.desk.viewer(request, token).owner)

    def load(self, request: gr.Request, token: Token, gathered: list[Any]) -> Iterator[list[Any]]:
        """Read the models; says how far it is."""
        try:
            wanted, reply = current(gathered), Reply("")
            for (reply,) in self.desk.service.load_live(tab_of(request), wanted, self.desk.viewer(request, token)):
                yield [view.empty("Loading", reply.note or "Opening the models.", busy=True), *[gr.skip()] * 6]
            if reply.error:
                raise MergeError(reply.error)
            made = self.made(request, token)
        except MergeError as e:
            yield [view.problem("This merge cannot be tried", str(e)), SHOWN, HIDDEN, HIDDEN, "", False, gr.skip()]
            return
        if made is None:
            yield [EMPTY, SHOWN, HIDDEN, HIDDEN, "", False, gr.skip()]
            return
        yield ["", HIDDEN, HIDDEN, SHOWN, in_memory(*made, first=True), True, which_moves(made[0], anew=True)]

    def remerge(
        self, request: gr.Request, token: Token, text: str, is_live: bool, turns: list[Turn]
    ) -> Iterator[list[Any]]:
        """The recipe has changed: make its merge. Says nothing where the next change comes first.

        Where that cannot be, as with a model more, the button loads what the recipe asks for now.
        """
        if not is_live:
            yield [gr.skip()] * 4
            return
        try:
            wanted = to_yaml(parse_recipe(text))
            viewer, reply = self.desk.viewer(request, token), Reply("")
            yield [in_memory(wanted, None), talk(turns, wanted), gr.skip(), gr.skip()]
            for (reply,) in self.desk.service.live.remerge(tab_of(request), viewer.owner, wanted):
                if reply.note:
                    yield [in_memory(wanted, None, reply.note), gr.skip(), gr.skip(), gr.skip()]
            made = self.made(request, token)
        except MergeError as e:
            yield [in_memory("", None, error=str(e)), gr.skip(), gr.skip(), gr.skip()]
            return
        if reply.error:
            yield [in_memory("", None, error=reply.error), gr.skip(), gr.skip(), AGAIN]
            return
        if made and made[0] == wanted:
            yield [in_memory(*made), talk(turns, wanted), which_moves(wanted), HIDDEN]
        else:
            yield [gr.skip()] * 4

    def answer(
        self,
        request: gr.Request,
        token: Token,
        prompt: str,
        turns: list[Turn],
        remember: bool,
        gathered: list[Any],
        *options: Any,
    ) -> Iterator[list[Any]]:
        """Ask the merge of the recipe as it stands, and show the answer as it comes."""
        if not prompt:
            yield [gr.skip()] * 4
            return
        recipe = ""
        try:
            viewer, recipe = self.desk.viewer(request, token), to_yaml(parse_recipe(current(gathered)))
            turn = Turn(prompt, recipe, note="Waiting for the merge.")
            yield [[*turns, turn], talk([*turns, turn], recipe), gr.skip(), gr.skip()]
            messages = [*(remembered(turns) if remember else []), {"role": "user", "content": prompt}]
            chosen = options_of(*options)
            for (reply,) in self.desk.service.ask_live(tab_of(request), [recipe], messages, chosen, viewer):
                turn = Turn(prompt, recipe, reply.text, noted(reply), reply.error)
                yield [[*turns, turn], talk([*turns, turn], recipe), gr.skip(), gr.skip()]
            made = self.made(request, token)
            status = [in_memory(*made), gr.skip()] if made else [in_memory("", None, error=GONE), AGAIN]
            yield [gr.skip(), gr.skip(), *status]
        except MergeError as e:
            turn = Turn(prompt, recipe, error=str(e))
            yield [[*turns, turn], talk([*turns, turn], recipe), gr.skip(), gr.skip()]

    def film(
        self,
        request: gr.Request,
        token: Token,
        prompt: str,
        turns: list[Turn],
        which: str,
        gathered: list[Any],
        *options: Any,
    ) -> Iterator[list[Any]]:
        """One prompt at five lambdas: what was typed, else what was asked last."""
        asked, empty = prompt.strip() or (turns[-1].prompt if turns else ""), [gr.skip()] * len(FACTORS)
        try:
            if not asked:
                raise MergeError("Write the prompt that the filmstrip should ask.")
            strip = frames(parse_recipe(current(gathered)), which)
            recipes, viewer = [to_yaml(one) for one in strip], self.desk.viewer(request, token)
            captions = [f"{factor:g} times" for factor in FACTORS]
            said, messages = [lambdas(one) for one in strip], [{"role": "user", "content": asked}]
            for replies in self.desk.service.ask_live(tab_of(request), recipes, messages, options_of(*options), viewer):
                shots = [frame(*told) for told in zip(captions, said, replies, strict=True)]
                keeps = [gr.update(visible=reply.done and not reply.error) for reply in replies]
                yield [SHOWN, recipes, *shots, *keeps]
        except MergeError as e:
            yield [SHOWN, [], frame("", error=str(e)), *empty[1:], *[HIDDEN] * len(FACTORS)]

    def leave(self, request: gr.Request) -> list[Any]:
        self.desk.service.live.close_tab(tab_of(request))
        return [LEFT, SHOWN, HIDDEN, HIDDEN, "", False, gr.skip()]


def leaving(desk: Desk) -> Any:
    """What is done when a tab is closed."""

    def close(request: gr.Request) -> None:
        desk.service.live.close_tab(tab_of(request))

    return close


def tab_of(request: gr.Request) -> str:
    return request.session_hash or ""


def remembered(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The conversation so far, without what was not answered."""
    answered = [turn for turn in turns if turn.answer and not turn.error]
    return [
        message
        for turn in answered
        for message in ({"role": "user", "content": turn.prompt}, {"role": "assistant", "content": turn.answer})
    ]


def noted(reply: Reply) -> str:
    speed = f"{reply.tokens} tokens, {reply.tokens_per_second:.0f} a second" if reply.tokens else ""
    return ". ".join(part for part in (speed, reply.note) if part)


def which_moves(recipe_yaml: str, *, anew: bool = False) -> Any:
    """What a filmstrip can move; of other models none is chosen yet."""
    models = [str(model) for model in movable(parse_recipe(recipe_yaml))]
    chosen: dict[str, Any] = {"value": ALL} if anew else {}
    return gr.update(choices=[TOGETHER, *((f"That of {name}", name) for name in models)], **chosen)


def wire_try(stage: TryStage, recipe: RecipeColumn, desk: Desk, shared: Shared) -> tuple[Any, list[Any]]:
    """The event after which a merge may be in memory, and those after which the recipe, gathered, is what somebody has
    decided to merge."""
    live = Live(desk)
    remerged = [stage.status, stage.talk, stage.which, stage.load]
    given = [recipe.yaml, stage.is_live, stage.turns]
    begun = stage.load.click(begin_loading, None, stage.loading[:3], **QUICK)
    loads = begun.then(**recipe.gathering).then(live.load, recipe.gathered, stage.loading, **QUEUED)
    loads.then(live.remerge, given, remerged, **MANY)  # what was changed meanwhile
    stage.cancel.click(live.leave, None, stage.loading, cancels=loads, **QUICK)
    stage.leave.click(live.leave, None, stage.loading, **QUICK)
    recipe.yaml.change(live.remerge, given, remerged, **MANY)
    wire_questions(stage, live, recipe, remerged)
    stage.beside.click(lambda: gr.Tabs(selected="chat"), None, shared.tabs, **QUICK)
    fills = [keep.click(keeping(n), stage.filmed, recipe.all, **QUICK) for n, keep in enumerate(stage.keeps)]
    return loads, [recipe.gathered_on(stage.keep.click), *map(recipe.gathered_after, fills)]


def wire_questions(stage: TryStage, live: Live, recipe: RecipeColumn, remerged: list[Any]) -> None:
    """What is typed, the suggestions and the filmstrip: ask, and give the button back."""
    told, buttons = [recipe.gathered, *stage.options], [stage.send, stage.stop]
    asked: list[tuple[Any, Any, Any]] = [(t, begin, stage.prompt) for t in (stage.send.click, stage.prompt.submit)]
    asked += [(button.click, suggested, button) for button in stage.suggestions]
    answers = []
    for trigger, start, source in asked:
        begun = trigger(start, source, [stage.prompt, stage.pending, *buttons], **QUICK)
        answers.append(
            begun.then(**recipe.gathering).then(
                live.answer, [stage.pending, stage.turns, stage.remember, *told],
                [stage.turns, stage.talk, stage.status, stage.load], concurrency_limit=16, **QUEUED,
            )
        )  # fmt: skip
    begun = stage.film.click(lambda: [HIDDEN, SHOWN], None, buttons, **QUICK)
    answers.append(
        begun.then(**recipe.gathering).then(
            live.film, [stage.prompt, stage.turns, stage.which, *told],
            [stage.strip, stage.filmed, *stage.frames, *stage.keeps], concurrency_limit=16, **QUEUED,
        )
    )  # fmt: skip
    for answer in answers:
        answer.then(ended, None, buttons, **QUICK)
    back = [recipe.yaml, stage.is_live, stage.turns]
    answers[-1].then(live.remerge, back, remerged, **MANY)  # to the merge of the recipe
    stage.stop.click(ended, None, buttons, cancels=answers, **QUICK)
    stage.clear.click(lambda: [[], talk([], "")], None, [stage.turns, stage.talk], cancels=answers, **QUICK).then(
        ended, None, buttons, **QUICK
    )


def begin_loading() -> list[Any]:
    return [LOADING, HIDDEN, SHOWN]


def begin(prompt: str) -> list[Any]:
    """Take the prompt over, once; an empty one is left alone."""
    if not prompt.strip():
        return [gr.skip(), "", gr.skip(), gr.skip()]
    return ["", prompt, HIDDEN, SHOWN]


def suggested(prompt: str) -> list[Any]:
    """A suggestion is asked, and what was being typed stays."""
    return [gr.skip(), *begin(prompt)[1:]]


def ended() -> list[Any]:
    return [SHOWN, HIDDEN]


def keeping(number: int) -> Any:
    def keep(recipes: list[str]) -> list[Any]:
        """What a frame was made with becomes the recipe, and is checked and merged next."""
        form = from_recipe(parse_recipe(recipes[number]))
        return [*shown_form(form), *texts(form)]

    return keep
