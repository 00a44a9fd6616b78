"""Content that arrives: by LFS in one piece and in parts, checked, and committed whole or not at all."""

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RemoteEntryNotFoundError

from space.localhub import Limits, LocalHub
from tests.hub_fixture import ADA_TOKEN


@pytest.fixture(scope="module")
def small_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A Hub that wants a small file in several parts."""
    with LocalHub(tmp_path_factory.mktemp("parts"), limits=Limits(part_size=1000)) as hub:
        hub.store.add_user("ada", token=ADA_TOKEN)
        yield hub


def lfs_links(client: httpx2.Client, repo_id: str, content: bytes, size: int | None = None) -> dict[str, dict]:  # type: ignore[type-arg]
    """What the batch answers for a content: the actions, none if it is there already."""
    item = {"oid": hashlib.sha256(content).hexdigest(), "size": size or len(content)}
    body = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [item]}
    [answer] = client.post(f"/{repo_id}.git/info/lfs/objects/batch", json=body).json()["objects"]
    return answer.get("actions", {})  # type: ignore[no-any-return]


def stray_files(hub: LocalHub, repo_id: str) -> list[Path]:
    folder = hub.store.folder(repo_id)
    return [path for name in ("incoming", "parts") for path in (folder / name).rglob("*") if path.is_file()]


def test_a_large_file_arrives_in_parts(small_parts: LocalHub) -> None:
    hub, api = small_parts, HfApi(endpoint=small_parts.url, token=ADA_TOKEN)
    content = bytes(range(256)) * 21  # 5376 bytes: six parts, the last one short
    api.create_repo("ada/parts")
    hub.requests.clear()
    api.upload_file(path_or_fileobj=content, path_in_repo="model.safetensors", repo_id="ada/parts")
    assert sum(seen.method == "PUT" for seen in hub.requests) == 6
    assert sum(seen.path.endswith("/complete") for seen in hub.requests) == 1
    assert hub.store.read("ada/parts", "model.safetensors").read_bytes() == content
    assert stray_files(hub, "ada/parts") == []


def test_parts_that_do_not_make_the_file_are_thrown_away(small_parts: LocalHub) -> None:
    hub = small_parts
    hub.store.create_repo("ada/broken")
    content = b"x" * 2500
    with httpx2.Client(base_url=hub.url, headers={"authorization": f"Bearer {ADA_TOKEN}"}) as client:
        for sent, named in (([b"x" * 1000, b"x" * 1000, b"y" * 500], 3), ([b"x" * 1000], 3), ([b"x" * 1000], 1)):
            upload = lfs_links(client, "ada/broken", content)["upload"]
            etags = [
                client.put(upload["header"][str(n)], content=part).headers["etag"] for n, part in enumerate(sent, 1)
            ]
            parts = [{"partNumber": n, "etag": (etags + ['"none"'] * 3)[n - 1]} for n in range(1, named + 1)]
            answer = client.post(upload["href"], json={"oid": "", "parts": parts})
            assert answer.status_code == 400
            assert stray_files(hub, "ada/broken") == []
        upload = lfs_links(client, "ada/broken", content)["upload"]
        assert client.put(upload["header"]["1"], content=b"x" * 1001).status_code == 400
        assert (
            client.post(upload["href"], json={"oid": "", "parts": [{"partNumber": 2, "etag": ""}]}).status_code == 400
        )


@pytest.mark.parametrize("sent", [b"other!!", b"weight", b"weightss", b""])
def test_content_that_is_not_the_announced_one_is_not_kept(
    hub: LocalHub, http: httpx2.Client, visitor: httpx2.Client, repo_id: str, sent: bytes
) -> None:
    hub.store.create_repo(repo_id)
    actions = lfs_links(http, repo_id, b"weights")
    assert visitor.put(actions["upload"]["href"], content=sent).status_code == 400
    item = {"oid": hashlib.sha256(b"weights").hexdigest(), "size": 7}
    assert http.post(actions["verify"]["href"], json=item).status_code == 400
    assert stray_files(hub, repo_id) == [] and lfs_links(http, repo_id, b"weights")
    assert visitor.put(actions["upload"]["href"], content=b"weights").status_code == 200
    assert http.post(actions["verify"]["href"], json=item).status_code == 200
    assert lfs_links(http, repo_id, b"weights") == {}


def test_an_upload_that_breaks_off_leaves_nothing(
    hub: LocalHub, http: httpx2.Client, repo_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.store.create_repo(repo_id)
    port, path = lfs_links(http, repo_id, b"weights")["upload"]["href"].removeprefix("http://127.0.0.1:").split("/", 1)
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as line:
        line.sendall(f"PUT /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nwei".encode())
        wait_until(lambda: bool(stray_files(hub, repo_id)))
    wait_until(lambda: not stray_files(hub, repo_id))
    assert lfs_links(http, repo_id, b"weights") and capfd.readouterr() == ("", "")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_content_belongs_to_one_repo(hub: LocalHub, http: httpx2.Client, repo_id: str) -> None:
    """Who knows the hash of a private file must not get the file."""
    hub.store.create_repo(repo_id, private=True)
    hub.store.commit(repo_id, {"secret.safetensors": b"weights"})
    hub.store.create_repo(f"{repo_id}-other")
    assert lfs_links(http, repo_id, b"weights") == {}
    assert lfs_links(http, f"{repo_id}-other", b"weights")


def test_a_signed_link_takes_only_what_it_was_made_for(
    hub: LocalHub, http: httpx2.Client, visitor: httpx2.Client, repo_id: str
) -> None:
    hub.store.create_repo(repo_id)
    href = lfs_links(http, repo_id, b"weights")["upload"]["href"]
    other = hashlib.sha256(b"others!").hexdigest()
    for wrong in (href.replace("size=7", "size=9"), href.replace(hashlib.sha256(b"weights").hexdigest(), other)):
        assert visitor.put(wrong, content=b"others!").status_code == 403


def test_preloaded_files_are_sent_once_and_appear_with_the_commit(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    ada.create_repo(repo_id)
    shards = [CommitOperationAdd(f"model-{n}.safetensors", bytes([n]) * 5000) for n in range(3)]
    for shard in shards:
        ada.preupload_lfs_files(repo_id, [shard], free_memory=False)
    assert hub.store.files(repo_id).keys() == {".gitattributes"}
    hub.requests.clear()
    info = ada.create_commit(repo_id, shards, commit_message="Publish", commit_description="All of it")
    assert not any(seen.method == "PUT" for seen in hub.requests)
    assert len(hub.store.files(repo_id)) == 4
    assert (info.oid, info.commit_url) == (ada.model_info(repo_id).sha, f"{hub.url}/{repo_id}/commit/{info.oid}")
    newest = ada.list_repo_commits(repo_id)[0]
    assert (newest.title, newest.message, newest.authors) == ("Publish", "All of it", ["ada"])


def test_the_same_content_makes_no_second_commit(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    ada.create_repo(repo_id)
    for path in ("a.txt", "a.safetensors"):
        first = ada.upload_file(path_or_fileobj=b"same", path_in_repo=path, repo_id=repo_id)
        again = ada.upload_file(path_or_fileobj=b"same", path_in_repo=path, repo_id=repo_id)
        assert first.oid == again.oid


def test_one_commit_adds_replaces_and_deletes(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {"old.txt": b"1", "kept.txt": b"1", "sub/a": b"1", "sub/b": b"1"})
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        CommitOperationAdd("kept.txt", b"2"),
        CommitOperationAdd("new.bin", b"3"),
        CommitOperationDelete("old.txt"),
        CommitOperationDelete("sub/"),
    ]
    ada.create_commit(repo_id, operations, commit_message="Change")
    assert hub.store.files(repo_id).keys() == {".gitattributes", "kept.txt", "new.bin"}
    assert hub.store.read(repo_id, "kept.txt").read_bytes() == b"2"
    with pytest.raises(RemoteEntryNotFoundError):
        ada.delete_file("old.txt", repo_id)


def test_a_stale_parent_is_refused(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    head = ada.model_info(repo_id).sha
    files = [CommitOperationAdd("a.txt", b"1")]
    ada.create_commit(repo_id, files, commit_message="First", parent_commit=head)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        ada.create_commit(repo_id, [CommitOperationAdd("b.txt", b"1")], commit_message="Second", parent_commit=head)
    assert caught.value.response.status_code == 412
    assert "b.txt" not in hub.store.files(repo_id)


def test_pull_requests_are_refused_and_nothing_is_committed(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    with pytest.raises(BadRequestError, match="no pull requests"):
        ada.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo_id, create_pr=True)
    assert len(ada.list_repo_commits(repo_id)) == 1


HOSTILE = (
    "../x",
    "/etc/passwd",
    "a/../../x",
    "a//b",
    "./x",
    "x/.git/config",
    "a\\b",
    "x\0y",
    "x\ny",
    "\ud800",
    "",
    "a/",
)


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused(hub: LocalHub, http: httpx2.Client, repo_id: str, path: str) -> None:
    hub.store.create_repo(repo_id)
    body = {"files": [{"path": path, "size": 1, "sample": ""}]}
    text = json.dumps(body)
    assert http.post(f"/api/models/{repo_id}/preupload/main", content=text, headers=JSON).status_code == 400
    for key, value in (
        ("file", {"path": path, "content": "eA==", "encoding": "base64"}),
        ("deletedFile", {"path": path}),
    ):
        assert send_commit(http, repo_id, {"key": key, "value": value}).status_code == 400
    assert hub.store.files(repo_id).keys() == {".gitattributes"}


JSON = {"content-type": "application/json"}
HEADER = {"key": "header", "value": {"summary": "Change"}}


def send_commit(client: httpx2.Client, repo_id: str, *items: object, header: object = HEADER) -> httpx2.Response:
    lines = "\n".join(json.dumps(item) for item in (header, *items))
    return client.post(f"/api/models/{repo_id}/commit/main", content=lines.encode())


@pytest.mark.parametrize(
    "item",
    [
        {"key": "lfsFile", "value": {"path": "x", "algo": "sha256", "oid": "0" * 64, "size": 1}},
        {"key": "lfsFile", "value": {"path": "x", "algo": "sha256", "oid": "../../repo.json", "size": 1}},
        {"key": "lfsFile", "value": {"path": "x", "oid": None}},
        {"key": "file", "value": {"path": "x", "content": "not base64!", "encoding": "base64"}},
        {"key": "file", "value": {"path": ".gitattributes/x", "content": "", "encoding": "base64"}},
        {"key": "file", "value": {"path": 7}},
        {"key": "file", "value": "x"},
        {"key": "rename", "value": {}},
        {"value": {}},
        [],
        "x",
    ],
)
def test_a_broken_commit_changes_nothing(hub: LocalHub, http: httpx2.Client, repo_id: str, item: object) -> None:
    hub.store.create_repo(repo_id)
    good = {"key": "file", "value": {"path": "good.txt", "content": "eA==", "encoding": "base64"}}
    answer = send_commit(http, repo_id, good, item)
    assert answer.status_code == 400 and answer.json()["error"]
    assert hub.store.files(repo_id).keys() == {".gitattributes"}


@pytest.mark.parametrize("header", [{}, {"key": "header", "value": {}}, {"key": "header", "value": 7}, 7])
def test_a_commit_needs_a_header(hub: LocalHub, http: httpx2.Client, repo_id: str, header: object) -> None:
    hub.store.create_repo(repo_id)
    assert send_commit(http, repo_id, header=header).status_code == 400


def test_an_odd_title_can_be_read_again(hub: LocalHub, http: httpx2.Client, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    title = {"key": "header", "value": {"summary": "half \ud800 \n<b>", "parentCommit": 7}}
    assert send_commit(http, repo_id, header=title).status_code == 412
    del title["value"]["parentCommit"]  # type: ignore[attr-defined]
    assert send_commit(http, repo_id, header=title).status_code == 200
    assert ada.list_repo_commits(repo_id)[0].title == "half ? \n<b>"
