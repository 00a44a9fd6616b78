"""What a route can ask for: the store, the caller, and a repo that the caller may see, read or change."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Request
from pydantic import AfterValidator

from space.localhub.access import Asker
from space.localhub.errors import RepoNotFound
from space.localhub.links import Signer
from space.localhub.records import Repo
from space.localhub.sign_in import SignIn
from space.localhub.store import Store

LOOPBACK_NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that a test sets lower: of an upload's part, and of a page of a listing."""

    part_size: int = 64 << 20
    page_size: int = 1000


@dataclass(frozen=True, slots=True)
class Services:
    """All that the routes share. `cdn_host` sends large files through a link with another host name.

    `browser_user` is who sees the pages in a browser on this machine; the API knows people by their tokens alone.
    """

    store: Store
    signer: Signer
    limits: Limits
    sign_in: SignIn
    cdn_host: str = ""
    browser_user: str = ""


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


TheServices = Annotated[Services, Depends(services_of)]


def the_store(services: TheServices) -> Store:
    return services.store


TheStore = Annotated[Store, Depends(the_store)]


def asker_of(request: Request, store: TheStore) -> Asker:
    return store.accounts.asker(request.headers.get("authorization"))


TheAsker = Annotated[Asker, Depends(asker_of)]


def visitor_of(request: Request, services: TheServices, asker: TheAsker) -> Asker:
    """Who looks at a page: who a header names, else the user of the browser on this machine.

    An address by any other name may be a stranger's, made to lead here.
    """
    user = services.store.accounts.users.get(services.browser_user)
    return Asker(user) if user and asker.user is None and request.url.hostname in LOOPBACK_NAMES else asker


TheVisitor = Annotated[Asker, Depends(visitor_of)]


def no_such_repo(repo_id: str, asker: Asker) -> RepoNotFound:
    """One and the same answer for a repo that is not there and for one that is not for the caller to know."""
    if asker.user is None:
        return RepoNotFound("Invalid username or password.", status=401)
    return RepoNotFound(f"Repository not found: {repo_id}")


def visible(owner: str, name: str, store: TheStore, asker: TheAsker) -> Repo:
    repo = store.find(f"{owner}/{name}")
    if repo is None or not asker.may_see(repo):
        raise no_such_repo(f"{owner}/{name}", asker)
    return repo


VisibleRepo = Annotated[Repo, Depends(visible)]


def shown(owner: str, name: str, store: TheStore, visitor: TheVisitor) -> Repo:
    return visible(owner, name, store, visitor)


ShownRepo = Annotated[Repo, Depends(shown)]


def readable(repo: VisibleRepo, asker: TheAsker) -> Repo:
    asker.check_may_read(repo)
    return repo


def writable(repo: VisibleRepo, asker: TheAsker) -> Repo:
    asker.check_may_write(repo.owner)
    return repo


ReadableRepo = Annotated[Repo, Depends(readable)]
WritableRepo = Annotated[Repo, Depends(writable)]

# Paths reach the router still encoded, so that a `/` inside a branch name does not end the segment.
Decoded = Annotated[str, AfterValidator(unquote)]


def base_url(request: Request) -> str:
    """The address the caller used, so that links we give work through a proxy too."""
    return str(request.base_url).rstrip("/")
