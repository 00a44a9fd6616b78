"""Who sits in which pane of the Chat stage, and what the panes show."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from space import blind, conversation, view
from space.conversation import Conversation
from space.defused import defused
from space.panes import Choice
from space.reply import Reply

MAX_PANES = 3


def shown_turn(said: Conversation, prompt: str, replies: Sequence[Reply]) -> list[Any]:
    """The conversation with a turn more, the chatbots, and the lines under them, while an answer comes."""
    labels = [reply.label for reply in replies]
    said = conversation.answered(said, prompt, replies, labels)
    return [said, *padded([bot(said, label) for label in labels], []), *padded([note_of(r) for r in replies], "")]


def unnamed_turn(said: Conversation, prompt: str, replies: Sequence[Reply]) -> list[Any]:
    """The same in blind mode: nothing of an answer before both are there, nothing about its speed or its model."""
    note = padded([view.note(blind.note(replies))] * len(replies), "")
    if blind.hidden(replies):
        question = {"role": "user", "content": prompt}
        return [gr.skip(), *padded([[*bot(said, one.label), question] for one in replies], []), *note]
    named = shown_turn(said, prompt, replies)
    return [*named[: 1 + MAX_PANES], *note]


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


def arranged(choices: Sequence[Choice], chosen: Sequence[str], blindly: bool, said: Conversation) -> list[Any]:
    """Who sits where: as chosen, or shuffled, unnamed and without what was said. For `ChatStage.arranged`."""
    if not blindly:
        return seated(choices, chosen, said)
    if len(chosen) != 2:
        return [
            *seated(choices, chosen, said)[:4],
            view.note(blind.NEEDS_TWO, "warn"),
            *seated(choices, chosen, said)[5:],
        ]
    columns = [gr.update(visible=True, elem_classes=["pane", "unnamed"])] * 2
    bots = [gr.update(label=side, value=[]) for side in blind.SIDES]
    return [
        blind.shuffled(chosen),
        (),
        True,
        False,
        "",
        gr.update(visible=False),
        *pane_updates(columns, bots, ["", ""]),
    ]


def seated(choices: Sequence[Choice], labels: Sequence[str], said: Conversation) -> list[Any]:
    """Each pane with its model's name and colour, and what was said in it."""
    known = {one.label: one for one in choices}
    columns = [gr.update(visible=True, elem_classes=["pane", colour(known[label])]) for label in labels]
    bots = [gr.update(label=label, value=bot(said, label)) for label in labels]
    notes = [
        note_of(turns[-1].answers[label]) if (turns := conversation.heard(said, label)) else "" for label in labels
    ]
    return [
        list(labels), said, False, False, "", gr.update(visible=False), *pane_updates(columns, bots, notes),
    ]  # fmt: skip


def pane_updates(columns: Sequence[Any], bots: Sequence[Any], notes: Sequence[str]) -> list[Any]:
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
