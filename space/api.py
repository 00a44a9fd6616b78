"""The app's actions as named, typed endpoints for scripts and agents: the Gradio API, which is also served over MCP.

Each docstring is what an agent reads before it calls, so it says what comes in, what comes out and what to call next.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api as endpoint  # gr.api, by the name that is typed

from merging.compatibility import Check
from space.chat import ChatOptions
from space.jobs import Job
from space.pages.desk import told
from space.service import Service
from space.settings import Settings
from space.viewer import Viewer, viewer_of

Token = gr.OAuthToken | None  # the caller's sign-in on a Space; never a parameter of the API
Json = dict[str, Any]


def add_api(service: Service, settings: Settings) -> None:
    """Register the endpoints; called inside the page's `gr.Blocks`."""
    api = Api(service, settings)
    quick: list[Callable[..., Any]] = [api.merge, api.job, api.cancel, api.publish]
    for action in quick:
        endpoint(action, api_name=action.__name__, concurrency_limit=None)
    endpoint(api.check, api_name="check", concurrency_limit=4)
    endpoint(api.chat, api_name="chat", concurrency_limit=16)  # they wait for the model in a line of their own


class Api:
    """One method for each endpoint. All are authorised by who calls: a job of somebody else does not exist."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.settings = settings

    def viewer(self, request: gr.Request, token: Token) -> Viewer:
        return viewer_of(self.settings, request, token, hub_for=self.service.hub_for)

    def check(self, recipe: str, request: gr.Request, token: Token) -> Json:
        """Say whether models can be merged and what it would cost, without downloading them.

        Args:
            recipe: The merge recipe as YAML in mergekit's language: merge_method, base_model, models or slices with
                parameters.

        Returns:
            verdict (ok, warn or block), findings with reason and remedy, seconds and bytes that the merge would take.
        """
        with told():
            return check_json(self.service.check(recipe, self.viewer(request, token)))

    def merge(self, recipe: str, request: gr.Request, token: Token) -> Json:
        """Start a merge in the background. It is checked first, and refused when a finding blocks. Poll with job.

        Args:
            recipe: The merge recipe as YAML, as for check.

        Returns:
            The job: id, state and place in the queue.
        """
        with told():
            return job_json(self.service.merge(recipe, self.viewer(request, token)))

    def job(self, job_id: str, request: gr.Request, token: Token) -> Json:
        """Say how far a merge or publication of yours is.

        Args:
            job_id: The id that merge or publish gave.

        Returns:
            state (queued, running, waiting, done, failed, cancelled or interrupted), bytes done and in all, seconds
            left, error, result (the url of a publication) and log.
        """
        with told():
            viewer = self.viewer(request, token)
            found = self.service.job(job_id, viewer)
            return job_json(found) | {"log": self.service.log(job_id, viewer)}

    def cancel(self, job_id: str, request: gr.Request, token: Token) -> Json:
        """Stop a job of yours. Nothing half-made is left. A job that has ended stays as it is.

        Args:
            job_id: The id that merge or publish gave.

        Returns:
            The job. A running one stops within a moment; ask again with job.
        """
        with told():
            return job_json(self.service.cancel(job_id, self.viewer(request, token)))

    def chat(  # noqa: PLR0913  each is a parameter of the endpoint
        self,
        job_id: str,
        prompt: str,
        request: gr.Request,
        token: Token,
        models: list[str] | None = None,
        system: str = "",
        temperature: float = 0.0,
        max_new_tokens: int = 256,
        seed: int = 0,
    ) -> Iterator[list[Json]]:
        """Ask a finished merge of yours and its parents the same question, side by side.

        Args:
            job_id: The id of a merge that is done.
            prompt: What to ask.
            models: Who answers: Merge for the merge, and repo IDs of its recipe. Without it, only the merge.
            system: The system prompt.
            temperature: 0 takes the likeliest token each time; higher is freer.
            max_new_tokens: Where answers are cut.
            seed: The same seed gives the same answers.

        Returns:
            One reply for each model, streamed: label, text, tokens, tokens_per_second, done, note, error.
        """
        with told():
            viewer = self.viewer(request, token)
            options = ChatOptions(temperature, max_new_tokens, seed, system)
            labels = models or [self.service.panes(job_id, viewer)[0].label]
            asked = [[{"role": "user", "content": prompt}]] * len(labels)
            for replies in self.service.chat(job_id, labels, asked, options, viewer):
                yield [asdict(reply) for reply in replies]

    def publish(
        self,
        job_id: str,
        repo_id: str,
        request: gr.Request,
        token: Token,
        private: bool = True,
        license: str = "",
        card: str = "",
    ) -> Json:
        """Publish a finished merge of yours as a new model repo on the Hub. A repo that exists is refused.

        Args:
            job_id: The id of a merge that is done.
            repo_id: The name of the new repo, as in owner/name; the owner is you or an organisation you may write to.
            private: Whether only you and those you let in can see it.
            license: The license as the Hub writes it, such as apache-2.0. Without it, that of the parents.
            card: The model card as Markdown. Without it, one is generated.

        Returns:
            The job: poll it with job, its result has the url.
        """
        with told():
            viewer = self.viewer(request, token)
            text = card or self.service.card(job_id, viewer, repo_id=repo_id, license=license)
            return job_json(
                self.service.publish(job_id, viewer, repo_id=repo_id, private=private, card=text, license=license)
            )


def check_json(found: Check) -> Json:
    levels = {one.level for one in found.findings}
    plan = found.plan
    return {
        "verdict": next((level for level in ("block", "warn") if level in levels), "ok"),
        "findings": [asdict(one) for one in found.findings],
        "seconds": found.seconds,
        "read_bytes": plan.read_bytes if plan else None,
        "write_bytes": plan.write_bytes if plan else None,
        "peak_memory_bytes": plan.peak_memory_bytes if plan else None,
        "revisions": dict(found.revisions),
    }


def job_json(job: Job) -> Json:
    """A job without its owner's key and without where its files lie on the server."""
    shown = {name: value for name, value in asdict(job).items() if name not in ("owner", "payload", "result")}
    result = {name: value for name, value in job.result.items() if name != "folder"}
    return shown | {"recipe": job.payload.get("recipe"), "result": result}
