"""What the app does, in words of the app. Every call says who asks. Knows Hub, queue and engine, no page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from merging.compatibility import Check
from merging.hub import Hub
from space.chat import ChatOptions, Reply
from space.jobs import Job, Jobs
from space.settings import Settings
from space.viewer import HubFor, Viewer


class Service:
    def __init__(self, settings: Settings, jobs: Jobs, chats: Any, hub_for: HubFor = Hub) -> None:
        self.settings = settings
        self.jobs_kept = jobs
        self.chats = chats
        self.hub_for = hub_for

    def search(self, text: str, viewer: Viewer) -> list[str]:
        """Repo IDs that match, as one types."""
        raise NotImplementedError

    def check(self, recipe_yaml: str, viewer: Viewer) -> Check:
        raise NotImplementedError

    def merge(self, recipe_yaml: str, viewer: Viewer) -> Job:
        """Check again, refuse what is blocked, pin every model to its commit, queue."""
        raise NotImplementedError

    def job(self, id: str, viewer: Viewer) -> Job:
        raise NotImplementedError

    def jobs(self, viewer: Viewer) -> list[Job]:
        """Newest first."""
        raise NotImplementedError

    def cancel(self, id: str, viewer: Viewer) -> Job:
        raise NotImplementedError

    def again(self, id: str, viewer: Viewer) -> Job:
        """Start a job again that failed, was cancelled or interrupted."""
        raise NotImplementedError

    def log(self, id: str, viewer: Viewer) -> list[str]:
        raise NotImplementedError

    def forget(self, id: str, viewer: Viewer) -> None:
        raise NotImplementedError

    def default_name(self, job: Job) -> str:
        raise NotImplementedError

    def owners(self, viewer: Viewer) -> list[str]:
        """The accounts that this viewer may publish under: their own, then their organisations."""
        raise NotImplementedError

    def card(self, job_id: str, viewer: Viewer, *, repo_id: str = "", license: str = "") -> str:
        raise NotImplementedError

    def publish(self, job_id: str, viewer: Viewer, *, repo_id: str, private: bool, card: str, license: str = "") -> Job:
        raise NotImplementedError

    def download(self, job_id: str, viewer: Viewer) -> Path:
        raise NotImplementedError

    def panes(self, job_id: str, viewer: Viewer) -> list[tuple[str, str]]:
        """(label, reference) of what can be chatted with: the merge first, then the base and every parent."""
        raise NotImplementedError

    def chat(
        self, job_id: str, labels: list[str], messages: list[dict[str, Any]], options: ChatOptions, viewer: Viewer
    ) -> Iterator[list[Reply]]:
        """Every pane's answer so far, again and again until all are done. Leaving the loop stops the generation."""
        raise NotImplementedError

    def release(self) -> None:
        """Let loaded models leave memory."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def build_service(settings: Settings, *, hub_for: HubFor = Hub) -> Service:
    """The real parts, put together. Call `close()` at the end."""
    raise NotImplementedError
