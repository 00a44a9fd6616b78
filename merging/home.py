"""The folder of Alloy's own, for what it keeps between two runs."""

import os
from collections.abc import Mapping
from pathlib import Path


def home_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Outside the current and the temporary folder by default, because Gradio serves files from those."""
    if given := environ.get("ALLOY_HOME"):
        return Path(given).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "alloy"
