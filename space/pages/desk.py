"""What every listener needs: the service, who asks, and what the stages share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space.jobs import Job
from space.service import Service
from space.settings import Settings
from space.viewer import Viewer, viewer_of

Token = gr.OAuthToken | None

# Listeners that only look, so none waits for another. They go through the queue all the same: only there does Gradio
# notice that a State has changed. Private is not protected: the service authorises every call.
QUICK: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
QUEUED: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# What follows every key that is typed, and every move of a slider: at once, and of those that wait the last.
TYPED: dict[str, Any] = {
    "queue": False, "show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private",
}  # fmt: skip


@contextmanager
def told() -> Iterator[None]:
    """What the caller can put right is told as it is; Gradio hides the text of every other error."""
    try:
        yield
    except MergeError as e:
        raise gr.Error(str(e), print_exception=False) from None


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a listener finds the service, and learns who asks."""

    service: Service
    settings: Settings

    def viewer(self, request: gr.Request, token: Token) -> Viewer:
        return viewer_of(self.settings, request, token, hub_for=self.service.hub_for)

    def find(self, job_id: str, viewer: Viewer) -> Job | None:
        """The viewer's job, or None when it was removed meanwhile or is somebody else's."""
        try:
            return self.service.job(job_id, viewer) if job_id else None
        except MergeError:
            return None


@dataclass(frozen=True, slots=True)
class Shared:
    """What one stage tells another, in one browser tab. Ids only: the things themselves stay on the server."""

    tabs: gr.Tabs
    notice: gr.HTML  # what concerns the whole page: a sign-in that has ended
    timer: gr.Timer
    checked: gr.State  # the recipe text of the last check
    job: gr.State  # id of the merge that is shown
    publication: gr.State  # id of the publication that is shown
    finished: gr.State  # id of the shown merge once it is done
    states: gr.State  # states of all my jobs, to notice a change
    inspection: gr.State  # id of the look at weights that is shown
    looks: gr.State  # states of my looks at weights, to notice a change
