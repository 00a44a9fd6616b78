"""Everything that differs from place to place, read once when the app starts. Functions take it as an argument."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merging.errors import MergeError
from merging.home import home_folder

LIMITS = (
    "memory_bytes", "chat_memory_bytes", "shard_bytes", "models_bytes", "threads", "max_models", "max_jobs_per_owner",
    "queue_length", "idle_seconds", "max_new_tokens", "max_turn_chars", "max_panes", "merge_bytes", "spare_disk_bytes",
    "spare_memory_bytes", "max_jobs_per_visitor", "max_jobs_of_visitors", "keep_days", "max_candidates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the app runs and what it may use. `demo_token` is in memory only, and never shown."""

    home: Path  # the journal, merged models and fetched parents; ours alone (0700)
    hosted: bool = False  # on a Space: visitors are strangers to each other
    demo: bool = False
    demo_token: str = field(default="", repr=False)
    folders: bool = False  # may folders of this machine be given as models
    device: str = "auto"
    zero_gpu: bool = False  # a GPU is lent to each answer; merges stay on the CPU
    memory_bytes: int = 1_000_000_000  # of one merge
    chat_memory_bytes: int = 8_000_000_000  # of all models loaded for chat
    shard_bytes: int = 5_000_000_000
    models_bytes: int = 50_000_000_000  # disk for fetched parents
    threads: int | None = None  # None: all cores
    max_models: int = 8
    max_candidates: int = 32  # of a greedy soup, which reads about half their square in models
    merge_bytes: int = 200_000_000_000  # read for one merge
    spare_disk_bytes: int = 1_000_000_000  # kept free: a job that finds less stops
    spare_memory_bytes: int = 200_000_000
    max_jobs_per_owner: int = 3  # waiting or running
    max_jobs_per_visitor: int = 1  # who has not signed in, by their browser's cookie
    max_jobs_of_visitors: int = 4  # of all who have not signed in
    queue_length: int = 32
    keep_days: int = 7  # on a Space, what has ended goes after so long, with its files
    idle_seconds: int = 600  # a model that nobody asked for so long leaves memory
    max_new_tokens: int = 1024
    max_turn_chars: int = 20_000
    max_panes: int = 4

    @property
    def cores(self) -> int:
        """The threads of a merge: those that were asked for, else one for each core."""
        return self.threads or len(os.sched_getaffinity(0))


def kept_seconds(settings: Settings) -> float | None:
    """How long what has ended is kept; None on one's own machine, where it stays."""
    return settings.keep_days * 86400.0 if settings.hosted else None


def read_settings(environ: Mapping[str, str], *, demo: bool = False) -> Settings:
    """The settings of this machine. Each limit can be set by its name, as in ALLOY_MAX_MODELS=4."""
    hosted = environ.get("SYSTEM") == "spaces"
    home = home_folder(environ)
    if hosted:
        refuse_served(home)
    limits: dict[str, Any] = {"chat_memory_bytes": machine_memory() // 2}
    limits |= {name: whole_number(key, environ[key]) for name in LIMITS if (key := f"ALLOY_{name.upper()}") in environ}
    return Settings(
        home=home,
        hosted=hosted,
        demo=demo,
        folders=not hosted,
        device="cpu" if (zero_gpu := is_zero_gpu(environ)) else environ.get("ALLOY_DEVICE", "auto"),
        zero_gpu=zero_gpu,
        **limits,
    )


def is_zero_gpu(environ: Mapping[str, str]) -> bool:
    return environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def refuse_served(home: Path) -> None:
    """On a Space other people's models lie in `home`: it must not be where Gradio serves files from."""
    for served in (Path.cwd(), Path(tempfile.gettempdir())):
        if home.resolve().is_relative_to(served.resolve()):
            raise MergeError(f"The work folder {home} is inside {served}, which the web server may show to visitors. "
                             "Set ALLOY_HOME to a folder outside of it.")  # fmt: skip


def whole_number(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise MergeError(f"{key} is {text!r}, it must be a whole number above zero.")
    return int(text)


def machine_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its container's where that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        container = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return physical
    return min(physical, int(container)) if container.isdecimal() else physical


def prepare_home(home: Path) -> None:
    """Make the work folder, readable by us alone."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
