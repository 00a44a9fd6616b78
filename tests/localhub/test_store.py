"""The store without HTTP: what is on disk, and that a restart finds it again."""

import json
import threading
from pathlib import Path

import pytest

from space.localhub import LocalHub, Store
from space.localhub.errors import AlreadyExists, BadRequest, EntryNotFound, RepoNotFound, RevisionNotFound, StaleParent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "hub")
    store.create_repo("acme/x")
    return store


def test_a_restart_finds_everything_but_the_tokens(tmp_path: Path) -> None:
    with LocalHub(tmp_path) as hub:
        hub.store.add_user("ada", token="hf_secret_token", orgs=("acme",))
        hub.store.create_repo("acme/x", private=True, gated="manual")
        hub.store.grant("acme/x", "bob")
        sha = hub.store.commit("acme/x", {"model.safetensors": b"weights"})
        hub.store.tag("acme/x", "v1", sha)
        hub.store.branch("acme/x", "dev", sha)
        before = hub.store.repos()
    with LocalHub(tmp_path) as hub:
        assert hub.store.repos() == before
        assert hub.store.read("acme/x", "model.safetensors", "v1").read_bytes() == b"weights"
        assert hub.store.accounts.users == {}
    assert not any(b"hf_secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_what_a_kill_left_is_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create_repo("acme/x")
    folder = store.folder("acme/x")
    for stray in (folder / "incoming" / "a", folder / "parts" / "b" / "1", tmp_path / "deleted-x" / "repo" / "c"):
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.touch()
    (folder / "repo.json.new").write_text("{")
    (tmp_path / "repos" / "acme" / "half" / "commits").mkdir(parents=True)
    again = Store(tmp_path)
    assert [repo.id for repo in again.repos()] == ["acme/x"]
    assert {path.name for path in folder.iterdir()} >= {"repo.json", "commits", "objects"}
    assert not (folder / "incoming").exists() and not (folder / "parts").exists()
    assert not list(tmp_path.glob("deleted-*"))
    again.create_repo("acme/half")


def test_a_commit_that_fails_leaves_no_trace(store: Store) -> None:
    before = dict(store.files("acme/x"))
    for files in ({"../x": b""}, {"a": b"", "a/b": b""}, {"good": b"", ".gitattributes/x": b""}):
        with pytest.raises(BadRequest):
            store.commit("acme/x", files)
    with pytest.raises(EntryNotFound):
        store.commit("acme/x", {"new": b""}, delete=["nope"])
    with pytest.raises(RevisionNotFound):
        store.commit("acme/x", {"new": b""}, branch="nope")
    with pytest.raises(RepoNotFound):
        store.commit("acme/nope", {"new": b""})
    assert store.files("acme/x") == before


def test_files_come_from_memory_and_from_disk(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"weights")
    sha = store.commit("acme/x", {"a.safetensors": source, "a.txt": b"hello\n"}, message="Add")
    files = store.files("acme/x", sha)
    assert (files["a.safetensors"].size, files["a.safetensors"].lfs) == (7, True)
    assert files["a.txt"].oid == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    source.write_bytes(b"changed")
    assert store.read("acme/x", "a.safetensors").read_bytes() == b"weights"
    assert [commit.title for commit in store.history("acme/x")] == ["Add", "initial commit"]


def test_a_large_file_of_any_name_is_lfs(store: Store) -> None:
    store.commit("acme/x", {"large.txt": b"x" * 10_000_001, "small.txt": b"x", "empty.safetensors": b""})
    files = store.files("acme/x")
    assert [files[name].lfs for name in ("large.txt", "small.txt", "empty.safetensors")] == [True, False, False]


def test_names_are_checked(store: Store) -> None:
    for name in ("x", "../x", "a/b/c", "api/x", "a/..", "/x", "a/", "a/x.git", "a\0/x"):
        with pytest.raises(BadRequest):
            store.create_repo(name)
    for name in ("", "..", "a..b", "/a", "a/", "-x", "a b", "0" * 40, "x.lock"):
        with pytest.raises(BadRequest):
            store.branch("acme/x", name)
    with pytest.raises(AlreadyExists):
        store.create_repo("acme/x")


def test_commits_at_the_same_time_are_all_kept(store: Store) -> None:
    def add(n: int) -> None:
        store.commit("acme/x", {f"{n}.txt": b"%d" % n})

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.history("acme/x"))) == 9
    assert len(store.files("acme/x")) == 9


def test_the_parent_may_be_short_but_must_be_the_head(store: Store) -> None:
    head = store.revision("acme/x").sha
    store.record("acme/x", {}, title="Empty", parent=head[:7])
    for parent in (head, head[:7], "", "0" * 40, store.revision("acme/x").sha[:6]):
        with pytest.raises(StaleParent):
            store.record("acme/x", {}, title="Late", parent=parent)


def test_a_folder_of_models_is_imported_once(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("acme/one", "acme/two", ".cache/x", "acme/__pycache__"):
        (models / name / "sub").mkdir(parents=True)
        (models / name / "config.json").write_text(json.dumps({"name": name}))
        (models / name / "sub" / "model.safetensors").write_bytes(name.encode())
    store = Store(tmp_path / "hub")
    store.import_folder(models)
    assert [repo.id for repo in store.repos()] == ["acme/one", "acme/two"]
    assert store.files("acme/one").keys() == {".gitattributes", "config.json", "sub/model.safetensors"}
    before = [store.revision(repo.id).sha for repo in store.repos()]
    store.import_folder(models)
    assert [store.revision(repo.id).sha for repo in store.repos()] == before
    (models / "acme/one" / "config.json").unlink()
    store.import_folder(models)
    assert store.files("acme/one").keys() == {".gitattributes", "sub/model.safetensors"}
    assert store.revision("acme/two").sha == before[1]
