"""The files of a finished merge or inspection, for its owner, by routes of our own: Gradio serves nothing of the work
folder.

They are sent as they lie, in ranges where one asks for these, so that a download that broke off goes on where it was.
"""

from pathlib import Path
from urllib.parse import quote

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from merging.errors import MergeError
from merging.figures import changes_name
from space.service import Service
from space.sign_in import INFO
from space.viewer import Viewer, viewer_of

PLACE, CHANGES = "download", "changes"
HEADERS = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}


class Shipment(FileResponse):
    chunk_size = 1 << 20


def address(job_id: str, file: str) -> str:
    """Where a file of a merge is found, seen from the page."""
    return f"{PLACE}/{job_id}/{quote(file)}"


def changes_address(job_id: str, tensor: str, kind: str) -> str:
    """Where the histogram of a tensor is found, which is made when it is asked for."""
    return f"{CHANGES}/{job_id}/{kind}/{quote(tensor, safe='')}"


def routes(service: Service) -> list[Route]:
    """For the web server: answers who asks for a file of theirs, and everybody else as if there were no such job."""

    async def answer(request: Request) -> Response:
        try:
            path = await run_in_threadpool(find, service, request)
        except MergeError as e:
            return PlainTextResponse(str(e), 404, HEADERS)
        return Shipment(path, filename=path.name, media_type="application/octet-stream", headers=HEADERS)

    async def answer_changes(request: Request) -> Response:
        try:
            content, name = await run_in_threadpool(make_changes, service, request)
        except MergeError as e:
            return PlainTextResponse(str(e), 404, HEADERS)
        headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    return [
        Route(f"/{PLACE}/{{job_id}}/{{file:path}}", answer),
        Route(f"/{CHANGES}/{{job_id}}/{{kind}}/{{tensor:path}}", answer_changes),
    ]


def make_changes(service: Service, request: Request) -> tuple[bytes, str]:
    """The histogram of a tensor as a file, and its name."""
    asked, viewer = request.path_params, viewer_in(service, request)
    content = service.inspections.changes(asked["job_id"], asked["tensor"], asked["kind"], viewer)
    return content, f"{changes_name(asked['tensor'])}.{asked['kind']}"


def viewer_in(service: Service, request: Request) -> Viewer:
    return viewer_of(service.settings, gr.Request(request), token_of(request), hub_for=service.hub_for)


def find(service: Service, request: Request) -> Path:
    """The file that is asked for, by its name in the list of files that there are, never by a path."""
    viewer = viewer_in(service, request)
    file, found = request.path_params["file"], service.files(request.path_params["job_id"], viewer)
    if file not in found:
        raise MergeError(f"This job has no file {file!r}.")
    return found[file]


def token_of(request: Request) -> gr.OAuthToken | None:
    """The sign-in of the browser's session; a script sends its token in a header."""
    if info := (request.scope.get("session") or {}).get(INFO):
        return gr.OAuthToken(token=info["access_token"], scope=info["scope"], expires_at=info["expires_at"])
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return gr.OAuthToken(token=token, scope="", expires_at=0) if scheme.lower() == "bearer" and token else None
