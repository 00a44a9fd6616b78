"""The Chat stage: one prompt to the merge and to its parents, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import view
from space.chat import ChatOptions, Reply
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token, told
from space.panes import Choice

MAX_PANES = 3
EMPTY = view.empty("Nobody to talk to yet", "Finish a merge, then chat with it beside its parents.")

History = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ChatStage:
    empty: gr.HTML
    body: gr.Column
    panes: gr.Dropdown
    columns: tuple[gr.Column, ...]
    bots: tuple[gr.Chatbot, ...]
    notes: tuple[gr.HTML, ...]
    prompt: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    temperature: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number
    system: gr.Textbox
    suggestions: tuple[gr.Button, ...]
    pending: gr.State  # the prompt that is being answered
    labels: gr.State  # of the models that have a pane

    @property
    def options(self) -> list[gr.components.Component]:
        return [self.temperature, self.max_tokens, self.seed, self.system]


def build_chat(prompts: Sequence[str]) -> ChatStage:
    empty = gr.HTML(EMPTY)
    with gr.Column(visible=False, elem_classes="chat-body") as body:
        panes = gr.Dropdown(
            [], multiselect=True, max_choices=MAX_PANES, label="Side by side", info="Up to three.", elem_id="chat-panes"
        )
        with gr.Row(elem_classes="panes"):
            built = [build_pane(i) for i in range(MAX_PANES)]
        with gr.Row(elem_classes="examples"):
            suggestions = tuple(gr.Button(text, size="sm", elem_classes="quiet") for text in prompts)
        with gr.Row(elem_classes="prompt-row"):
            prompt = gr.Textbox(
                label="Prompt", show_label=False, placeholder="Write to all of them", lines=1, max_lines=8, scale=1,
                elem_id="chat-prompt",
            )  # fmt: skip
            send = gr.Button("Send", variant="primary", scale=0, min_width=90, elem_id="chat-send")
            stop = gr.Button("Stop", visible=False, scale=0, min_width=90, elem_id="chat-stop")
            clear = gr.Button("Clear", scale=0, min_width=80, elem_id="chat-clear", elem_classes="quiet")
        with gr.Accordion("Settings", open=False):
            with gr.Row():
                temperature = gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 takes the likeliest token.")
                tokens = gr.Slider(1, 1024, 256, step=1, label="Max tokens")
                seed = gr.Number(0, label="Seed", precision=0, info="The same for every pane.")
            system = gr.Textbox(label="System prompt", lines=1, max_lines=6, placeholder="None")
    columns, bots, notes = zip(*built, strict=True)
    return ChatStage(
        empty, body, panes, columns, bots, notes, prompt, send, stop, clear, temperature, tokens, seed, system,
        suggestions, gr.State(""), gr.State([]),
    )  # fmt: skip


def build_pane(index: int) -> tuple[gr.Column, gr.Chatbot, gr.HTML]:
    with gr.Column(visible=False, min_width=220, elem_classes=["pane"]) as column:
        bot = gr.Chatbot(
            [], label=f"Pane {index + 1}", height=360, sanitize_html=True, render_markdown=False, buttons=["copy_all"],
            feedback_options=None, layout="bubble", placeholder="",
        )  # fmt: skip
        return column, bot, gr.HTML("", elem_classes="pane-note")


@dataclass(frozen=True, slots=True)
class Talk:
    """The listeners that ask the service."""

    desk: Desk

    def choices(self, request: gr.Request, token: Token, job_id: str) -> list[Choice]:
        return self.desk.service.panes(job_id, self.desk.viewer(request, token))

    @told()
    def prepare(self, request: gr.Request, token: Token, finished: str) -> list[Any]:
        """A merge is done: its panes can be chosen; the merge and two of its parents are."""
        if not finished:
            return [gr.update(visible=True), gr.update(visible=False), *[gr.skip()] * (2 + 3 * MAX_PANES)]
        choices = self.choices(request, token, finished)
        labels = [one.label for one in choices]
        chosen = [labels[0], *labels[1:][-(MAX_PANES - 1) :]]
        panes = gr.update(choices=labels, value=chosen)
        return [gr.update(visible=False), gr.update(visible=True), panes, chosen, *pane_updates(choices, chosen)]

    @told()
    def clear(self, request: gr.Request, token: Token, finished: str, chosen: list[str]) -> list[Any]:
        """New conversations, in the panes that are chosen."""
        return pane_updates(self.choices(request, token, finished), chosen)

    @told()
    def rearrange(
        self, request: gr.Request, token: Token, finished: str, chosen: list[str], before: list[str], *said: Any
    ) -> list[Any]:
        """Other panes: the conversations of those that stay go with them."""
        histories, notes = dict(zip(before, said, strict=False)), dict(zip(before, said[MAX_PANES:], strict=False))
        return [chosen, *pane_updates(self.choices(request, token, finished), chosen, histories, notes)]

    def answer(
        self, request: gr.Request, token: Token, job_id: str, chosen: list[str], prompt: str, *rest: Any
    ) -> Iterator[list[Any]]:
        """Stream the answers of all panes. Gradio closes this when Stop is pressed or the tab goes."""
        if not prompt:
            yield [gr.skip()] * (2 * MAX_PANES)
            return
        asked = [[*history, {"role": "user", "content": prompt}] for history in rest[: len(chosen)]]
        yield unanswered(asked, view.note("Waiting for the model."))
        try:
            viewer, options = self.desk.viewer(request, token), options_of(*rest[MAX_PANES:])
            for replies in self.desk.service.chat(job_id, chosen, asked, options, viewer):
                yield shown_replies(asked, replies)
        except MergeError as e:
            yield unanswered(asked, view.note(str(e), "error"))


def wire_chat(stage: ChatStage, desk: Desk, shared: Shared) -> None:
    talk, buttons = Talk(desk), [stage.send, stage.stop]
    panes = [*stage.columns, *stage.bots, *stage.notes]
    shared.finished.change(
        talk.prepare, shared.finished, [stage.empty, stage.body, stage.panes, stage.labels, *panes], **QUICK
    )
    answers = wire_prompts(stage, talk, shared)
    stage.stop.click(ended, None, buttons, cancels=answers, **QUICK)
    given = [shared.finished, stage.panes]
    stage.clear.click(talk.clear, given, panes, cancels=answers, **QUICK).then(ended, None, buttons, **QUICK)
    said = [stage.labels, *stage.bots, *stage.notes]
    stage.panes.input(talk.rearrange, [*given, *said], [stage.labels, *panes], cancels=answers, **QUICK).then(
        ended, None, buttons, **QUICK
    )


def wire_prompts(stage: ChatStage, talk: Talk, shared: Shared) -> list[Any]:
    """What is typed, and the suggestions: take the prompt over, answer it, give the Send button back."""
    given = [shared.finished, stage.panes, stage.pending, *stage.bots, *stage.options]
    asked: list[tuple[Any, Any, Any]] = [(t, begin, stage.prompt) for t in (stage.send.click, stage.prompt.submit)]
    asked += [(button.click, suggested, button) for button in stage.suggestions]
    answers = []
    for trigger, start, source in asked:
        begun = trigger(start, [source, stage.panes], [stage.prompt, stage.pending, stage.send, stage.stop], **QUICK)
        answers.append(begun.then(talk.answer, given, [*stage.bots, *stage.notes], concurrency_limit=16, **QUEUED))
        answers[-1].then(ended, None, [stage.send, stage.stop], **QUICK)
    return answers


def unanswered(asked: Sequence[History], note: str) -> list[Any]:
    return [*padded(asked, []), *padded([note] * len(asked), "")]


def begin(prompt: str, chosen: list[str]) -> list[Any]:
    """Take the prompt over, once; an empty one is left alone."""
    if not prompt.strip() or not chosen:
        return [gr.skip(), "", gr.skip(), gr.skip()]
    return ["", prompt, gr.update(visible=False), gr.update(visible=True)]


def suggested(prompt: str, chosen: list[str]) -> list[Any]:
    """A suggestion is asked, and what was being typed stays."""
    return [gr.skip(), *begin(prompt, chosen)[1:]]


def ended() -> list[Any]:
    return [gr.update(visible=True), gr.update(visible=False)]


def shown_replies(asked: Sequence[History], replies: Sequence[Reply]) -> list[Any]:
    """The chatbots and the lines under them, while an answer comes."""
    bots = [
        [*h, {"role": "assistant", "content": r.text}] if r.text else h for h, r in zip(asked, replies, strict=True)
    ]
    return [*padded(bots, []), *padded([note_of(r) for r in replies], "")]


def note_of(reply: Reply) -> str:
    if reply.error:
        return view.note(reply.error, "error")
    speed = f"{reply.tokens} tokens, {reply.tokens_per_second:.0f} a second" if reply.tokens else ""
    return view.note(". ".join(part for part in (speed, reply.note) if part))


def pane_updates(
    choices: Sequence[Choice], chosen: Sequence[str], said: Mapping[str, History] = MappingProxyType({}),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> list[Any]:  # fmt: skip
    """Show as many panes as were chosen, each with its model's name and colour, and what was said in it."""
    known = {one.label: one for one in choices}
    columns = [gr.update(visible=True, elem_classes=["pane", colour(known[label])]) for label in chosen]
    bots = [gr.update(label=label, value=said.get(label, [])) for label in chosen]
    hidden = gr.update(visible=False)
    return [
        *padded(columns, hidden),
        *padded(bots, gr.update(value=[])),
        *padded([notes.get(label, "") for label in chosen], ""),
    ]


def colour(choice: Choice) -> str:
    """The class of a model's colour: the same as in its row of the recipe."""
    if choice.ref is None:
        return "merged"
    return f"c{choice.row}" if choice.row else "base"


def padded(values: Sequence[Any], empty: Any) -> list[Any]:
    return [*values, *[empty] * (MAX_PANES - len(values))]


def options_of(temperature: float, tokens: float, seed: float | None, system: str | None) -> ChatOptions:
    return ChatOptions(
        temperature=float(temperature), max_new_tokens=int(tokens), seed=int(seed or 0), system=(system or "").strip()
    )
