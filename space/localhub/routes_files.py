"""Routes to a repo's files: the tree, facts about paths, and the contents."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from space.localhub.errors import EntryNotFound
from space.localhub.objects import pointer
from space.localhub.paging import one_page
from space.localhub.ranges import send_file
from space.localhub.records import Commit, FileInfo
from space.localhub.services import Decoded, ReadableRepo, Services, TheServices, TheStore, VisibleRepo, base_url
from space.localhub.store import Store

router = APIRouter()
EXPANDED_PAGE = 50


@router.get("/api/models/{owner}/{name}/tree/{revision}")
@router.get("/api/models/{owner}/{name}/tree/{revision}/{path:path}")
def tree(
    repo: VisibleRepo,
    services: TheServices,
    request: Request,
    response: Response,
    revision: Decoded,
    path: Decoded = "",
    recursive: bool = False,
    expand: bool = False,
) -> list[dict[str, Any]]:
    commit = services.store.revision(repo.id, revision)
    entries = entries_below(commit.files, path.strip("/"), recursive=recursive)
    if not entries and path.strip("/"):
        raise EntryNotFound(f"{path} does not exist on {revision!r}", headers={"X-Repo-Commit": commit.sha})
    most = EXPANDED_PAGE if expand else services.limits.page_size
    page = one_page(request, response, entries, most)
    return add_last_commits(page, services.store, repo.id, commit) if expand else list(page)


@router.post("/api/models/{owner}/{name}/paths-info/{revision}")
def paths_info(
    repo: VisibleRepo,
    store: TheStore,
    revision: Decoded,
    paths: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    expand: Annotated[bool, Form()] = False,
) -> list[dict[str, Any]]:
    """What is known of some paths. Those that are not there are left out."""
    commit = store.revision(repo.id, revision)
    known = {entry["path"]: entry for entry in entries_below(commit.files, "", recursive=True)}
    found = [known[path.strip("/")] for path in paths if path.strip("/") in known]
    return add_last_commits(found, store, repo.id, commit) if expand else found


def entries_below(files: Mapping[str, FileInfo], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders in a folder, by name. git has no empty folders, so a folder is known by its files."""
    prefix = folder + "/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, info in files.items():
        if path.startswith(prefix):
            parts = path.removeprefix(prefix).split("/")
            depth = len(parts) if recursive else 1
            for n in range(1, min(depth, len(parts) - 1) + 1):
                name = prefix + "/".join(parts[:n])
                entries[name] = entries.get(name) or folder_entry(files, name)
            if recursive or len(parts) == 1:
                entries[path] = file_entry(path, info)
    return [entries[path] for path in sorted(entries)]


def file_entry(path: str, info: FileInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": info.size, "oid": info.oid}
    if info.lfs:
        entry["lfs"] = {"oid": info.sha256, "size": info.size, "pointerSize": len(pointer(info.sha256, info.size))}
    return entry


def folder_entry(files: Mapping[str, FileInfo], path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": folder_oid(files, path)}


def folder_oid(files: Mapping[str, FileInfo], folder: str) -> str:
    """A name for what a folder holds. It is not git's, but changes when git's would."""
    held = [f"{path} {info.oid}" for path, info in files.items() if path.startswith(folder + "/")]
    return hashlib.sha1("\n".join(sorted(held)).encode(), usedforsecurity=False).hexdigest()


def add_last_commits(
    entries: Iterable[dict[str, Any]], store: Store, repo_id: str, commit: Commit
) -> list[dict[str, Any]]:
    """Say of each entry which commit made it what it is."""
    history = list(store.history(repo_id, commit.sha))
    return [{**entry, "lastCommit": last_commit(history, entry["path"])} for entry in entries]


def last_commit(history: list[Commit], path: str) -> dict[str, str]:
    def held(commit: Commit) -> str:
        info = commit.files.get(path)
        return info.oid if info else folder_oid(commit.files, path)

    last = history[0]
    for older in history[1:]:
        if held(older) != held(last):
            break
        last = older
    return {"id": last.sha, "title": last.title, "date": last.date}


@router.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
@router.api_route("/api/models/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
@router.api_route("/datasets/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve(repo: ReadableRepo, services: TheServices, request: Request, revision: Decoded, path: Decoded) -> Response:
    """A file's content: a small one at once, a large one by a signed link. Data sets are repos like the others here."""
    commit = services.store.revision(repo.id, revision)
    said = {"X-Repo-Commit": commit.sha}
    info = commit.files.get(path)
    if info is None:
        raise EntryNotFound("Entry not found", headers=said)
    said["ETag"] = f'"{info.etag}"'
    name = path.rpartition("/")[2]
    if not info.lfs:
        # Never as HTML: a repo's file must not run in the Hub's own pages.
        content = services.store.objects(repo.id).path(info.sha256)
        return send_file(request, content, said | file_name(name), "text/plain; charset=utf-8")
    said |= {"X-Linked-ETag": f'"{info.sha256}"', "X-Linked-Size": str(info.size)}
    link = services.signer.sign(f"/cdn/{repo.id}/{info.sha256}", commit=commit.sha, name=name)
    return RedirectResponse(cdn_base(services, request) + link, 302, said)


def cdn_base(services: Services, request: Request) -> str:
    if not services.cdn_host:
        return base_url(request)
    return str(request.base_url.replace(hostname=services.cdn_host)).rstrip("/")


@router.api_route("/cdn/{owner}/{name}/{sha256}", methods=["GET", "HEAD"])
def content(services: TheServices, request: Request, owner: str, name: str, sha256: str) -> Response:
    """A large file's content. The link itself is the permission, so no token is looked at."""
    services.signer.check(request.url.path, request.query_params)
    path = services.store.objects(f"{owner}/{name}").path(sha256)
    if not path.is_file():
        raise EntryNotFound("Entry not found")
    said = {"ETag": f'"{sha256}"', "X-Repo-Commit": request.query_params["commit"]}
    said |= file_name(request.query_params["name"])
    return send_file(request, path, said, "application/octet-stream")


def file_name(name: str) -> dict[str, str]:
    """Under which name a browser saves the file."""
    return {"Content-Disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}"}
