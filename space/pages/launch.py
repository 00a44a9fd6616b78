"""How the page is served: what Gradio may show, keep and listen to."""

import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from evaluation.loading import import_early
from space import download
from space.gate import Gate
from space.pages.theme import CSS, sentences, theme
from space.priority import switch_often
from space.service import Service

SCRIPT = Path(__file__).with_name("access.js")
HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">'
MAX_EVENTS = 256  # clicks and polls that wait for their turn; the line of jobs has a limit of its own
MAX_THREADS = 64


def launch(
    page: gr.Blocks, service: Service, *, host: str | None = None, port: int | None = None, wait: bool = True
) -> str:
    """Serve the page; returns its address when `wait` is False, else when it is stopped."""
    settings = service.settings
    switch_often()
    page.queue(max_size=MAX_EVENTS, default_concurrency_limit=8)
    _, local, _ = page.launch(
        server_name=host or ("0.0.0.0" if settings.hosted else "127.0.0.1"),
        server_port=port,
        theme=theme(),
        css_paths=CSS,
        css=sentences(),
        head=f"{HEAD}<script>{SCRIPT.read_text(encoding='utf-8')}</script>",
        mcp_server=True,
        run_history=False,  # it would keep every input in the browser
        enable_monitoring=False,
        ssr_mode=False,
        show_error=False,  # errors meant for people are raised as gr.Error
        footer_links=["api"],
        blocked_paths=[str(settings.home)],
        max_file_size="1mb",
        max_threads=MAX_THREADS,
        strict_cors=True,
        app_kwargs={
            "middleware": [Middleware(Gate)],
            "routes": download.routes(service),
            "docs_url": None,
            "redoc_url": None,
        },
        prevent_thread_lock=True,
        quiet=not wait,
    )
    # Not before: Gradio gives its server three seconds to answer, and imports hardly let it.
    threading.Thread(target=import_early, name="imports", daemon=True).start()
    if wait:
        page.block_thread()
    return str(local).rstrip("/")
