"""Who sits in which pane of the Chat stage, and what the panes show."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from merging.recipe import parse_recipe, to_yaml
from space import blind, conversation, view
from space.conversation import Conversation
from space.defused import defused
from space.pages.recipe_values import current
from space.panes import LIVE, Choice, first_chosen
from space.reply import Reply
from space.tried import Tried, lambdas_in

MAX_PANES = 3
HIDDEN, SHOWN = gr.update(visible=False), gr.update(visible=True)


def shown_turn(said: Conversation, prompt: str, recipe: str, replies: Sequence[Reply]) -> list[Any]:
    """The conversation with a turn more, the chatbots, and the lines under them, while an answer comes. `recipe` is
    that of the merge in memory, if it is asked."""
    labels = [reply.label for reply in replies]
    said = conversation.answered(said, prompt, replies, labels, recipe)
    return [said, *padded([bot(said, one) for one in labels], []), *padded([line(said, one) for one in labels], "")]


def unnamed_turn(said: Conversation, prompt: str, recipe: str, replies: Sequence[Reply]) -> list[Any]:
    """The same in blind mode: nothing of an answer before both are there, nothing about its speed or its model."""
    if blind.hidden(replies):
        question = {"role": "user", "content": prompt}
        note = [view.note(blind.note(replies))] * len(replies)
        return [gr.skip(), *padded([[*bot(said, one.label), question] for one in replies], []), *padded(note, "")]
    said, *bots = shown_turn(said, prompt, recipe, replies)[: 1 + MAX_PANES]
    note = [view.note(blind.note(replies) or (blind.MOVED if blind.moved(said) else ""))] * len(replies)
    return [said, *bots, *padded(note, "")]


def bot(said: Conversation, label: str) -> list[dict[str, str]]:
    """What a chatbot shows. What a person wrote is their own; what a model wrote is made harmless."""
    return [
        {**one, "content": defused(one["content"])} if one["role"] == "assistant" else one
        for one in conversation.shown(said, label)
    ]


def line(said: Conversation, label: str) -> str:
    """About the last answer of a pane: what went wrong, or how fast it came, and from which lambdas where they move."""
    turns = conversation.heard(said, label)
    if not turns:
        return ""
    reply = turns[-1].answers[label]
    if reply.error:
        return view.note(reply.error, "error")
    came_from = f"λ {lambdas_in(turns[-1].recipe)}" if label == LIVE else ""
    older = "Earlier answers came from other lambdas" if label == LIVE and blind.moved(turns) else ""
    speed = f"{reply.tokens} tokens, {reply.tokens_per_second:.0f} a second" if reply.tokens else ""
    return view.note(". ".join(part for part in (came_from, speed, reply.note, older) if part))


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
    bots = [gr.update(label=known[label].title, value=bot(said, label)) for label in labels]
    notes = [line(said, label) for label in labels]
    return [
        list(labels), said, False, False, "", gr.update(visible=False), *pane_updates(columns, bots, notes),
    ]  # fmt: skip


def first_seats(found: Sequence[Choice], own: Sequence[Choice], said: Conversation) -> list[Any]:
    """One merge and two of its parents, of all that can be chosen. For `ChatStage.opened`."""
    known = [one.label for one in found]
    chosen = [label for label in first_chosen(own, MAX_PANES) if label in known]
    return [HIDDEN, SHOWN, gr.update(choices=known, value=chosen), "", *seated(found, chosen, said)]


def as_it_stands(tried: Tried | None, labels: Sequence[str], gathered: list[Any]) -> tuple[Tried | None, str]:
    """The merge in memory with the recipe of this moment, which the pane answers with; and that recipe."""
    if tried is None or LIVE not in labels:
        return tried, ""
    recipe = to_yaml(parse_recipe(current(gathered)))
    return tried.at(recipe), recipe


def pane_updates(columns: Sequence[Any], bots: Sequence[Any], notes: Sequence[str]) -> list[Any]:
    return [
        *padded(columns, gr.update(visible=False)), *padded(bots, gr.update(value=[])), *padded(notes, ""),
    ]  # fmt: skip


def colour(choice: Choice) -> str:
    """The class of a model's colour: the same as in its row of the recipe."""
    if choice.kind == "parent":
        return f"c{choice.row}"
    return {"merge": "merged", "live": "merged in-memory"}.get(choice.kind, choice.kind)


def padded(values: Sequence[Any], empty: Any) -> list[Any]:
    return [*values, *[empty] * (MAX_PANES - len(values))]
