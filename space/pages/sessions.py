"""What Gradio keeps of every tab, and of every call of a script: the values in it, and nothing that nobody asks for."""

from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig


class TabConfig(BlocksConfig):
    """The components as one tab has them, without a description of each.

    Gradio 6.31 writes one for all components whenever a session begins (80 ms of the loop that answers everybody, and
    half a megabyte that stays, for each call of a script) and for each that changes. It is for links that open a page
    in somebody's state, and those are closed here (see `space.gate`).
    """

    @staticmethod
    def config_for_block(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}


class PageConfig(BlocksConfig):
    """The components as the page has them: a tab begins with a copy."""

    def __copy__(self) -> BlocksConfig:
        copied: BlocksConfig = super().__copy__()  # type: ignore[no-untyped-call]
        copied.__class__ = TabConfig
        return copied


def keep_sessions_small(page: gr.Blocks) -> None:
    """To be called once the page is built."""
    page.default_config.__class__ = PageConfig
