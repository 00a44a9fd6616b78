"""Publishing: one commit makes a repo appear whole, or what is left is said."""

import json
import random
from pathlib import Path

import pytest

from merging.checkpoint import open_checkpoint
from merging.errors import MergeError
from merging.hub import Hub, Upload
from merging.recipe import ModelRef
from space.localhub import Fault, LocalHub
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN
from tests.merging.hubs import ADA, ANYONE, BOB, HASTY, QUICK, always, times

CARD = "---\nlicense: mit\nbase_model: acme/base\n---\n\n# A merge\n"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished merge of two shards, of which each run has its own bytes."""
    made = tmp_path / "merge"
    made.mkdir()
    entry = {"dtype": "F32", "shape": [25_000], "data_offsets": [0, 100_000]}
    for name, shard in zip("ab", SHARDS, strict=True):
        header = json.dumps({name: entry}).encode()
        (made / shard).write_bytes(len(header).to_bytes(8, "little") + header + random.randbytes(100_000))
    index = {"metadata": {}, "weight_map": dict(zip("ab", SHARDS, strict=True))}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    (made / "config.json").write_text('{"model_type": "llama"}')
    (made / "README.md").write_text(CARD)
    (made / ".lock").touch()
    return made


def publish(hub: Hub, folder: Path, repo_id: str, private: bool = True) -> list[Upload]:
    return list(hub.publish(folder, repo_id, private=private, message="Merge with Alloy"))


def shown(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")}


def commits(server: LocalHub, repo_id: str) -> int:
    return len(list(server.store.history(repo_id))) - 1  # but the one that it starts with


@pytest.mark.parametrize("private", [True, False])
def test_a_folder_becomes_a_repo(server: LocalHub, folder: Path, repo_id: str, private: bool):
    uploads = publish(ADA, folder, repo_id, private)
    assert uploads[-1].url == f"{server.url}/{repo_id}"
    assert not any(u.url for u in uploads[:-1])
    repo = server.store.repo(repo_id)
    assert repo.private is private
    assert commits(server, repo_id) == 1
    assert server.store.files(repo_id).keys() - {".gitattributes"} == shown(folder)
    for file in shown(folder):
        assert server.store.read(repo_id, file).read_bytes() == (folder / file).read_bytes()
    assert open_checkpoint(ADA.open(ModelRef(repo_id))).tensors.keys() == {"a", "b"}


def test_progress_goes_up_to_the_whole_shard_by_shard(folder: Path, repo_id: str):
    uploads = publish(ADA, folder, repo_id)
    total = sum((folder / f).stat().st_size for f in shown(folder))
    sent = [u.sent_bytes for u in uploads]
    assert sent == sorted(sent) and sent[0] == 0 and sent[-1] == total
    assert {u.total_bytes for u in uploads} == {total}
    assert [u.file for u in uploads][:2] == SHARDS


def test_under_ones_own_name(server: LocalHub, folder: Path, repo_id: str):
    mine = repo_id.replace("acme/", "bob/")
    assert publish(BOB, folder, mine)[-1].url.endswith(mine)


def test_a_repo_that_exists_is_refused_and_left_alone(server: LocalHub, folder: Path, repo_id: str):
    server.store.create_repo(repo_id)
    head = server.store.commit(repo_id, {"notes.txt": b"mine"})
    with pytest.raises(MergeError, match=rf"{repo_id} exists already on the Hub, and was not touched"):
        publish(ADA, folder, repo_id)
    assert server.store.revision(repo_id).sha == head


@pytest.mark.parametrize(
    ("hub", "words"),
    [
        (BOB, r"may not do this with acme/.*The Hub says: "),
        (Hub(ADA_READ_TOKEN, QUICK), r"may not do this with acme/.*The Hub says: "),
        (Hub("hf_revoked_token", QUICK), "does not accept your token"),
        (ANYONE, "token|sign"),
    ],
    ids=["not in the organisation", "read only", "revoked", "anonymous"],
)
def test_who_may_not_write_is_told_so(server: LocalHub, folder: Path, repo_id: str, hub: Hub, words: str):
    with pytest.raises(MergeError, match=words):
        publish(hub, folder, repo_id)
    assert server.store.find(repo_id) is None


@pytest.mark.parametrize("metadata", ["license: [mit", "license: 7", "- a list", "pipeline_tag: 7"])
def test_a_bad_card_stops_it_before_anything_is_made(server: LocalHub, folder: Path, repo_id: str, metadata: str):
    (folder / "README.md").write_text(f"---\n{metadata}\n---\n")
    with pytest.raises(MergeError, match=r"metadata of the model card [^{}]*\."):
        publish(ADA, folder, repo_id)
    assert server.store.find(repo_id) is None


@pytest.mark.parametrize("missing", ["README.md", *SHARDS])
def test_what_is_no_finished_merge_is_refused(folder: Path, repo_id: str, missing: str):
    (folder / missing).unlink()
    if missing != "README.md":
        (folder / SHARDS[1 - SHARDS.index(missing)]).unlink()
    with pytest.raises(MergeError, match="is not a finished merge"):
        publish(ADA, folder, repo_id)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_commit_whose_answer_is_lost_is_made_once(server: LocalHub, folder: Path, repo_id: str, lost: int):
    server.fault = times(lost, Fault(lose_answer=True), path="/commit/")
    assert publish(ADA, folder, repo_id)[-1].url
    assert commits(server, repo_id) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=503), Fault(drop=True), Fault(status=429, headers={"Retry-After": "0"})],
    ids=["500", "503", "drop", "429"],
)
def test_a_commit_that_fails_is_made_again(server: LocalHub, folder: Path, repo_id: str, fault: Fault):
    server.fault = times(1, fault, path="/commit/")
    assert publish(ADA, folder, repo_id)[-1].url
    assert commits(server, repo_id) == 1


def test_faults_of_the_upload_are_survived(server: LocalHub, folder: Path, repo_id: str):
    server.fault = times(1, Fault(status=503), path="/lfs/")
    assert publish(ADA, folder, repo_id)[-1].url


def test_when_nobody_can_commit_nothing_is_left(server: LocalHub, folder: Path, repo_id: str):
    server.fault = always(Fault(status=500), path="/commit/")
    with pytest.raises(MergeError, match=r"has a fault \(status 500\).*nothing is left on the Hub"):
        publish(ADA, folder, repo_id)
    assert server.store.find(repo_id) is None
    server.fault = None
    assert publish(ADA, folder, repo_id)[-1].url  # so the name is free again


def test_where_deleting_is_not_allowed_the_error_says_what_is_left(server: LocalHub, folder: Path, repo_id: str):
    def broken(request):
        if "/commit/" in request.url.path:
            return Fault(status=500)
        return Fault(status=403) if request.method == "DELETE" else None

    server.fault = broken
    with pytest.raises(MergeError, match=rf"an empty repo is left at {server.url}/{repo_id}: delete it"):
        publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 0


def test_what_somebody_else_put_there_is_never_deleted(server: LocalHub, folder: Path, repo_id: str):
    def meddle(request):
        if "/commit/" in request.url.path and commits(server, repo_id) == 0:
            server.store.commit(repo_id, {"theirs.txt": b"precious"})

    server.fault = meddle
    with pytest.raises(MergeError, match="Somebody else has committed"):
        publish(ADA, folder, repo_id)
    assert server.store.read(repo_id, "theirs.txt").read_bytes() == b"precious"


def test_a_hub_that_goes_away_after_the_commit_leaves_it(server: LocalHub, folder: Path, repo_id: str):
    committed = False

    def choose(request):
        nonlocal committed
        if committed:
            return Fault(drop=True)
        committed = "/commit/" in request.url.path
        return Fault(lose_answer=True) if committed else None

    server.fault = choose
    with pytest.raises(MergeError, match=rf"not known whether the commit was made: look at {server.url}/{repo_id}"):
        publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 1


def test_a_hub_that_goes_away_in_the_middle_is_named(server: LocalHub, folder: Path, repo_id: str, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses, 23 seconds in all
    server.fault = always(Fault(drop=True), path="/preupload/")
    with pytest.raises(MergeError, match=r"does not answer.*nothing is left on the Hub"):
        publish(ADA, folder, repo_id)
    assert server.store.find(repo_id) is None


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_leaving_the_loop_cancels(server: LocalHub, folder: Path, repo_id: str, steps: int):
    upload = ADA.publish(folder, repo_id, private=True, message="Merge")
    for _ in range(steps):
        next(upload)
    assert server.store.find(repo_id)
    upload.close()  # type: ignore[attr-defined]
    assert server.store.find(repo_id) is None


def test_a_silent_hub_does_not_hold_a_publication_for_ever(server: LocalHub, folder: Path, repo_id: str):
    server.fault = times(1, Fault(delay=5), path="/api/repos/create")
    with pytest.raises(MergeError, match=r"does not answer.*this attempt made it"):
        publish(Hub(ADA_TOKEN, HASTY), folder, repo_id)


def test_no_token_in_what_is_published(server: LocalHub, folder: Path, repo_id: str):
    publish(ADA, folder, repo_id)
    for file in server.store.files(repo_id):
        assert ADA_TOKEN.encode() not in server.store.read(repo_id, file).read_bytes()
