"""The Chat stage: one prompt to the merge and to its parents, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import view
from space.chat import ChatOptions, Reply
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token

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
    pending: gr.State  # the prompt that is being answered; it starts the answers

    @property
    def sending(self) -> list[gr.components.Component]:
        return [self.prompt, self.pending, self.send, self.stop]

    @property
    def ending(self) -> list[gr.components.Component]:
        return [self.pending, self.send, self.stop]

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
        suggestions, gr.State(""),
    )  # fmt: skip


def build_pane(index: int) -> tuple[gr.Column, gr.Chatbot, gr.HTML]:
    with gr.Column(visible=False, min_width=220, elem_classes=["pane", f"pane-{index + 1}"]) as column:
        bot = gr.Chatbot(
            [], label=f"Pane {index + 1}", height=420, sanitize_html=True, allow_tags=False, buttons=["copy"],
            feedback_options=None, layout="bubble", placeholder="",
        )  # fmt: skip
        return column, bot, gr.HTML("", elem_classes="pane-note")


def wire_chat(stage: ChatStage, desk: Desk, shared: Shared) -> None:
    def prepare(request: gr.Request, token: Token, finished: str) -> list[Any]:
        """A merge is done: its panes can be chosen; the merge and two of its parents are."""
        if not finished:
            return [gr.update(visible=True), gr.update(visible=False), *[gr.skip()] * (1 + 3 * MAX_PANES)]
        labels = [label for label, _ in desk.service.panes(finished, desk.viewer(request, token))]
        chosen = [labels[0], *labels[1:][-(MAX_PANES - 1) :]]
        panes = gr.update(choices=labels, value=chosen)
        return [gr.update(visible=False), gr.update(visible=True), panes, *pane_updates(chosen)]

    def answer(request: gr.Request, token: Token, job_id: str, labels: list[str], prompt: str, *rest: Any) -> Any:
        """Stream the answers of all panes. Gradio closes this when Stop is pressed or the tab goes."""
        histories, options = rest[: len(labels)], options_of(*rest[MAX_PANES:])
        asked = [[*flat(history), {"role": "user", "content": prompt}] for history in histories]
        yield [*padded(asked, []), *padded([view.note("Waiting for the model.")] * len(labels), "")]
        try:
            for replies in desk.service.chat(job_id, labels, asked, options, desk.viewer(request, token)):
                yield shown_replies(asked, replies)
        except MergeError as e:
            yield [*padded(asked, []), *padded([view.note(str(e), "error")] * len(labels), "")]

    opened = [stage.empty, stage.body, stage.panes, *stage.columns, *stage.bots, *stage.notes]
    shared.finished.change(prepare, shared.finished, opened, **QUICK)
    stage.panes.input(pane_updates, stage.panes, opened[3:], **QUICK)
    gr.on([stage.send.click, stage.prompt.submit], begin, [stage.prompt, stage.panes], stage.sending, **QUICK)
    for button in stage.suggestions:
        button.click(begin, [button, stage.panes], stage.sending, **QUICK)
    asking = stage.pending.change(
        answer, [shared.finished, stage.panes, stage.pending, *stage.bots, *stage.options],
        [*stage.bots, *stage.notes], concurrency_limit=4, **QUEUED,
    )  # fmt: skip
    asking.then(ended, None, stage.ending, **QUICK)
    stage.stop.click(ended, None, stage.ending, cancels=[asking], **QUICK)
    stage.clear.click(pane_updates, stage.panes, opened[3:], cancels=[asking], **QUICK).then(
        ended, None, stage.ending, **QUICK
    )


def begin(prompt: str, labels: list[str]) -> list[Any]:
    """Take the prompt over, once; an empty one is left alone."""
    if not prompt.strip() or not labels:
        return [gr.skip()] * 4
    return ["", prompt, gr.update(visible=False), gr.update(visible=True)]


def ended() -> list[Any]:
    return ["", gr.update(visible=True), gr.update(visible=False)]


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


def pane_updates(labels: Sequence[str]) -> list[Any]:
    """Show as many panes as were chosen, each named; a new choice starts new conversations."""
    columns = [gr.update(visible=i < len(labels)) for i in range(MAX_PANES)]
    bots = [gr.update(label=labels[i] if i < len(labels) else "", value=[]) for i in range(MAX_PANES)]
    return [*columns, *bots, *[""] * MAX_PANES]


def padded(values: Sequence[Any], empty: Any) -> list[Any]:
    return [*values, *[empty] * (MAX_PANES - len(values))]


def flat(history: History) -> History:
    """A conversation as plain text: Gradio 6 gives the content of each message as a list of blocks."""
    return [{"role": m["role"], "content": text_of(m["content"])} for m in history]


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if isinstance(block, dict))


def options_of(temperature: float, tokens: float, seed: float | None, system: str | None) -> ChatOptions:
    return ChatOptions(
        temperature=float(temperature), max_new_tokens=int(tokens), seed=int(seed or 0), system=(system or "").strip()
    )
