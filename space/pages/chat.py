"""The Chat stage: one prompt to the merge and to its parents, side by side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import conversation, view
from space.chat import Reply
from space.conversation import Conversation
from space.messages import plain_text
from space.pages.blind import BlindPart, build_switch, build_vote, offer
from space.pages.book import BookStage, build_book, wire_book
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token, told
from space.pages.options import OptionRow, build_options, options_of
from space.pages.recipe import RecipeColumn
from space.pages.seats import MAX_PANES, arranged, as_it_stands, first_seats, padded, seated, shown_turn, unnamed_turn
from space.panes import LIVE, MERGE, Choice, live_choice
from space.tally import summary
from space.tried import Tried

EMPTY = view.empty(
    "Nobody to talk to yet",
    "Load a merge under Try, or finish one: then it can be asked side by side with its parents.",
)
ARRANGED = 6 + 3 * MAX_PANES  # what changes when panes do: see `ChatStage.arranged`
HIDDEN, SHOWN = gr.update(visible=False), gr.update(visible=True)


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
    tried: gr.State  # the merge that this tab has in memory, or had
    book: BookStage
    blind: BlindPart

    @property
    def all_panes(self) -> list[gr.blocks.Block]:
        return [*self.columns, *self.bots, *self.notes]

    @property
    def opened(self) -> list[gr.blocks.Block]:
        """What changes when a merge is finished, or is in memory."""
        return [self.empty, self.body, self.panes, self.blind.tally, *self.arranged]

    @property
    def arranged(self) -> list[gr.blocks.Block]:
        """What changes when panes do: what is about who sits where, then the panes."""
        blind = self.blind
        return [self.labels, self.said, blind.switch, blind.voted, blind.note, blind.row, *self.all_panes]


def build_chat(prompts: Sequence[str]) -> ChatStage:
    empty = gr.HTML(EMPTY)
    with gr.Column(visible=False, elem_classes="chat-body") as body:
        with gr.Row(elem_classes="panes-choice"):
            panes = gr.Dropdown(
                [], multiselect=True, max_choices=MAX_PANES, label="Side by side", info="Up to three.",
                elem_id="chat-panes", scale=1,
            )  # fmt: skip
            switch, blind_note = build_switch()
        with gr.Tabs(elem_classes="inner-tabs"):
            with gr.Tab("Talk"):
                columns, bots, notes = build_panes()
                vote, buttons, tally = build_vote()
                suggestions, prompt, send, stop, clear = build_prompt(prompts)
            with gr.Tab("Prompt book"):
                book = build_book()
        options = build_options()
    return ChatStage(
        empty, body, panes, columns, bots, notes, prompt, send, stop, clear, options, suggestions, gr.State(""),
        gr.State([]), gr.State(()), gr.State(None), book,
        BlindPart(switch, blind_note, vote, buttons, tally, gr.State(False)),
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

    def choices(self, request: gr.Request, token: Token, job_id: str, tried: Tried | None) -> list[Choice]:
        return self.desk.service.panes(job_id, self.desk.viewer(request, token), tried)

    @told()
    def prepare(
        self,
        request: gr.Request,
        token: Token,
        finished: str,
        tried: Tried | None,
        labels: list[str],
        said: Conversation,
    ) -> list[Any]:
        """A merge is done: its panes can be chosen; the merge and two of its parents are. A conversation of others goes
        on. That another one is merged hides it; what is in memory can be asked meanwhile."""
        if not finished and tried is None:
            return [SHOWN, HIDDEN, *[gr.skip()] * (2 + ARRANGED)]
        found = self.choices(request, token, finished, tried)
        known = [one.label for one in found]
        if said and MERGE not in labels and set(labels) <= set(known):
            return [HIDDEN, SHOWN, gr.update(choices=known), *[gr.skip()] * (1 + ARRANGED)]
        return first_seats(found, self.choices(request, token, finished, None if finished else tried), ())

    @told()
    def sit_down(
        self, request: gr.Request, token: Token, finished: str, recipe_yaml: str, said: Conversation
    ) -> list[Any]:  # fmt: skip
        """A merge is in memory: it can be asked beside two of its parents, which keep what they have said."""
        viewer = self.desk.viewer(request, token)
        tried = self.desk.service.live.tried(request.session_hash or "", viewer.owner)
        if tried is None:
            return [gr.skip()] * (5 + ARRANGED)
        tried = tried.at(recipe_yaml)
        found, own = (self.desk.service.panes(job_id, viewer, tried) for job_id in (finished, ""))
        return [tried, *first_seats(found, own, conversation.without(said, LIVE))]

    def follow(
        self, recipe_yaml: str, tried: Tried | None, labels: list[str], blind: bool, voted: bool
    ) -> list[Any]:  # fmt: skip
        """The recipe has changed: the pane of the merge in memory says what answers next, unless nobody is named."""
        if tried is None:
            return [gr.skip()] * (1 + MAX_PANES)
        tried, hidden = tried.at(recipe_yaml), blind and not voted
        title = gr.update(label=live_choice(tried).title)
        return [tried, *padded([title if one == LIVE and not hidden else gr.skip() for one in labels], gr.skip())]

    @told()
    def clear(
        self, request: gr.Request, token: Token, finished: str, tried: Tried | None, chosen: list[str], blind: bool
    ) -> list[Any]:
        """New conversations, in the panes that are chosen."""
        return arranged(self.choices(request, token, finished, tried), chosen, blind, ())

    @told()
    def arrange(
        self, request: gr.Request, token: Token, finished: str, tried: Tried | None, chosen: list[str], blind: bool,
        said: Conversation,
    ) -> list[Any]:  # fmt: skip
        """Other panes. What was said stays, also with those that leave: they may come back. Of two that were voted on
        the votes are told, unless one is about to vote."""
        seats = arranged(self.choices(request, token, finished, tried), chosen, blind, said)
        if len(chosen) == 2 and not blind:
            counted = self.desk.service.votes_between(finished, chosen, self.desk.viewer(request, token), tried)
            seats[4] = view.note(summary(counted)) if counted.votes else ""
        return seats

    @told()
    def next_round(
        self, request: gr.Request, token: Token, finished: str, tried: Tried | None, chosen: list[str], voted: bool,
        prompt: str,
    ) -> list[Any]:  # fmt: skip
        """After a blind vote the next prompt finds the panes shuffled and empty."""
        if voted and prompt:
            return arranged(self.choices(request, token, finished, tried), chosen, True, ())
        hide = gr.update(visible=False) if prompt else gr.skip()
        return [*[gr.skip()] * 5, hide, *[gr.skip()] * (3 * MAX_PANES)]

    def voter(self, verdict: str) -> Callable[..., list[Any]]:
        @told()
        def vote(
            request: gr.Request, token: Token, finished: str, tried: Tried | None, labels: list[str], said: Conversation
        ) -> list[Any]:  # fmt: skip
            """Keep the vote, and say who was who. Of the merge in memory it is on the lambdas that have answered."""
            viewer, prompts = self.desk.viewer(request, token), [turn.prompt for turn in said]
            then = tried.at(said[-1].recipe) if tried is not None and said else tried
            found = self.desk.service.vote(finished, labels, verdict, prompts, viewer, then)
            seats = seated(self.choices(request, token, finished, tried), labels, said)[6:]
            return [True, gr.update(visible=False), view.note(summary(found)), *seats]

        return vote

    @told()
    def look(
        self, request: gr.Request, token: Token, finished: str, tried: Tried | None, chosen: list[str], blind: bool,
        said: Conversation,
    ) -> list[Any]:  # fmt: skip
        """What can be chosen by now: another merge may have come, or gone, and its pane with it."""
        if not finished and tried is None:
            return [gr.skip()] * (1 + ARRANGED)
        found = self.choices(request, token, finished, tried)
        known = [one.label for one in found]
        there = [label for label in chosen if label in known]
        if there == list(chosen):
            return [gr.update(choices=known), *[gr.skip()] * ARRANGED]
        return [gr.update(choices=known, value=there), *arranged(found, there, blind, said)]

    def answer(
        self, request: gr.Request, token: Token, job_id: str, tried: Tried | None, labels: list[str], prompt: str,
        said: Conversation, *how: Any,
    ) -> Iterator[list[Any]]:  # fmt: skip
        """Stream the answers of all panes. Gradio closes this when Stop is pressed or the tab goes. `how` is whether
        blindly, the form as it was gathered, and the options."""
        if not prompt:
            yield [gr.skip()] * (1 + 2 * MAX_PANES)
            return
        blind, gathered, *options = how
        turn = unnamed_turn if blind else shown_turn
        show = partial(turn, said, prompt, "")
        try:
            tried, recipe = as_it_stands(tried, labels, gathered)
            show = partial(turn, said, prompt, recipe)
            yield show([Reply(label, note="Waiting for the model.") for label in labels])
            asked = [conversation.asked(said, label, prompt) for label in labels]
            viewer = self.desk.viewer(request, token)
            for replies in self.desk.service.chat(job_id, labels, asked, options_of(*options), viewer, tried):
                yield show(replies)
        except MergeError as e:
            yield show([Reply(label, error=str(e), done=True) for label in labels])


def wire_chat(stage: ChatStage, tab: gr.Tab, loaded: Any, recipe: RecipeColumn, desk: Desk, shared: Shared) -> None:
    """`loaded` is the event after which a merge may be in memory."""
    talk, buttons, blind = Talk(desk), [stage.send, stage.stop], stage.blind
    who = [shared.finished, stage.tried]
    shared.finished.change(talk.prepare, [*who, stage.labels, stage.said], stage.opened, **QUICK)
    loaded.then(talk.sit_down, [shared.finished, recipe.yaml, stage.said], [stage.tried, *stage.opened], **QUICK)
    moved = [recipe.yaml, stage.tried, stage.labels, blind.switch, blind.voted]
    recipe.yaml.change(talk.follow, moved, [stage.tried, *stage.bots], **QUICK)
    wire_book(stage.book, stage.panes, stage.tried, stage.options, recipe, desk, shared)
    tab.select(talk.look, [*who, stage.panes, blind.switch, stage.said], [stage.panes, *stage.arranged], **QUICK)
    answers = wire_prompts(stage, talk, recipe, shared)
    stage.stop.click(ended, None, buttons, cancels=answers, **QUICK)
    given = [*who, stage.panes, blind.switch]
    for place, one in enumerate(stage.bots):
        one.clear(clear_in(place), [stage.labels, stage.said], [stage.said, stage.notes[place]], **QUICK)
    for happened, act, known in (
        (stage.clear.click, talk.clear, given),
        (stage.panes.input, talk.arrange, [*given, stage.said]),
        (blind.switch.input, talk.arrange, [*given, stage.said]),
    ):
        happened(act, known, stage.arranged, cancels=answers, **QUICK).then(ended, None, buttons, **QUICK)
    for verdict, button in blind.buttons.items():
        voted = button.click(
            talk.voter(verdict), [*who, stage.labels, stage.said],
            [blind.voted, blind.row, blind.tally, *stage.all_panes], **QUICK,
        )  # fmt: skip
        voted.then(talk.follow, moved, [stage.tried, *stage.bots], **QUICK)  # moved while nobody was named


def wire_prompts(stage: ChatStage, talk: Talk, recipe: RecipeColumn, shared: Shared) -> list[Any]:
    """What is typed, and the suggestions: take the prompt over, answer it, give the Send button back."""
    blind, taken = stage.blind, [stage.prompt, stage.pending, stage.send, stage.stop]
    asked: list[tuple[Any, Any, Any]] = [(t, begin, stage.prompt) for t in (stage.send.click, stage.prompt.submit)]
    asked += [(button.click, suggested, button) for button in stage.suggestions]
    begun = [trigger(start, [source, stage.panes], taken, **QUICK) for trigger, start, source in asked]
    who = [shared.finished, stage.tried]
    rounds = [*who, stage.panes, blind.voted, stage.pending]
    begun = [one.then(talk.next_round, rounds, stage.arranged, **QUICK) for one in begun]
    begun += [
        bot.edit(edit_in(place), [stage.labels, stage.said], [stage.said, *taken, blind.row], **QUICK)
        for place, bot in enumerate(stage.bots)
    ]
    given = [*who, stage.labels, stage.pending, stage.said, blind.switch, recipe.gathered, *stage.options.all]
    shown = [stage.said, *stage.bots, *stage.notes]
    begun = [one.then(**recipe.gathering) for one in begun]
    answers = [one.then(talk.answer, given, shown, concurrency_limit=16, **QUEUED) for one in begun]
    for answer in answers:
        answer.then(ended, None, [stage.send, stage.stop], **QUICK).then(
            offer, [blind.switch, blind.voted, stage.labels, stage.said], blind.row, **QUICK
        )
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
            return [gr.skip(), gr.skip(), "", *[gr.skip()] * 3]
        return [conversation.before(said, labels[place], index), *suggested(prompt, labels), gr.update(visible=False)]

    return edited


def clear_in(place: int) -> Callable[..., list[Any]]:
    def cleared(labels: list[str], said: Conversation) -> list[Any]:
        """One pane begins anew: the bin in its corner."""
        return [conversation.without(said, labels[place]), ""]

    return cleared
