"""The Chat stage: one prompt to the merge and to its parents, side by side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import conversation, view
from space.chat import Reply
from space.conversation import Conversation
from space.defused import defused
from space.pages.book import BookStage, build_book, wire_book
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token, told
from space.pages.options import OptionRow, build_options, options_of
from space.panes import Choice, first_chosen
from space.prompt import plain_text

MAX_PANES = 3
EMPTY = view.empty("Nobody to talk to yet", "Finish a merge, then chat with it beside its parents.")


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
    options: OptionRow
    suggestions: tuple[gr.Button, ...]
    pending: gr.State  # the prompt that is being answered
    labels: gr.State  # who has which pane
    said: gr.State  # the conversation; of the bots only what they show
    book: BookStage


def build_chat(prompts: Sequence[str]) -> ChatStage:
    empty = gr.HTML(EMPTY)
    with gr.Column(visible=False, elem_classes="chat-body") as body:
        panes = gr.Dropdown(
            [], multiselect=True, max_choices=MAX_PANES, label="Side by side", info="Up to three.", elem_id="chat-panes"
        )
        with gr.Tabs(elem_classes="inner-tabs"):
            with gr.Tab("Talk"):
                columns, bots, notes = build_panes()
                suggestions, prompt, send, stop, clear = build_prompt(prompts)
            with gr.Tab("Prompt book"):
                book = build_book()
        options = build_options()
    return ChatStage(
        empty, body, panes, columns, bots, notes, prompt, send, stop, clear, options, suggestions, gr.State(""),
        gr.State([]), gr.State(()), book,
    )  # fmt: skip


def build_panes() -> tuple[Any, ...]:
    with gr.Row(elem_classes="panes"):
        return tuple(zip(*[build_pane(i) for i in range(MAX_PANES)], strict=True))


def build_prompt(prompts: Sequence[str]) -> tuple[Any, ...]:
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
    return suggestions, prompt, send, stop, clear


def build_pane(index: int) -> tuple[gr.Column, gr.Chatbot, gr.HTML]:
    with gr.Column(visible=False, min_width=220, elem_classes=["pane"]) as column:
        bot = gr.Chatbot(
            [], label=f"Pane {index + 1}", height=360, sanitize_html=True, allow_tags=False, allow_file_downloads=False,
            buttons=["copy", "copy_all"], editable="user", feedback_options=None, layout="bubble", placeholder="",
            group_consecutive_messages=False,
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
            return [gr.update(visible=True), gr.update(visible=False), *[gr.skip()] * (3 + 3 * MAX_PANES)]
        choices = self.choices(request, token, finished)
        chosen = first_chosen(choices, MAX_PANES)
        panes = gr.update(choices=[one.label for one in choices], value=chosen)
        return [gr.update(visible=False), gr.update(visible=True), panes, chosen, (), *pane_updates(choices, chosen)]

    @told()
    def clear(self, request: gr.Request, token: Token, finished: str, chosen: list[str]) -> list[Any]:
        """New conversations, in the panes that are chosen."""
        return [(), *pane_updates(self.choices(request, token, finished), chosen)]

    @told()
    def rearrange(
        self, request: gr.Request, token: Token, finished: str, chosen: list[str], said: Conversation
    ) -> list[Any]:
        """Other panes. What was said stays, also with those that leave: they may come back."""
        return [chosen, *pane_updates(self.choices(request, token, finished), chosen, said)]

    @told()
    def look(self, request: gr.Request, token: Token, finished: str) -> Any:
        """What can be chosen by now: another merge may have come or gone."""
        if not finished:
            return gr.skip()
        return gr.update(choices=[one.label for one in self.choices(request, token, finished)])

    def answer(
        self, request: gr.Request, token: Token, job_id: str, labels: list[str], prompt: str, said: Conversation,
        *options: Any,
    ) -> Iterator[list[Any]]:  # fmt: skip
        """Stream the answers of all panes. Gradio closes this when Stop is pressed or the tab goes."""
        if not prompt:
            yield [gr.skip()] * (1 + 2 * MAX_PANES)
            return
        waiting = [Reply(label, note="Waiting for the model.") for label in labels]
        yield shown_turn(said, prompt, waiting)
        try:
            asked = [conversation.asked(said, label, prompt) for label in labels]
            viewer = self.desk.viewer(request, token)
            for replies in self.desk.service.chat(job_id, labels, asked, options_of(*options), viewer):
                yield shown_turn(said, prompt, replies)
        except MergeError as e:
            yield shown_turn(said, prompt, [Reply(label, error=str(e)) for label in labels])


def wire_chat(stage: ChatStage, tab: gr.Tab, desk: Desk, shared: Shared) -> None:
    talk, buttons = Talk(desk), [stage.send, stage.stop]
    panes = [*stage.columns, *stage.bots, *stage.notes]
    shared.finished.change(
        talk.prepare, shared.finished, [stage.empty, stage.body, stage.panes, stage.labels, stage.said, *panes], **QUICK
    )
    wire_book(stage.book, stage.labels, stage.options, desk, shared)
    tab.select(talk.look, shared.finished, stage.panes, **QUICK)
    answers = wire_prompts(stage, talk, shared)
    stage.stop.click(ended, None, buttons, cancels=answers, **QUICK)
    given = [shared.finished, stage.panes]
    stage.clear.click(talk.clear, given, [stage.said, *panes], cancels=answers, **QUICK).then(
        ended, None, buttons, **QUICK
    )
    for place, one in enumerate(stage.bots):
        one.clear(clear_in(place), [stage.labels, stage.said], [stage.said, stage.notes[place]], **QUICK)
    stage.panes.input(
        talk.rearrange, [*given, stage.said], [stage.labels, *panes], cancels=answers, **QUICK
    ).then(ended, None, buttons, **QUICK)  # fmt: skip


def wire_prompts(stage: ChatStage, talk: Talk, shared: Shared) -> list[Any]:
    """What is typed, and the suggestions: take the prompt over, answer it, give the Send button back."""
    given = [shared.finished, stage.labels, stage.pending, stage.said, *stage.options.all]
    shown, begun_with = [stage.said, *stage.bots, *stage.notes], [stage.prompt, stage.pending, stage.send, stage.stop]
    asked: list[tuple[Any, Any, Any]] = [(t, begin, stage.prompt) for t in (stage.send.click, stage.prompt.submit)]
    asked += [(button.click, suggested, button) for button in stage.suggestions]
    answers = []
    for trigger, start, source in asked:
        begun = trigger(start, [source, stage.panes], begun_with, **QUICK)
        answers.append(begun.then(talk.answer, given, shown, concurrency_limit=16, **QUEUED))
    for place, bot in enumerate(stage.bots):
        begun = bot.edit(
            edit_in(place), [stage.labels, stage.said], [stage.said, *begun_with], cancels=answers, **QUICK
        )
        answers.append(begun.then(talk.answer, given, shown, concurrency_limit=16, **QUEUED))
    for answer in answers:
        answer.then(ended, None, [stage.send, stage.stop], **QUICK)
    return answers


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


def edit_in(place: int) -> Callable[..., list[Any]]:
    def edited(labels: list[str], said: Conversation, event: gr.EditData) -> list[Any]:
        """A prompt was changed in one pane: all panes answer it anew, and what came after it is gone."""
        prompt, index = plain_text(event.value), event.index
        if not prompt.strip() or not isinstance(index, int):
            return [gr.skip(), gr.skip(), "", gr.skip(), gr.skip()]
        return [conversation.before(said, labels[place], index), *suggested(prompt, labels)]

    return edited


def clear_in(place: int) -> Callable[..., list[Any]]:
    def cleared(labels: list[str], said: Conversation) -> list[Any]:
        """One pane begins anew: the bin in its corner."""
        return [conversation.without(said, labels[place]), ""]

    return cleared


def shown_turn(said: Conversation, prompt: str, replies: Sequence[Reply]) -> list[Any]:
    """The conversation with a turn more, the chatbots, and the lines under them, while an answer comes."""
    labels = [reply.label for reply in replies]
    said = conversation.answered(said, prompt, replies, labels)
    return [said, *padded([bot(said, label) for label in labels], []), *padded([note_of(r) for r in replies], "")]


def bot(said: Conversation, label: str) -> list[dict[str, str]]:
    """What a chatbot shows. What a person wrote is their own; what a model wrote is made harmless."""
    return [
        {**one, "content": defused(one["content"])} if one["role"] == "assistant" else one
        for one in conversation.shown(said, label)
    ]


def note_of(reply: Reply) -> str:
    if reply.error:
        return view.note(reply.error, "error")
    speed = f"{reply.tokens} tokens, {reply.tokens_per_second:.0f} a second" if reply.tokens else ""
    return view.note(". ".join(part for part in (speed, reply.note) if part))


def pane_updates(choices: Sequence[Choice], chosen: Sequence[str], said: Conversation = ()) -> list[Any]:
    """Show as many panes as were chosen, each with its model's name and colour, and what was said in it."""
    known = {one.label: one for one in choices}
    columns = [gr.update(visible=True, elem_classes=["pane", colour(known[label])]) for label in chosen]
    bots = [gr.update(label=label, value=bot(said, label)) for label in chosen]
    notes = [
        note_of(turns[-1].answers[label]) if (turns := conversation.heard(said, label)) else "" for label in chosen
    ]
    return [
        *padded(columns, gr.update(visible=False)), *padded(bots, gr.update(value=[])), *padded(notes, ""),
    ]  # fmt: skip


def colour(choice: Choice) -> str:
    """The class of a model's colour: the same as in its row of the recipe."""
    if choice.kind == "parent":
        return f"c{choice.row}"
    return {"merge": "merged"}.get(choice.kind, choice.kind)


def padded(values: Sequence[Any], empty: Any) -> list[Any]:
    return [*values, *[empty] * (MAX_PANES - len(values))]
