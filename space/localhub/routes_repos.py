"""Routes about repos: what they are, their revisions, and making, changing and deleting them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from space.localhub.access import Asker
from space.localhub.errors import AlreadyExists, BadRequest, NotFound
from space.localhub.names import check_repo_id
from space.localhub.paging import one_page
from space.localhub.profile import ALL, FULL, SHORT, Profile, check_facts, describe
from space.localhub.records import Commit, Gated
from space.localhub.services import (
    Decoded,
    ReadableRepo,
    TheAsker,
    TheServices,
    TheStore,
    VisibleRepo,
    WritableRepo,
    base_url,
    no_such_repo,
)

router = APIRouter()


# --- one model, and all of them


@router.get("/api/models/{owner}/{name}")
@router.get("/api/models/{owner}/{name}/revision/{revision}")
def model_info(
    repo: VisibleRepo,
    store: TheStore,
    revision: Decoded = "main",
    blobs: bool = False,
    expand: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
) -> dict[str, Any]:
    check_facts(expand)
    profile = Profile.of(store, repo, revision)
    said = describe(profile, expand or ALL)
    return said | {"siblings": profile.siblings(blobs=True)} if blobs else said


class ListQuery(BaseModel):
    """What a listing can be asked for. Anything else is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")
    search: str = ""
    author: str = ""
    filter: list[str] = []
    gated: bool | None = None
    pipeline_tag: str = ""
    sort: Literal["lastModified", "createdAt", "downloads", "likes", "trendingScore"] = "lastModified"
    direction: int = -1
    limit: int | None = None
    cursor: str = "0"
    full: bool = False
    config: bool = False
    cardData: bool = False
    expand: list[str] = []

    def accepts(self, profile: Profile) -> bool:
        repo = profile.repo
        wanted = {tag for tags in self.filter for tag in tags.split(",") if tag}
        return (
            self.search.lower() in repo.id.lower()
            and self.author in ("", repo.owner)
            and self.gated in (None, repo.gated is not False)
            and self.pipeline_tag in ("", profile.task)
            and (not wanted or wanted <= set(profile.tags))
        )

    def facts(self) -> tuple[str, ...]:
        check_facts(self.expand)
        asked = ("config",) * self.config + ("cardData",) * self.cardData
        return tuple(self.expand) or (FULL if self.full else SHORT) + asked


@router.get("/api/models")
def list_models(
    services: TheServices, asker: TheAsker, request: Request, response: Response, query: Annotated[ListQuery, Query()]
) -> list[dict[str, Any]]:
    """The models the caller may see. Nothing is counted here, so likes and downloads sort as the date does."""
    store = services.store
    profiles = [Profile.of(store, repo) for repo in store.repos() if asker.may_see(repo)]
    found = [profile for profile in profiles if query.accepts(profile)]
    found.sort(
        key=lambda p: p.repo.created if query.sort == "createdAt" else p.commit.date, reverse=query.direction < 0
    )
    page = one_page(request, response, found, services.limits.page_size)
    return [describe(profile, query.facts()) for profile in page]


# --- revisions


@router.get("/api/models/{owner}/{name}/refs")
def refs(repo: VisibleRepo) -> dict[str, Any]:
    def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": sha} for n, sha in names.items()]

    branches, tags = listed("heads", dict(repo.branches)), listed("tags", dict(repo.tags))
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


@router.get("/api/models/{owner}/{name}/commits/{revision}")
def commits(
    repo: VisibleRepo, services: TheServices, request: Request, response: Response, revision: Decoded
) -> list[dict[str, Any]]:
    history = list(services.store.history(repo.id, revision))
    return [commit_entry(commit) for commit in one_page(request, response, history, services.limits.page_size)]


def commit_entry(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "title": commit.title,
        "message": commit.description,
        "authors": [{"user": commit.author, "avatar": ""}],
        "date": commit.date,
    }


class BranchStart(BaseModel):
    startingPoint: str = "main"


class NewTag(BaseModel):
    tag: str
    message: str = ""


@router.post("/api/models/{owner}/{name}/branch/{branch}", status_code=201)
def create_branch(repo: WritableRepo, store: TheStore, branch: Decoded, body: BranchStart) -> dict[str, Any]:
    store.branch(repo.id, branch, body.startingPoint)
    return {}


@router.delete("/api/models/{owner}/{name}/branch/{branch}")
def delete_branch(repo: WritableRepo, store: TheStore, branch: Decoded) -> dict[str, Any]:
    store.delete_branch(repo.id, branch)
    return {}


@router.post("/api/models/{owner}/{name}/tag/{revision}", status_code=201)
def create_tag(repo: WritableRepo, store: TheStore, revision: Decoded, body: NewTag) -> dict[str, Any]:
    store.tag(repo.id, body.tag, revision)
    return {}


@router.delete("/api/models/{owner}/{name}/tag/{tag}")
def delete_tag(repo: WritableRepo, store: TheStore, tag: Decoded) -> dict[str, Any]:
    store.delete_tag(repo.id, tag)
    return {}


# --- making, changing, deleting


class RepoName(BaseModel):
    name: str
    organization: str | None = None
    type: str = "model"

    def id(self, asker: Asker) -> str:
        """The whole id. Without an organisation the repo is the caller's own."""
        if self.type != "model":
            raise BadRequest("This local Hub has models only.")
        return check_repo_id(f"{self.organization or (asker.user.name if asker.user else 'nobody')}/{self.name}")


class NewRepo(RepoName):
    visibility: Literal["public", "private"] = "public"
    private: bool = False


class Settings(BaseModel):
    gated: Gated | None = None
    visibility: Literal["public", "private"] | None = None
    private: bool | None = None


@router.post("/api/repos/create")
def create_repo(store: TheStore, asker: TheAsker, request: Request, body: NewRepo) -> dict[str, Any]:
    repo_id = body.id(asker)
    asker.check_may_write(repo_id.partition("/")[0])
    url = f"{base_url(request)}/{repo_id}"
    try:
        repo = store.create_repo(repo_id, private=body.private or body.visibility == "private")
    except AlreadyExists:
        raise AlreadyExists("You already created this model repo", facts={"url": url}) from None
    return {"url": url, "name": repo.id, "id": repo.id}


@router.delete("/api/repos/delete")
def delete_repo(store: TheStore, asker: TheAsker, body: RepoName) -> dict[str, Any]:
    repo_id = body.id(asker)
    repo = store.find(repo_id)
    if repo is None or not asker.may_see(repo):
        raise no_such_repo(repo_id, asker)
    asker.check_may_write(repo.owner)
    store.delete_repo(repo_id)
    return {}


@router.put("/api/models/{owner}/{name}/settings")
def settings(repo: WritableRepo, store: TheStore, body: Settings) -> dict[str, Any]:
    private = body.visibility == "private" if body.visibility else body.private
    changed = store.settings(repo.id, private=private, gated=body.gated)
    return {"private": changed.private, "gated": changed.gated}


@router.get("/api/models/{owner}/{name}/auth-check")
def auth_check(repo: ReadableRepo) -> dict[str, Any]:
    return {}


@router.get("/api/models/{owner}/{name}/auth-check/write")
def auth_check_write(repo: WritableRepo) -> dict[str, Any]:
    return {}


@router.api_route("/api/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
def unknown(asker: TheAsker, rest: str) -> None:
    """Other kinds of repo, and ids without an owner: no such repo. Any other address: not there."""
    kind, _, repo_id = rest.partition("/")
    if kind in ("models", "datasets", "spaces"):
        raise no_such_repo(repo_id, asker)
    raise NotFound("Sorry, we can't find the page you are looking for.")
