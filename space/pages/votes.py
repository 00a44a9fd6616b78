"""Blind votes on their way into the card: an offer at Publish, once there are enough of them."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from space.pages.desk import QUICK, Desk, Shared, Token, told
from space.pages.publish import PublishStage, without_front_matter
from space.tally import card_section, with_section


@dataclass(frozen=True, slots=True)
class Ballot:
    """The listeners that ask the service."""

    desk: Desk

    def section(self, request: gr.Request, token: Token, finished: str) -> str:
        return card_section(self.desk.service.tallies(finished, self.desk.viewer(request, token)))

    @told()
    def offer(self, request: gr.Request, token: Token, finished: str) -> Any:
        return gr.update(visible=bool(finished) and bool(self.section(request, token, finished)))

    @told()
    def put(self, request: gr.Request, token: Token, finished: str, wanted: bool, card: str) -> list[str]:
        """The card with the votes or without them; what else was edited in it stays."""
        card = with_section(card, self.section(request, token, finished) if wanted else "")
        return [card, without_front_matter(card)]


def wire_votes(stage: PublishStage, tab: gr.Tab, desk: Desk, shared: Shared) -> None:
    ballot = Ballot(desk)
    tab.select(ballot.offer, shared.finished, stage.votes, **QUICK)
    stage.votes.input(ballot.put, [shared.finished, stage.votes, stage.card], [stage.card, stage.preview], **QUICK)
    # A card that is written anew has none.
    gr.on([stage.remake.click, shared.finished.change], lambda: False, None, stage.votes, **QUICK)
