"""The Hub of the demo: a local one on loopback, with the demo models and one signed-in user."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from space.localhub import LocalHub

MODELS = Path(__file__).with_name("models")
USER = "ada"
PORT = 7870  # the same one each time where it is free, so that links from earlier stay good


@contextmanager
def demo_hub(root: Path) -> Iterator[str]:
    """Serve the demo models from `root`, point every Hub client at it, and yield the demo user's token.

    To be entered before anything imports huggingface_hub, which reads its endpoint when it is imported.
    """
    token = f"hf_{secrets.token_hex(16)}"
    hub = start(root)
    try:
        os.environ["HF_ENDPOINT"] = hub.url
        os.environ["HF_HUB_DISABLE_XET"] = "1"  # the local Hub speaks plain HTTP only
        hub.store.add_user(USER, token=token, fullname="Ada", orgs=("acme",), role="write")
        hub.store.import_folder(MODELS)
        yield token
    finally:
        hub.stop()


def start(root: Path) -> LocalHub:
    try:
        return LocalHub(root, PORT, browser_user=USER).start()
    except OSError:  # something else has the port
        return LocalHub(root, browser_user=USER).start()
