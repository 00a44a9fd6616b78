"""Build the real parts and launch. The one place that reads the environment."""

import argparse
import os
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

from space.settings import Settings, prepare_home, read_settings


def main() -> None:
    asked = arguments()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # only the token of who asks is ever sent
    settings = read_settings(os.environ, demo=asked.demo)
    prepare_home(settings.home)
    with ExitStack() as stack:
        if asked.demo:
            from space.demo.hub import demo_hub

            token = stack.enter_context(demo_hub(settings.home / "demo-hub"))
            settings = replace(settings, demo_token=token)
        serve(settings, asked.host, asked.port)


def serve(settings: Settings, host: str | None, port: int | None) -> None:
    if settings.zero_gpu and find_spec("spaces"):
        import_module("spaces")  # before torch, which it changes
    # Imported here: huggingface_hub and Gradio read the environment when they are imported.
    from space.examples import examples
    from space.pages.launch import launch
    from space.pages.page import build_page
    from space.redact import redact_logs
    from space.service import build_service

    redact_logs()
    service = build_service(settings)
    try:
        launch(build_page(service, settings, examples(settings)), service, host=host, port=port)
    finally:
        service.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Merge fine-tuned language models in a browser.")
    parser.add_argument("--demo", action="store_true", help="serve the demo models from a local Hub on loopback")
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860 or the next free one)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
