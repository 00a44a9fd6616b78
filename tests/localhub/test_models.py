"""What the Hub tells about models: info, listings, revisions, settings."""

import re
import time
from datetime import UTC, datetime, timedelta

import httpx2
import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.numpy import save

from space.localhub import LocalHub

WEIGHTS = save({"a": np.ones((4, 2), np.float32), "b": np.ones(3, np.float16)})
CARD = b"""---
license: apache-2.0
base_model: [acme/one, acme/two]
tags: [merge, soup]
language: en
date: 2026-11-22
---
# A merge
"""
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}',
    "model.safetensors": WEIGHTS,
    "README.md": CARD,
    "sub/notes.txt": b"note",
}


def test_the_info_of_a_model_holds_what_the_hub_reads_from_its_files(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id, private=True)
    sha = hub.store.commit(repo_id, FILES)
    info = ada.model_info(repo_id)
    assert (info.id, info.sha, info.author, info.private, info.gated) == (repo_id, sha, "acme", True, False)
    assert (info.downloads, info.likes, info.disabled) == (0, 0, False)
    assert info.created_at is not None and info.last_modified is not None
    assert info.created_at <= info.last_modified <= datetime.now(UTC) + timedelta(seconds=1)
    assert info.config == {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    assert info.card_data is not None
    assert info.card_data.license == "apache-2.0"
    assert info.card_data.base_model == ["acme/one", "acme/two"]
    assert info.safetensors is not None
    assert (info.safetensors.parameters, info.safetensors.total) == ({"F32": 8, "F16": 3}, 11)
    assert info.library_name == "transformers" and info.pipeline_tag == "text-generation"
    assert {"merge", "license:apache-2.0", "base_model:acme/one", "base_model:merge:acme/two", "llama"} <= set(
        info.tags or []
    )
    assert [s.rfilename for s in info.siblings or []] == sorted([*FILES, ".gitattributes"])


def test_files_metadata_gives_sizes_and_hashes(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, FILES)
    held = hub.store.files(repo_id)
    for sibling in ada.model_info(repo_id, files_metadata=True).siblings or []:
        assert (sibling.size, sibling.blob_id) == (held[sibling.rfilename].size, held[sibling.rfilename].oid)
        assert (sibling.lfs and sibling.lfs.sha256) == (
            held[sibling.rfilename].sha256 if sibling.rfilename == "model.safetensors" else None
        )


def test_expand_gives_only_what_was_asked(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, FILES)
    info = ada.model_info(repo_id, expand=["safetensors", "baseModels", "inference"])
    assert info.safetensors is not None and info.safetensors.total == 11
    assert vars(info)["base_models"] == {"relation": "merge", "models": [{"id": "acme/one"}, {"id": "acme/two"}]}
    assert info.sha is None and info.tags is None
    with pytest.raises(BadRequestError, match="height"):
        ada.model_info(repo_id, expand=["height"])  # type: ignore[list-item]


@pytest.mark.parametrize("card", [b"---\n[\n---\n", b"---\n- a\n---\n", b"---\na: &x [*x]\n---\n", b"\xff\xfe", b""])
@pytest.mark.parametrize("config", [b"[" * 100_000, b"{", b"[]", b"\xff"])
def test_broken_files_do_not_hide_a_model(hub: LocalHub, ada: HfApi, repo_id: str, card: bytes, config: bytes) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {"README.md": card, "config.json": config, "model.safetensors": b"\xff" * 9})
    info = ada.model_info(repo_id)
    assert info.card_data is None and info.config is None and info.safetensors is None


def test_models_are_listed_and_searched(hub: LocalHub, ada: HfApi, bob: HfApi, repo_id: str) -> None:
    name = repo_id.partition("/")[2]
    for end, private in (("-open", False), ("-closed", True), ("-plain", False)):
        hub.store.create_repo(repo_id + end, private=private)
        time.sleep(0.01)  # times are kept in milliseconds, and the order is by them
    hub.store.commit(f"{repo_id}-open", FILES)

    def found(api: HfApi, **query: object) -> list[str]:
        return [model.id.removeprefix(repo_id) for model in api.list_models(search=f"{name.upper()}-", **query)]  # type: ignore[arg-type]

    assert found(ada) == ["-open", "-plain", "-closed"]  # the newest first
    assert found(bob) == ["-open", "-plain"]
    assert found(ada, limit=1) == ["-open"]
    assert found(ada, sort="created_at") == ["-plain", "-closed", "-open"]
    assert found(ada, filter=["soup", "license:apache-2.0"]) == ["-open"]
    assert found(ada, pipeline_tag="text-generation") == ["-open"]
    assert found(ada, author="ada") == [] and len(found(ada, author="acme")) == 3
    assert found(ada, gated=True) == []
    [model] = ada.list_models(search=f"{name}-open", full=True, cardData=True, fetch_config=True)
    assert model.card_data is not None and model.config is not None and model.sha == ada.model_info(model.id).sha
    [model] = ada.list_models(search=f"{name}-open", expand=["safetensors"])
    assert model.safetensors is not None and model.tags is None
    with pytest.raises(BadRequestError, match="num_parameters"):
        list(ada.list_models(num_parameters="min:6B"))


def test_a_revision_is_a_branch_a_tag_or_a_sha(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    first = hub.store.commit(repo_id, {"a.txt": b"1"}, message="one")
    second = hub.store.commit(repo_id, {"a.txt": b"2"}, message="two")
    ada.create_tag(repo_id, tag="v1", revision=first)
    ada.create_branch(repo_id, branch="try/this", revision="v1")
    for revision, sha in (("main", second), ("v1", first), ("try/this", first), (second, second), (first[:7], first)):
        assert ada.model_info(repo_id, revision=revision).sha == sha
    for revision in ("nope", "0" * 40, first[:6], "%2e%2e", "main/../main", "\0", "try"):
        with pytest.raises(RevisionNotFoundError):
            ada.model_info(repo_id, revision=revision)
    refs = ada.list_repo_refs(repo_id, include_pull_requests=True)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "try/this": first}
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1", "refs/tags/v1", first)]
    commits = ada.list_repo_commits(repo_id)
    assert [commit.title for commit in commits] == ["two", "one", "initial commit"]
    assert commits[0].commit_id == second and re.fullmatch("[0-9a-f]{40}", second)


def test_branches_and_tags_come_and_go(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    ada.create_branch(repo_id, branch="dev")
    ada.create_branch(repo_id, branch="dev", exist_ok=True)
    ada.create_tag(repo_id, tag="v1")
    ada.create_tag(repo_id, tag="v1", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        ada.create_branch(repo_id, branch="dev")
    ada.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo_id, revision="dev")
    assert "x.txt" in hub.store.files(repo_id, "dev") and "x.txt" not in hub.store.files(repo_id)
    ada.delete_branch(repo_id, branch="dev")
    ada.delete_tag(repo_id, tag="v1")
    for gone in (lambda: ada.delete_branch(repo_id, branch="dev"), lambda: ada.delete_tag(repo_id, tag="v1")):
        with pytest.raises(RevisionNotFoundError):
            gone()
    with pytest.raises(BadRequestError):
        ada.delete_branch(repo_id, branch="main")
    with pytest.raises(BadRequestError):
        ada.create_branch(repo_id, branch="a..b")


def test_the_tree_is_given_in_pages(ada: HfApi, hub: LocalHub, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {f"many/{n:04}.txt": b"" for n in range(1100)}, message="many")
    hub.requests.clear()
    tree = list(ada.list_repo_tree(repo_id, recursive=True))
    assert [entry.path for entry in tree] == [".gitattributes", "many", *(f"many/{n:04}.txt" for n in range(1100))]
    assert len(hub.requests) == 2
    expanded = list(ada.list_repo_tree(repo_id, "many", expand=True))
    assert len(expanded) == 1100 and len(hub.requests) == 2 + 22
    assert {entry.last_commit.title for entry in expanded if entry.last_commit} == {"many"}
    assert [entry.path for entry in ada.list_repo_tree(repo_id)] == [".gitattributes", "many"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(ada.list_repo_tree(repo_id, "additional_chat_templates"))
    with pytest.raises(RevisionNotFoundError):
        list(ada.list_repo_tree(repo_id, revision="nope"))


def test_paths_info_leaves_out_what_is_not_there(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, FILES, message="all")
    found = ada.get_paths_info(repo_id, ["model.safetensors", "sub", "nope", "../x"], expand=True)
    assert [(entry.path, entry.last_commit and entry.last_commit.title) for entry in found] == [
        ("model.safetensors", "all"),
        ("sub", "all"),
    ]
    assert ada.get_paths_info(repo_id, "nope") == []


def test_settings_change_who_sees_a_repo(hub: LocalHub, ada: HfApi, bob: HfApi, repo_id: str) -> None:
    ada.create_repo(repo_id, private=True)
    assert not bob.repo_exists(repo_id)
    ada.update_repo_settings(repo_id, private=False, gated="manual")
    assert bob.model_info(repo_id).gated == "manual"
    ada.update_repo_settings(repo_id, gated=False)
    assert bob.model_info(repo_id).gated is False


def test_a_repo_is_made_once_and_deleted(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    url = ada.create_repo(repo_id)
    assert (url, url.repo_id) == (f"{hub.url}/{repo_id}", repo_id)
    assert ada.create_repo(repo_id, exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="already created") as caught:
        ada.create_repo(repo_id)
    assert caught.value.response.status_code == 409 and caught.value.response.json()["url"] == url
    ada.delete_repo(repo_id)
    assert not ada.repo_exists(repo_id) and not (hub.store.root / "repos" / repo_id).exists()
    with pytest.raises(RepositoryNotFoundError):
        ada.delete_repo(repo_id)
    ada.delete_repo(repo_id, missing_ok=True)
    ada.create_repo(repo_id)


def test_a_repo_without_an_owner_is_the_callers(ada: HfApi) -> None:
    assert ada.create_repo("mine").repo_id == "ada/mine"
    assert "ada/mine" in [model.id for model in ada.list_models(author="ada")]


@pytest.mark.parametrize("name", ["a--b", "x.git", ".x", "x/y/z", "a b", "x\n", "", "ü", "a..b", "x" * 97])
def test_odd_names_make_no_repo(http: httpx2.Client, name: str) -> None:
    answer = http.post("/api/repos/create", json={"name": name, "organization": "acme"})
    assert answer.status_code == 400


def test_there_are_models_only(ada: HfApi) -> None:
    with pytest.raises(BadRequestError):
        ada.create_repo("acme/data", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        ada.dataset_info("acme/data")
    with pytest.raises(RepositoryNotFoundError):
        ada.model_info("gpt2")
