"""The few pages a person sees in a browser."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from space.localhub.errors import GatedRepo
from space.localhub.page import list_page, repo_page
from space.localhub.profile import Profile
from space.localhub.routes_files import resolve
from space.localhub.services import Decoded, ShownRepo, TheServices, TheStore, TheVisitor, no_such_repo

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/")
def front(store: TheStore, asker: TheVisitor) -> HTMLResponse:
    return page(list_page([repo for repo in store.repos() if asker.may_see(repo)], "Models"))


@router.get("/{owner}")
def owned(store: TheStore, asker: TheVisitor, owner: str) -> HTMLResponse:
    found = [repo for repo in store.repos() if repo.owner == owner and asker.may_see(repo)]
    if not found:
        raise no_such_repo(owner, asker)
    return page(list_page(found, owner))


@router.get("/{owner}/{name}")
@router.get("/{owner}/{name}/tree/{revision}")
@router.get("/{owner}/{name}/commit/{revision}")
def one_repo(repo: ShownRepo, store: TheStore, asker: TheVisitor, revision: Decoded = "main") -> HTMLResponse:
    profile = Profile.of(store, repo, revision)
    try:
        asker.check_may_read(repo)
        readme = profile.text("README.md")
    except GatedRepo:
        readme = "This repo is gated. Its card is shown to those who have been let in."
    return page(repo_page(repo, profile.commit, readme))


@router.get("/{owner}/{name}/blob/{revision}/{path:path}")
def blob(
    repo: ShownRepo, services: TheServices, asker: TheVisitor, request: Request, revision: Decoded, path: Decoded
) -> Response:
    """A file's content for who looks at the page, which a link to the API could not know."""
    asker.check_may_read(repo)
    return resolve(repo, services, request, revision, path)


@router.api_route("/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
def nothing(asker: TheVisitor, rest: str) -> Any:
    raise no_such_repo(rest, asker)


def page(html: str) -> HTMLResponse:
    """No script runs in these pages, whatever a README or a file name holds."""
    return HTMLResponse(html, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})
