"""The environment of the tests, set before huggingface_hub is imported, which reads it then."""

import os
import socket
import tempfile


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


# Processes that a test starts have all of this already; those of pytest-xdist each have their own Hub.
PORT = f"ALLOY_TEST_HUB_PORT_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
if PORT not in os.environ:
    os.environ[PORT] = str(free_port())
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{os.environ[PORT]}"
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="alloy-test-hf-")
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.pop("HF_TOKEN", None)
HUB_PORT = int(os.environ[PORT])
