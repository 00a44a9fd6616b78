"""Publishing: one commit makes a repo appear whole, or what is left is said."""

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from merging.checkpoint import open_checkpoint
from merging.errors import Kept, MergeError
from merging.hub import Delivery, Hub
from merging.hub import publish as steps_of
from merging.hub.delivery import Content
from merging.journal import Journal
from merging.progress import Progress
from merging.recipe import ModelRef
from space.localhub import Fault, LocalHub
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN
from tests.merging.hubs import ADA, ANYONE, BOB, HASTY, QUICK, always, times

CARD = "---\nlicense: mit\nbase_model: acme/base\n---\n\n# A merge\n"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


class Killed(BaseException):
    """In the place of a signal."""


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


def deliver(hub: Hub, repo_id: str, private: bool = True) -> Delivery:
    return hub.deliver(repo_id, private=private, message="Merge with Alloy")


def journal_of(folder: Path) -> Path:
    return folder.with_suffix(".journal")


def publish(hub: Hub, folder: Path, repo_id: str, private: bool = True) -> str:
    """The address."""
    delivery = deliver(hub, repo_id, private)
    list(steps_of(delivery, folder, journal_of(folder)))
    assert not journal_of(folder).exists()
    return delivery.url


def shown(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")}


def commits(server: LocalHub, repo_id: str) -> int:
    return len(list(server.store.history(repo_id))) - 1  # but the one that it starts with


@pytest.mark.parametrize("private", [True, False])
def test_a_folder_becomes_a_repo(server: LocalHub, folder: Path, repo_id: str, private: bool):
    assert publish(ADA, folder, repo_id, private) == f"{server.url}/{repo_id}"
    repo = server.store.repo(repo_id)
    assert repo.private is private
    assert commits(server, repo_id) == 1
    assert server.store.files(repo_id).keys() - {".gitattributes"} == shown(folder)
    for file in shown(folder):
        assert server.store.read(repo_id, file).read_bytes() == (folder / file).read_bytes()
    assert open_checkpoint(ADA.open(ModelRef(repo_id))).tensors.keys() == {"a", "b"}


def test_progress_goes_up_to_the_whole_shard_by_shard(folder: Path, repo_id: str):
    delivery = deliver(ADA, repo_id)
    steps: list[tuple[Progress, str]] = [
        (step, delivery.url) for step in steps_of(delivery, folder, journal_of(folder))
    ]
    total = sum((folder / f).stat().st_size for f in shown(folder))
    sent = [step.done_bytes for step, _ in steps]
    assert sent == sorted(sent) and sent[0] == 0 and sent[-1] == total
    assert {step.total_bytes for step, _ in steps} == {total}
    assert list(dict.fromkeys(step.tensor for step, _ in steps)) == ["the model card", *SHARDS, "the other files", ""]
    assert [url for _, url in steps if url] == [delivery.url]


def test_under_ones_own_name(server: LocalHub, folder: Path, repo_id: str):
    mine = repo_id.replace("acme/", "bob/")
    assert publish(BOB, folder, mine).endswith(mine)


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
    assert publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=503), Fault(drop=True), Fault(status=429, headers={"Retry-After": "0"})],
    ids=["500", "503", "drop", "429"],
)
def test_a_commit_that_fails_is_made_again(server: LocalHub, folder: Path, repo_id: str, fault: Fault):
    server.fault = times(1, fault, path="/commit/")
    assert publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 1


@pytest.mark.parametrize("status", [403, 503])  # 403: the address that the Hub had given has expired
def test_faults_of_the_upload_are_survived(server: LocalHub, folder: Path, repo_id: str, status: int):
    faults = iter([Fault(status=status)])
    server.fault = lambda request: next(faults, None) if request.method == "PUT" else None
    assert publish(ADA, folder, repo_id)


def test_what_is_left_when_nobody_can_commit_is_gone_on_with(server: LocalHub, folder: Path, repo_id: str):
    server.fault = always(Fault(status=500), path="/commit/")
    with pytest.raises(Kept, match=rf"has a fault \(status 500\).*{repo_id} is left, with 2 shards sent to it, none"):
        publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 0
    server.fault, before = None, len(server.requests)
    assert publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 1
    assert not [r for r in server.requests[before:] if r.method == "PUT" or r.path.endswith("/repos/create")]


@pytest.mark.parametrize("may_delete", [True, False])
def test_who_may_not_commit_leaves_nothing_or_is_told_what(
    server: LocalHub, folder: Path, repo_id: str, may_delete: bool
):
    def broken(request):
        if "/commit/" in request.url.path:
            return Fault(status=403)
        return Fault(status=403) if request.method == "DELETE" and not may_delete else None

    server.fault = broken
    left = (
        "nothing is left on the Hub" if may_delete else rf"an empty repo is left at {server.url}/{repo_id}: delete it"
    )
    with pytest.raises(MergeError, match=left):
        publish(ADA, folder, repo_id)
    assert server.store.find(repo_id) is None if may_delete else commits(server, repo_id) == 0
    server.fault = None
    if may_delete:
        assert publish(ADA, folder, repo_id)  # so the name is free again


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_make_a_repo_is_not_told_that_one_is_left(
    server: LocalHub, folder: Path, repo_id: str, status: int
):
    server.fault = always(Fault(status=status), path="/repos/create")
    with pytest.raises(MergeError) as found:
        publish(ADA, folder, repo_id)
    assert "left" not in str(found.value)


def test_a_repo_that_somebody_makes_at_the_same_moment_is_theirs(server: LocalHub, folder: Path, repo_id: str):
    """Also when it is tried again: it is as empty as one of ours would be."""

    def meddle(request):
        if request.url.path.endswith("/repos/create") and not server.store.find(repo_id):
            server.store.create_repo(repo_id, private=True)

    server.fault = meddle
    for _ in range(2):
        with pytest.raises(MergeError, match="exists already on the Hub, and was not touched") as found:
            publish(ADA, folder, repo_id)
        assert "left" not in str(found.value) and "delete" not in str(found.value)
    assert server.store.find(repo_id) and commits(server, repo_id) == 0


def test_an_earlier_card_is_told_of(server: LocalHub, folder: Path, repo_id: str):
    """The commit was made, its answer and all that was asked after it were lost; then the card was edited."""
    committed = threading.Event()

    def away(request):
        if committed.is_set():
            return Fault(drop=True)
        if "/commit/" in request.url.path:
            committed.set()
            return Fault(lose_answer=True)
        return None

    server.fault = away
    with pytest.raises(Kept, match="not known whether the commit was made"):
        publish(ADA, folder, repo_id)
    server.fault = None
    with (folder / "README.md").open("a") as card:
        card.write("A word more.\n")
    delivery = deliver(ADA, repo_id)
    list(steps_of(delivery, folder, journal_of(folder)))
    assert commits(server, repo_id) == 1 and "card of that time" in delivery.note


def test_what_is_being_sent_ends_when_it_is_given_up(folder: Path):
    content = Content(SHARDS[0], folder / SHARDS[0])
    content.given_up = threading.Event()
    with content.as_file() as file:
        assert len(file.read(1000)) == 1000 and file.tell() == 1000
        content.given_up.set()
        with pytest.raises(MergeError, match="given up"):
            file.read(1000)


def test_the_address_is_written_down_as_soon_as_it_is_published(folder: Path, repo_id: str, tmp_path: Path):
    delivery = ADA.deliver(repo_id, private=True, message="Merge", receipt=tmp_path / "receipt")
    for _ in steps_of(delivery, folder, journal_of(folder)):
        pass
    assert (tmp_path / "receipt").read_text() == delivery.url


def test_what_somebody_else_put_there_is_never_deleted(server: LocalHub, folder: Path, repo_id: str):
    def meddle(request):
        if "/commit/" in request.url.path and commits(server, repo_id) == 0:
            server.store.commit(repo_id, {"theirs.txt": b"precious"})

    server.fault = meddle
    with pytest.raises(MergeError, match="Somebody else has committed") as found:
        publish(ADA, folder, repo_id)
    assert "delete it" not in str(found.value)
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
    with pytest.raises(Kept, match=rf"does not answer.*{repo_id} is left, with nothing sent to it, none of it visible"):
        publish(ADA, folder, repo_id)
    server.fault = None
    assert publish(ADA, folder, repo_id) and commits(server, repo_id) == 1


@pytest.mark.parametrize("written", range(1, 5))
def test_after_a_kill_it_goes_on(server: LocalHub, folder: Path, repo_id: str, written: int, monkeypatch):
    """After each entry of the journal, as a process that is no more: nothing is taken back, nothing is sent twice."""
    add, left = Journal.add, written

    def then_dies(journal: Journal, kind: str, **facts: object) -> None:
        nonlocal left
        add(journal, kind, **facts)
        left -= 1
        if not left:
            raise Killed

    before = len(server.requests)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "add", then_dies)
        patch.setattr(Delivery, "take_back", lambda delivery: "")
        publish(ADA, folder, repo_id)
    journal = [json.loads(line)["kind"] for line in journal_of(folder).read_text().splitlines()]
    assert journal == ["making", "made", "sent", "sent"][:written]
    assert publish(ADA, folder, repo_id)
    assert commits(server, repo_id) == 1
    for file in shown(folder):
        assert server.store.read(repo_id, file).read_bytes() == (folder / file).read_bytes()
    assert sum(r.method == "PUT" and r.path.startswith("/lfs/") for r in server.requests[before:]) == len(SHARDS)


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(drop=True), Fault(lose_answer=True)], ids=["500", "drop", "lost answer"]
)
def test_whichever_request_fails_it_is_published_once(
    server: LocalHub, folder: Path, repo_id: str, fault: Fault, monkeypatch
):
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))  # the client's own pauses
    for number in itertools.count(1):
        place, asked = f"{repo_id}-{number}", itertools.count(1)
        server.fault = lambda request, n=number, asked=asked: fault if next(asked) == n else None
        for _ in range(4):
            with suppress(Kept):
                assert publish(ADA, folder, place)
                break
        else:
            pytest.fail(f"never published when request {number} fails")
        assert commits(server, place) == 1
        for file in shown(folder):
            assert server.store.read(place, file).read_bytes() == (folder / file).read_bytes()
        if next(asked) <= number:
            break
    assert number > 10


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_leaving_the_loop_cancels(server: LocalHub, folder: Path, repo_id: str, steps: int):
    upload = steps_of(deliver(ADA, repo_id), folder, journal_of(folder))
    for step in upload:
        if step.tensor == ["the model card", *SHARDS][steps - 1]:
            break
    upload.close()
    time.sleep(0.2)  # in which what was waiting would have been sent
    assert server.store.find(repo_id) is None
    assert publish(ADA, folder, repo_id)


def test_a_silent_hub_does_not_hold_a_publication_for_ever(server: LocalHub, folder: Path, repo_id: str):
    server.fault = always(Fault(delay=5), path="/api/repos/create")
    with pytest.raises(MergeError, match=r"does not answer"):
        publish(Hub(ADA_TOKEN, HASTY), folder, repo_id)


def test_no_token_in_what_is_published(server: LocalHub, folder: Path, repo_id: str):
    publish(ADA, folder, repo_id)
    for file in server.store.files(repo_id):
        assert ADA_TOKEN.encode() not in server.store.read(repo_id, file).read_bytes()


@pytest.mark.parametrize(("given", "disabled"), [(None, True), ("0", False)])
def test_uploads_go_over_http_unless_one_has_chosen(given: str | None, disabled: bool):
    """In a process of its own: the client reads its environment once."""
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_DISABLE_XET"}
    env |= {} if given is None else {"HF_HUB_DISABLE_XET": given}
    code = (
        "from merging.hub import Hub; Hub().client.ask('x', lambda: 0); from huggingface_hub import constants;"
        "print(constants.HF_HUB_DISABLE_XET)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(disabled)
