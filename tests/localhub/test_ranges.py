"""Bytes that go out: whole files, ranges, and what the client builds on them."""

from http.client import HTTPConnection

import httpx2
import numpy as np
import pytest
from huggingface_hub import HfApi, HfFileSystem
from safetensors.numpy import save

from space.localhub import LocalHub
from tests.hub_fixture import ADA_TOKEN

CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize("name", ["model.safetensors", "notes.txt"])
@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=5-99", 206, 5, 100),
        ("bytes=10239-", 206, 10239, 10240),
        ("bytes=0-999999", 206, 0, 10240),
        ("bytes=-3", 206, 10237, 10240),
        ("bytes=-99999", 206, 0, 10240),
        ("bytes=10240-", 416, 0, 0),
        ("bytes=99999-100000", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=9-3", 200, 0, 10240),
        ("bytes=0-1,4-5", 200, 0, 10240),
        ("bytes=-", 200, 0, 10240),
        ("lines=0-1", 200, 0, 10240),
        (f"bytes={'9' * 5000}-", 200, 0, 10240),
    ],
)
def test_a_range_is_exact(
    hub: LocalHub, http: httpx2.Client, repo_id: str, name: str, asked: str, status: int, start: int, stop: int
) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {name: CONTENT})
    answer = http.get(f"/{repo_id}/resolve/main/{name}", headers={"range": asked}, follow_redirects=True)
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */10240"
        return
    assert answer.content == CONTENT[start:stop]
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers.get("content-range") == (f"bytes {start}-{stop - 1}/10240" if status == 206 else None)
    assert answer.headers["accept-ranges"] == "bytes"


def test_an_empty_file_has_no_ranges(hub: LocalHub, http: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {"empty.bin": b""})
    url = f"/{repo_id}/resolve/main/empty.bin"
    assert http.get(url).content == b""
    assert http.get(url, headers={"range": "bytes=0-0"}).status_code == 416


def test_head_says_what_the_client_needs(hub: LocalHub, ada: HfApi, http: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    sha = hub.store.commit(repo_id, {"model.safetensors": CONTENT, "notes.txt": CONTENT})
    held = hub.store.files(repo_id)
    large = ada.get_hf_file_metadata(url=f"{hub.url}/{repo_id}/resolve/main/model.safetensors")
    assert (large.commit_hash, large.etag, large.size) == (sha, held["model.safetensors"].sha256, len(CONTENT))
    assert "/cdn/" in large.location
    small = ada.get_hf_file_metadata(url=f"{hub.url}/{repo_id}/resolve/{sha}/notes.txt")
    assert (small.commit_hash, small.etag, small.size) == (sha, held["notes.txt"].oid, len(CONTENT))
    assert http.head(f"/{repo_id}/resolve/main/notes.txt", headers={"range": "bytes=1-2"}).status_code == 200


def test_the_client_follows_a_link_on_the_same_host_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        hub.store.create_repo("acme/x")
        sha = hub.store.commit("acme/x", {"model.safetensors": CONTENT})
        api = HfApi(endpoint=hub.url, token=False)
        found = api.get_hf_file_metadata(url=f"{hub.url}/acme/x/resolve/main/model.safetensors")
        assert (found.commit_hash, found.size) == (sha, len(CONTENT))
        assert api.hf_hub_download("acme/x", "model.safetensors", local_dir=tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize(
    "path", ["../config.json", "%2e%2e/%2e%2e/repo.json", "/etc/passwd", "a%00b", "a/../config.json"]
)
def test_hostile_paths_find_nothing(hub: LocalHub, repo_id: str, path: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {"config.json": b"{}"})
    line = HTTPConnection("127.0.0.1", int(hub.url.rpartition(":")[2]), timeout=10)
    line.request("GET", f"/{repo_id}/resolve/main/{path}")  # httpx2 would tidy the path up
    answer = line.getresponse()
    assert (answer.status, answer.getheader("X-Error-Code")) == (404, "EntryNotFound")
    line.close()


def test_safetensors_headers_are_read_by_range(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    weights = save({"a": np.ones((1000, 500), np.float32)}, {"format": "pt"})
    hub.store.commit(repo_id, {"model.safetensors": weights})
    hub.requests.clear()
    found = ada.get_safetensors_metadata(repo_id)
    assert found.parameter_count == {"F32": 500_000}
    assert found.files_metadata["model.safetensors"].metadata == {"format": "pt"}
    assert [seen.status for seen in hub.requests if "/cdn/" in seen.path] == [206]


def test_sharded_headers_are_read_through_the_index(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    shards = {f"model-{n}.safetensors": save({f"t{n}": np.ones(n + 1, np.float16)}) for n in range(2)}
    index = b'{"metadata": {}, "weight_map": {"t0": "model-0.safetensors", "t1": "model-1.safetensors"}}'
    hub.store.commit(repo_id, {**shards, "model.safetensors.index.json": index})
    assert ada.get_safetensors_metadata(repo_id).parameter_count == {"F16": 3}


def test_the_file_system_reads_ranges(hub: LocalHub, repo_id: str) -> None:
    hub.store.create_repo(repo_id, private=True)
    hub.store.commit(repo_id, {"sub/model.safetensors": CONTENT, "a.txt": b"a"})
    files = HfFileSystem(endpoint=hub.url, token=ADA_TOKEN, skip_instance_cache=True)
    assert files.ls(repo_id, detail=False) == [f"{repo_id}/{name}" for name in (".gitattributes", "a.txt", "sub")]
    with files.open(f"{repo_id}/sub/model.safetensors", "rb", block_size=100) as file:
        file.seek(300)
        assert file.read(50) == CONTENT[300:350]
        file.seek(-10, 2)
        assert file.read() == CONTENT[-10:]
    assert 206 in {seen.status for seen in hub.requests if "/cdn/" in seen.path}


def test_a_file_is_never_served_as_a_page(hub: LocalHub, http: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {"x.html": b"<script>", "x.bin": b"<script>"})
    for name in ("x.html", "x.bin"):
        answer = http.get(f"/{repo_id}/resolve/main/{name}", follow_redirects=True)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "html" not in answer.headers["content-type"]
        assert answer.headers["content-disposition"] == f"inline; filename*=UTF-8''{name}"
