"""Routes by which content arrives: the question how, LFS in one piece or in parts, and the commit."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from space.localhub.errors import BadRequest, ContentMismatch
from space.localhub.names import SHA256, check_path
from space.localhub.objects import BLOCK, Incoming, Objects, is_lfs
from space.localhub.records import FileInfo
from space.localhub.services import Decoded, Services, TheAsker, TheServices, TheStore, WritableRepo, base_url
from space.localhub.store import Store

router = APIRouter()


# --- how to send each file


class Announced(BaseModel):
    path: str
    size: int = Field(ge=0)


class Announcement(BaseModel):
    files: list[Announced]


@router.post("/api/models/{owner}/{name}/preupload/{revision}")
def preupload(
    repo: WritableRepo, store: TheStore, request: Request, revision: Decoded, body: Announcement
) -> dict[str, Any]:
    """For each file: whether it goes by LFS, and what is there now, so that the client can leave it out."""
    refuse_pull_requests(request)
    held = store.files(repo.id, revision)
    return {"files": [upload_mode(file, held.get(file.path)) for file in body.files]}


def upload_mode(file: Announced, held: FileInfo | None) -> dict[str, Any]:
    mode = "lfs" if is_lfs(check_path(file.path), file.size) else "regular"
    return {"path": file.path, "uploadMode": mode, "shouldIgnore": False, **({"oid": held.etag} if held else {})}


def refuse_pull_requests(request: Request) -> None:
    """Better than committing to the branch itself, which is not what was asked."""
    if request.query_params.get("create_pr"):
        raise BadRequest("This local Hub has no pull requests.")


# --- LFS


class LfsObject(BaseModel):
    oid: str = Field(pattern=f"^{SHA256.pattern}$")
    size: int = Field(gt=0)


class LfsBatch(BaseModel):
    operation: Literal["upload"]
    objects: list[LfsObject]
    transfers: list[str] = ["basic"]


class Part(BaseModel):
    partNumber: int
    etag: str


class Completion(BaseModel):
    oid: str
    parts: list[Part]


@router.post("/{owner}/{name}.git/info/lfs/objects/batch")
def lfs_batch(repo: WritableRepo, services: TheServices, request: Request, body: LfsBatch) -> dict[str, Any]:
    """Where to send each content, or nothing for those that have arrived before."""
    objects = services.store.objects(repo.id)
    multipart = "multipart" in body.transfers
    answers = []
    for item in body.objects:
        answer: dict[str, Any] = {"oid": item.oid, "size": item.size}
        if not objects.has(item.oid, item.size):
            upload = upload_action(services, base_url(request), repo.id, item, multipart=multipart)
            verify = {"href": f"{base_url(request)}/{repo.id}.git/info/lfs/objects/verify"}
            answer |= {"authenticated": True, "actions": {"upload": upload, "verify": verify}}
        answers.append(answer)
    return {"transfer": "multipart" if multipart else "basic", "objects": answers}


def upload_action(services: Services, base: str, repo_id: str, item: LfsObject, *, multipart: bool) -> dict[str, Any]:
    """One link, or for a large content one link for each part and one to say that all are there."""
    path, part_size = f"/lfs/{repo_id}/{item.oid}", services.limits.part_size
    sign = services.signer.sign
    if not multipart or item.size <= part_size:
        return {"href": base + sign(path, size=item.size)}
    numbers = range(1, ceil(item.size / part_size) + 1)
    parts = {str(n): base + sign(f"{path}/{n}", size=part_size) for n in numbers}
    return {
        "href": base + sign(f"{path}/complete", size=item.size),
        "header": {"chunk_size": str(part_size), **parts},
    }


async def receive(request: Request, incoming: Incoming) -> None:
    """Write the body to disk as it comes, a block at a time and off the event loop."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= BLOCK:
            await run_in_threadpool(incoming.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(incoming.write, bytes(waiting))


def signed_upload(services: Services, request: Request, repo_id: str) -> tuple[Objects, int]:
    """What a signed link lets its holder write to, and how much."""
    services.signer.check(request.url.path, request.query_params)
    return services.store.objects(repo_id), int(request.query_params["size"])


@router.put("/lfs/{owner}/{name}/{oid}")
async def put_whole(services: TheServices, request: Request, owner: str, name: str, oid: str) -> Response:
    objects, size = signed_upload(services, request, f"{owner}/{name}")
    with objects.incoming(limit=size) as incoming:
        await receive(request, incoming)
        await run_in_threadpool(objects.keep, incoming, oid, size)
    return Response(headers={"ETag": f'"{oid}"'})


@router.put("/lfs/{owner}/{name}/{oid}/{number}")
async def put_part(services: TheServices, request: Request, owner: str, name: str, oid: str, number: int) -> Response:
    objects, size = signed_upload(services, request, f"{owner}/{name}")
    with objects.incoming(limit=size) as incoming:
        await receive(request, incoming)
        etag = await run_in_threadpool(objects.keep_part, incoming, oid, number)
    return Response(headers={"ETag": f'"{etag}"'})


@router.post("/lfs/{owner}/{name}/{oid}/complete")
def complete(
    services: TheServices, request: Request, owner: str, name: str, oid: str, body: Completion
) -> dict[str, Any]:
    objects, size = signed_upload(services, request, f"{owner}/{name}")
    parts = sorted(body.parts, key=lambda part: part.partNumber)
    if [part.partNumber for part in parts] != list(range(1, len(parts) + 1)):
        raise BadRequest("The parts must be numbered from 1 without a gap.")
    objects.join_parts(oid, size, [part.etag for part in parts])
    return {"success": True}


@router.post("/{owner}/{name}.git/info/lfs/objects/verify")
def verify(repo: WritableRepo, store: TheStore, body: LfsObject) -> dict[str, Any]:
    if not store.objects(repo.id).has(body.oid, body.size):
        raise ContentMismatch(f"The object {body.oid} of {body.size} bytes has not arrived.")
    return {"oid": body.oid, "size": body.size}


# --- the commit


@dataclass(slots=True)
class Change:
    """A commit's lines, read one by one."""

    objects: Objects
    header: dict[str, Any] = field(default_factory=dict)
    added: dict[str, FileInfo] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)

    def read(self, line: bytes) -> None:
        item = json.loads(line)
        value, path = item["value"], item["value"].get("path", "")
        match item["key"]:
            case "header":
                self.header = value
            case "file":
                self.added[check_path(path)] = self.objects.put(decoded(value), lfs=False)
            case "lfsFile":
                self.added[check_path(path)] = self.arrived(value)
            case "deletedFile":
                self.deleted.append(check_path(path))
            case "deletedFolder":
                self.deleted.append(check_path(path.rstrip("/")) + "/")
            case key:
                raise BadRequest(f"A commit cannot hold {key!r}.")

    def arrived(self, value: Mapping[str, Any]) -> FileInfo:
        oid = value["oid"]
        info = self.objects.info(oid) if SHA256.fullmatch(oid) else None
        if info is None or value.get("size", info.size) != info.size:
            raise BadRequest(f"LFS pointer pointed to a file that does not exist: {oid}")
        return info


def decoded(value: Mapping[str, Any]) -> bytes:
    text: str = value["content"]
    return base64.b64decode(text, validate=True) if value.get("encoding") == "base64" else text.encode()


def read_change(path: Path, objects: Objects) -> Change:
    """Read a commit's body, or say that it is none."""
    change = Change(objects)
    try:
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    change.read(line)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not a commit: {error!r}") from None
    if not change.header.get("summary"):
        raise BadRequest("A commit needs a header with a summary.")
    return change


@router.post("/api/models/{owner}/{name}/commit/{revision}")
async def commit(
    repo: WritableRepo, store: TheStore, asker: TheAsker, request: Request, revision: Decoded
) -> dict[str, Any]:
    refuse_pull_requests(request)
    author = asker.user.name if asker.user else ""
    with store.objects(repo.id).incoming() as body:
        await receive(request, body)
        body.file.flush()
        sha = await run_in_threadpool(make_commit, store, repo.id, body.path, author, revision)
    url = f"{base_url(request)}/{repo.id}/commit/{sha}"
    return {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""}


def make_commit(store: Store, repo_id: str, body: Path, author: str, branch: str) -> str:
    change = read_change(body, store.objects(repo_id))
    return store.record(
        repo_id,
        change.added,
        delete=change.deleted,
        title=printable(change.header["summary"]),
        description=printable(change.header.get("description") or ""),
        author=author,
        branch=branch,
        parent=printable(change.header["parentCommit"]) if change.header.get("parentCommit") else None,
    )


def printable(value: object) -> str:
    """Text that can be sent back: JSON may hold half a character."""
    return str(value).encode("utf-8", "replace").decode()
