"""The app's actions as named, typed endpoints for scripts and agents (Gradio API and MCP)."""

from space.service import Service
from space.settings import Settings


def add_api(service: Service, settings: Settings) -> None:
    """Register the endpoints; called inside the page's `gr.Blocks`."""
