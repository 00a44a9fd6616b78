"""Who may do what, and which exception the real client raises for those who may not."""

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from space.localhub import LocalHub
from tests.hub_fixture import ADA_TOKEN

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def status(error: HfHubHTTPError) -> tuple[int, str]:
    return error.response.status_code, error.response.headers.get("X-Error-Code", "")


def test_whoami_tells_orgs_and_role(ada: HfApi, reading_ada: HfApi, bob: HfApi) -> None:
    me = ada.whoami()
    assert (me["type"], me["name"], me["fullname"]) == ("user", "ada", "Ada")
    assert [(org["name"], org["roleInOrg"]) for org in me["orgs"]] == [("acme", "write")]
    assert me["auth"]["accessToken"]["role"] == "write"
    assert reading_ada.whoami()["auth"]["accessToken"]["role"] == "read"
    assert bob.whoami()["orgs"] == []


def test_an_unknown_token_is_refused_even_on_public_repos(hub: LocalHub, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    stranger = HfApi(endpoint=hub.url, token="hf_expired")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as caught:
        stranger.model_info(repo_id)
    assert type(caught.value) is HfHubHTTPError and status(caught.value) == (401, "")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        stranger.whoami()


def test_a_private_repo_is_hidden(hub: LocalHub, ada: HfApi, bob: HfApi, anyone: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id, private=True)
    hub.store.commit(repo_id, FILES)
    for api, expected in ((bob, (404, "RepoNotFound")), (anyone, (401, "RepoNotFound"))):
        for ask in (
            lambda api=api: api.model_info(repo_id),
            lambda api=api: api.auth_check(repo_id),
            lambda api=api: list(api.list_repo_tree(repo_id)),
            lambda api=api: api.get_paths_info(repo_id, ["config.json"]),
            lambda api=api: api.list_repo_refs(repo_id),
            lambda api=api: api.get_hf_file_metadata(url=f"{hub.url}/{repo_id}/resolve/main/config.json"),
            lambda api=api: api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo_id),
            lambda api=api: api.delete_repo(repo_id),
        ):
            with pytest.raises(RepositoryNotFoundError) as caught:
                ask()
            assert status(caught.value) == expected
    ada.auth_check(repo_id)
    hub.store.grant(repo_id, "bob")
    bob.auth_check(repo_id)
    assert bob.model_info(repo_id).private


def test_a_hidden_repo_is_answered_as_a_missing_one(hub: LocalHub, visitor: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id, private=True)
    for token in (None, "hf_bob_token_for_tests"):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        hidden, missing = (visitor.get(f"/api/models/{name}", headers=headers) for name in (repo_id, repo_id + "-x"))
        assert hidden.status_code == missing.status_code
        assert hidden.text == missing.text.replace(repo_id + "-x", repo_id)


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_a_gated_repo_shows_its_facts_only(
    hub: LocalHub, ada: HfApi, bob: HfApi, anyone: HfApi, repo_id: str, gated: str
) -> None:
    hub.store.create_repo(repo_id, gated=gated)  # type: ignore[arg-type]
    hub.store.commit(repo_id, FILES)
    for api, code in ((bob, 403), (anyone, 401)):
        assert api.model_info(repo_id).gated == gated
        assert len(list(api.list_repo_tree(repo_id))) == 3
        for ask in (
            lambda api=api: api.auth_check(repo_id),
            lambda api=api: api.get_hf_file_metadata(url=f"{hub.url}/{repo_id}/resolve/main/config.json"),
            lambda api=api: api.get_hf_file_metadata(url=f"{hub.url}/{repo_id}/resolve/main/model.safetensors"),
            lambda api=api: api.hf_hub_download(repo_id, "model.safetensors"),
        ):
            with pytest.raises(GatedRepoError) as caught:
                ask()
            assert status(caught.value) == (code, "GatedRepo")
    ada.auth_check(repo_id)
    hub.store.grant(repo_id, "bob")
    bob.auth_check(repo_id)
    assert bob.hf_hub_download(repo_id, "config.json")


def test_reading_does_not_let_write(hub: LocalHub, reading_ada: HfApi, bob: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    for api in (reading_ada, bob):
        api.auth_check(repo_id)
        for change in (
            lambda api=api: api.auth_check(repo_id, write=True),
            lambda api=api: api.create_repo(f"{repo_id}-more"),
            lambda api=api: api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo_id),
            lambda api=api: api.delete_repo(repo_id),
            lambda api=api: api.create_tag(repo_id, tag="v1"),
            lambda api=api: api.update_repo_settings(repo_id, private=True),
        ):
            with pytest.raises(HfHubHTTPError) as caught:
                change()
            assert status(caught.value) == (403, "")
    assert hub.store.files(repo_id).keys() == {".gitattributes"}


def test_nobody_writes_without_a_token(hub: LocalHub, anyone: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    for change in (
        lambda: anyone.create_repo(f"{repo_id}-more"),
        lambda: anyone.create_tag(repo_id, tag="v1"),
        lambda: anyone.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo_id),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            change()
        assert caught.value.response.status_code == 401


def test_what_is_not_there_has_its_own_exception(hub: LocalHub, ada: HfApi, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    with pytest.raises(RemoteEntryNotFoundError) as caught:
        ada.hf_hub_download(repo_id, "nope.json")
    assert caught.value.response.headers["X-Repo-Commit"] == ada.model_info(repo_id).sha
    assert not ada.file_exists(repo_id, "nope.json")
    with pytest.raises(RevisionNotFoundError):
        ada.hf_hub_download(repo_id, "config.json", revision="nope")
    with pytest.raises(RepositoryNotFoundError):
        ada.hf_hub_download("acme/nope", "config.json")
    with pytest.raises((RepositoryNotFoundError, LocalEntryNotFoundError)):
        snapshot_download("acme/nope", endpoint=hub.url, token=ADA_TOKEN)
    with pytest.raises(RevisionNotFoundError):
        ada.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo_id, revision="nope")


def test_the_large_files_link_needs_no_token_and_is_sent_none(
    hub: LocalHub, http: httpx2.Client, visitor: httpx2.Client, repo_id: str
) -> None:
    hub.store.create_repo(repo_id, private=True)
    hub.store.commit(repo_id, FILES)
    answer = http.head(f"/{repo_id}/resolve/main/model.safetensors")
    assert answer.status_code == 302
    link = answer.headers["location"]
    assert link.startswith(hub.url.replace("127.0.0.1", "localhost") + "/cdn/")
    assert visitor.get(link).content == b"weights"
    path = hf_hub_download(repo_id, "model.safetensors", endpoint=hub.url, token=ADA_TOKEN)
    assert Path(path).read_bytes() == b"weights"


def test_a_changed_link_is_refused(hub: LocalHub, http: httpx2.Client, visitor: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, FILES)
    link = http.head(f"/{repo_id}/resolve/main/model.safetensors").headers["location"]
    for wrong in (link.replace("expires=", "expires=9"), link.split("?")[0], link[:-1] + "ü", link + "&x=1"):
        assert visitor.get(wrong).status_code == 403


def test_a_token_may_be_a_password_and_is_not_asked_for(hub: LocalHub, visitor: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id, private=True)
    page = {"accept": "text/html"}
    refused = visitor.get(f"/{repo_id}", headers=page)
    assert refused.status_code == 401 and "WWW-Authenticate" not in refused.headers
    assert visitor.get(f"/{repo_id}", headers=page, auth=("ada", ADA_TOKEN)).status_code == 200
    assert visitor.get(f"/{repo_id}", headers={"authorization": "Basic %%%"}).status_code == 401


def test_an_old_link_is_refused(tmp_path: Path) -> None:
    with LocalHub(tmp_path, link_lifetime=-10) as hub:
        hub.store.create_repo("acme/x")
        hub.store.commit("acme/x", FILES)
        answer = httpx2.get(f"{hub.url}/acme/x/resolve/main/model.safetensors", follow_redirects=True)
        assert answer.status_code == 403 and "expired" in answer.json()["error"]
