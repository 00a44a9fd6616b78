"""Blind mode of the Chat stage: its switch, the vote, and what the votes say."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from space.blind import votable
from space.conversation import Conversation

TITLES = {"left": "Left is better", "right": "Right is better", "good": "Both good", "bad": "Both bad"}


@dataclass(frozen=True, slots=True)
class BlindPart:
    switch: gr.Checkbox
    note: gr.HTML
    row: gr.Row
    buttons: dict[str, gr.Button]  # by verdict
    tally: gr.HTML
    voted: gr.State  # whether the names are known: the next prompt begins anew


def build_switch() -> tuple[gr.Checkbox, gr.HTML]:
    switch = gr.Checkbox(
        label="Blind", info="Two panes, shuffled and unnamed, until you vote.", elem_id="blind", scale=0, min_width=240
    )
    return switch, gr.HTML("", elem_id="blind-note")


def build_vote() -> tuple[gr.Row, dict[str, gr.Button], gr.HTML]:
    with gr.Row(visible=False, elem_classes="stage-action votes") as row:
        buttons = {verdict: gr.Button(title, elem_id=f"vote-{verdict}") for verdict, title in TITLES.items()}
    return row, buttons, gr.HTML("", elem_id="tally")


def offer(blind: bool, voted: bool, labels: list[str], said: Conversation) -> Any:
    """The vote, once both have answered."""
    return gr.update(visible=blind and not voted and votable(said, labels))
