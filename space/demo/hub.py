"""The Hub of the demo: a local one on loopback, with the demo models and one signed-in user."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODELS = Path(__file__).with_name("models")


@contextmanager
def demo_hub(root: Path) -> Iterator[str]:
    """Serve the demo models from `root`, point every Hub client at it, and yield the demo user's token.

    To be entered before anything imports huggingface_hub, which reads its endpoint when it is imported.
    """
    from space.localhub import LocalHub

    token = f"hf_{secrets.token_hex(16)}"
    with LocalHub(root) as hub:
        os.environ["HF_ENDPOINT"] = hub.url
        os.environ["HF_HUB_DISABLE_XET"] = "1"  # the local Hub speaks plain HTTP only
        hub.store.add_user("ada", token=token, fullname="Ada", orgs=("acme",), role="write")
        hub.store.import_folder(MODELS)
        yield token
