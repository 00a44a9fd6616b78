"""Publishing while merging: two shards on disk, one commit, and what a fault or a kill leaves can be gone on with."""

import errno
import itertools
import random
import signal
import time
from dataclasses import replace

import pytest
import torch

from merging.__main__ import main
from merging.checkpoint import open_checkpoint
from merging.direct import DirectFile
from merging.engine import Options, merge
from merging.errors import Kept, MergeError, Passing, SignedOut
from merging.hub import Hub, open_models, verify
from merging.recipe import ModelRef, all_models, to_yaml
from merging.report import CARD, RECIPE, REPORT
from space.localhub import Fault, LocalHub
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN
from tests.merging.hubs import ADA, QUICK, always, times
from tests.merging.killed import FINE, REFUSED, deliver_disturbed, run
from tests.merging.models import fine_tunes, opened, recipe_of, write_model

SHARDS = 4
names = itertools.count(1)
SMALL = Options(shard_bytes=50_000, threads=1, device="cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    g = torch.Generator().manual_seed(0)
    base = {f"w{i}": torch.randn(100, 100, generator=g) for i in range(SHARDS)}
    (tune,) = fine_tunes(base, 1)
    return write_model(folder / "base", base), write_model(folder / "tune", tune)


@pytest.fixture
def recipe(models):
    return recipe_of("task_arithmetic", [models[1]], models[0], weight=0.5)


@pytest.fixture
def from_hub(server, models):
    """The same models on the Hub, from where they are streamed."""
    names = [f"acme/kept-{folder.name}" for folder in models]
    for name, folder in zip(names, models, strict=True):
        if server.store.find(name) is None:
            server.store.create_repo(name, private=True)
            server.store.commit(name, {p.name: p.read_bytes() for p in folder.iterdir()})
    server.requests.clear()
    return recipe_of("task_arithmetic", names[1:], names[0], weight=0.5)


@pytest.fixture(scope="module")
def expected(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected") / "out"
    recipe = recipe_of("task_arithmetic", [models[1]], models[0], weight=0.5)
    list(merge(recipe, opened(recipe), out, SMALL))
    return {p.name: p.read_bytes() for p in out.glob("*.safetensors")}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The client's own pauses are of whole seconds."""
    import time

    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))


def deliver(recipe, place, repo_id, hub=ADA, keeps_files=False):
    delivery = hub.deliver(repo_id, private=True, message="Merge", keeps_files=keeps_files)
    notes, checkpoints = [], open_models(all_models(recipe), hub)
    try:
        for step in merge(recipe, checkpoints, place, SMALL, delivery=delivery):
            assert keeps_files or shards_on_disk(place.parent) <= 2
            notes += [step.note] if step.note else []
    finally:
        for checkpoint in checkpoints.values():
            checkpoint.source.close()
    return delivery, notes


def shards_on_disk(folder):
    return len([p for p in folder.glob(".merge*/*") if p.name.endswith((".safetensors", ".part"))])


def commits(server: LocalHub, repo_id: str) -> int:
    return len(list(server.store.history(repo_id))) - 1  # but the one that it starts with


def published(server: LocalHub, repo_id: str):
    files = server.store.files(repo_id)
    return {name: server.store.read(repo_id, name).read_bytes() for name in files if name.endswith(".safetensors")}


def sent_shards(server: LocalHub) -> int:
    return sum(r.method == "PUT" and r.path.startswith("/lfs/") and r.status == 200 for r in server.requests)


def test_straight_to_the_hub(server, recipe, expected, tmp_path, repo_id):
    delivery, _ = deliver(recipe, tmp_path / "merge", repo_id)
    assert delivery.url == f"{server.url}/{repo_id}"
    assert commits(server, repo_id) == 1 and server.store.repo(repo_id).private
    assert published(server, repo_id) == expected
    files = server.store.files(repo_id)
    assert {CARD, RECIPE, REPORT, "config.json", "model.safetensors.index.json"} < files.keys()
    assert open_checkpoint(ADA.open(ModelRef(repo_id))).tensors.keys() == {f"w{i}" for i in range(SHARDS)}
    for name in (CARD, RECIPE, REPORT):
        assert str(tmp_path.parent) not in server.store.read(repo_id, name).read_text()
    assert repo_id in server.store.read(repo_id, CARD).read_text()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_and_the_repo_hold_the_same(server, recipe, expected, tmp_path, repo_id):
    deliver(recipe, tmp_path / "out", repo_id, keeps_files=True)
    files = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*")}
    there = {name: server.store.read(repo_id, name).read_bytes() for name in server.store.files(repo_id)}
    assert {n: b for n, b in files.items() if n != RECIPE} == {
        n: b for n, b in there.items() if n not in (RECIPE, ".gitattributes")
    }
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_more_than_two_shards_are_on_disk(server, recipe, tmp_path, repo_id):
    most = 0
    delivery = ADA.deliver(repo_id, private=True, message="Merge", keeps_files=False)
    server.fault = always(Fault(delay=0.1), path="/lfs/")
    for _ in merge(recipe, opened(recipe), tmp_path / "merge", SMALL, delivery=delivery):
        most = max(most, shards_on_disk(tmp_path))
    assert 1 <= most <= 2


def test_a_shard_that_arrived_just_before_a_kill_leaves_the_disk(server, recipe, expected, tmp_path, repo_id):
    status = run(deliver_disturbed, to_yaml(recipe), tmp_path / "merge", 5, "entry", repo_id)  # "sent", of the first
    assert status == -signal.SIGKILL and shards_on_disk(tmp_path) >= 1
    server.fault = always(Fault(delay=0.1), path="/lfs/")
    deliver(recipe, tmp_path / "merge", repo_id)
    assert published(server, repo_id) == expected and commits(server, repo_id) == 1


def test_a_fault_while_one_shard_is_sent_does_not_disturb_the_next(server, recipe, expected, tmp_path, repo_id):
    server.fault = times(3, Fault(status=503), path="/lfs/")
    _, notes = deliver(recipe, tmp_path / "merge", repo_id)  # in one attempt
    assert published(server, repo_id) == expected and not notes


def test_the_repo_is_made_when_the_first_shard_is_ready(server, recipe, tmp_path, repo_id):
    found = []
    server.fault = lambda request: found.append((request.url.path, len(list(tmp_path.glob(".merge*/*.safetensors")))))
    deliver(recipe, tmp_path / "merge", repo_id)
    assert next(complete for path, complete in found if path == "/api/repos/create") >= 1


def test_a_name_that_is_taken_stops_it_before_the_weights(server, recipe, tmp_path, repo_id):
    server.store.create_repo(repo_id)
    head = server.store.commit(repo_id, {"notes.txt": b"mine"})
    with pytest.raises(MergeError, match="exists already on the Hub, and was not touched"):
        deliver(recipe, tmp_path / "merge", repo_id)
    assert server.store.revision(repo_id).sha == head
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [1, 2])
def test_leaving_takes_the_repo_back(server, recipe, tmp_path, repo_id, after):
    delivery = ADA.deliver(repo_id, private=True, message="Merge", keeps_files=False)
    steps = merge(recipe, opened(recipe), tmp_path / "merge", SMALL, delivery=delivery)
    server.fault = always(Fault(delay=0.3), path="/lfs/")
    while sum(e["kind"] == "sent" for e in (delivery.stage.journal.entries if delivery.stage else ())) < after:
        next(steps)
    assert server.store.find(repo_id)
    steps.close()
    assert server.store.find(repo_id) is None and list(tmp_path.iterdir()) == [], delivery.left


def test_a_hub_that_goes_away_leaves_what_can_be_gone_on_with(server, recipe, expected, tmp_path, repo_id):
    put = []

    def choose(request):
        put.append(request.method == "PUT")
        return Fault(drop=True) if sum(put) > 2 else None

    server.fault = choose
    with pytest.raises(Passing, match=r"does not answer.*is left, with 2 shards.*finished shards are kept"):
        deliver(recipe, tmp_path / "merge", repo_id)
    server.fault = None
    server.requests.clear()
    _, notes = deliver(recipe, tmp_path / "merge", repo_id)
    assert any("Going on where an earlier run was stopped" in note for note in notes)
    assert published(server, repo_id) == expected and commits(server, repo_id) == 1
    assert sent_shards(server) == SHARDS - 2


def test_a_token_that_expires_is_asked_for_anew(server, recipe, expected, tmp_path, repo_id):
    refused = Fault(status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
    server.fault = always(refused, path="/commit/")
    with pytest.raises(SignedOut, match=r"does not accept your token.*Sign in again"):
        deliver(recipe, tmp_path / "merge", repo_id)
    server.fault = None
    server.requests.clear()
    deliver(recipe, tmp_path / "merge", repo_id, Hub(ADA_TOKEN, QUICK))
    assert sent_shards(server) == 0
    assert published(server, repo_id) == expected and commits(server, repo_id) == 1


def test_a_repo_that_is_deleted_meanwhile_is_made_again(server, recipe, expected, tmp_path, repo_id):
    server.fault = always(Fault(status=503), path="/commit/")
    with pytest.raises(Passing):
        deliver(recipe, tmp_path / "merge", repo_id)
    server.fault = None
    server.store.delete_repo(repo_id)
    deliver(recipe, tmp_path / "merge", repo_id)
    assert published(server, repo_id) == expected


def test_what_somebody_else_commits_is_never_touched(server, recipe, tmp_path, repo_id):
    def meddle(request):
        if "/commit/" in request.url.path and commits(server, repo_id) == 0:
            server.store.commit(repo_id, {"theirs.txt": b"precious"})

    server.fault = meddle
    for _ in range(2):
        with pytest.raises(Kept, match="Somebody else has committed"):
            deliver(recipe, tmp_path / "merge", repo_id)
    assert server.store.files(repo_id).keys() == {".gitattributes", "theirs.txt"}


@pytest.mark.parametrize("answer", [Fault(lose_answer=True), Fault(status=503), Fault(status=429)])
@pytest.mark.parametrize("path", ["/commit/", "/preupload/", "/objects/batch", "/lfs/", "/api/repos/create"])
def test_every_answer_may_be_lost_once(server, recipe, expected, tmp_path, repo_id, answer, path):
    server.fault = times(1, answer, path=path)
    for _ in range(3):
        try:
            deliver(recipe, tmp_path / "merge", repo_id)
            break
        except Passing:
            continue
    assert published(server, repo_id) == expected and commits(server, repo_id) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_stale_parent_without_another_commit_is_an_error(server, recipe, tmp_path, repo_id):
    server.fault = always(Fault(status=412), path="/commit/")
    with pytest.raises(Kept, match="412"):
        deliver(recipe, tmp_path / "merge", repo_id)
    assert commits(server, repo_id) == 0


# --- in the manner of SQLite: disturbed at the n-th moment, for n = 1, 2, ... until nothing is disturbed


def new_name() -> str:
    return f"acme/disturbed-{next(names)}"


def moments(request, sample):
    return range(1, 1000) if request.config.getoption("--soak") else sample


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(drop=True, reset=True), Fault(lose_answer=True), Fault(status=429)],
    ids=["500", "reset", "lost", "429"],
)
def test_the_nth_request_fails(server, from_hub, expected, tmp_path, request, fault):
    for n in moments(request, (2, 9, 16, 23, 30, 37)):
        repo_id, seen = new_name(), list[str]()

        def choose(asked, n=n, seen=seen):
            seen.append(asked.url.path)
            return fault if len(seen) == n else None

        server.fault = choose
        try:
            deliver(from_hub, tmp_path / "merge", repo_id)
        except Passing:
            assert server.store.find(repo_id) is None or commits(server, repo_id) <= 1
            server.fault = None
            deliver(from_hub, tmp_path / "merge", repo_id)
        assert published(server, repo_id) == expected, f"request {n} failed: {seen[n - 1]}"
        assert commits(server, repo_id) == 1 and list(tmp_path.iterdir()) == []
        if len(seen) < n:
            return


@pytest.mark.parametrize("how", ["kill", "torn", "fail", "entry"])
def test_killed_at_the_nth_moment(server, from_hub, expected, tmp_path, request, how):
    """Or a write that fails, after which the same goes on as well."""
    for n in moments(request, {"kill": (9, 25), "torn": (30,), "fail": (12, 28), "entry": (3, 5, 7, 11)}[how]):
        place, repo_id = tmp_path / f"{n}" / "merge", new_name()
        place.parent.mkdir()
        status = run(deliver_disturbed, to_yaml(from_hub), place, n, how, repo_id)
        assert status in (FINE, REFUSED if how == "fail" else -signal.SIGKILL)
        if status != FINE:
            assert server.store.find(repo_id) is None or published(server, repo_id) in ({}, expected)
            if how in ("entry", "fail") or list(place.parent.iterdir()):
                try:
                    deliver(from_hub, place, repo_id)
                except MergeError as error:  # killed between the commit and the end of its journal
                    assert "exists already" in str(error) and not list(place.parent.glob(".merge*.partial"))
        assert published(server, repo_id) == expected, f"killed at {how} {n}"
        assert commits(server, repo_id) == 1
        if status == FINE:
            return


SEEDS = 20
KINDS = [
    Fault(status=500), Fault(status=503), Fault(status=429, headers={"retry-after": "1"}), Fault(drop=True, reset=True),
    Fault(drop=True), Fault(lose_answer=True), Fault(delay=0.05), Fault(cut_after=1), Fault(delay=1.0),
]  # fmt: skip


def test_a_fifth_of_all_requests_fails(server, from_hub, expected, tmp_path, request):
    hasty = replace(QUICK, silence=0.5, answer=0.5, attempts=4)
    for seed in range(SEEDS if request.config.getoption("--soak") else 2):
        chance, repo_id = random.Random(seed), new_name()
        server.fault = lambda _, chance=chance: chance.choice(KINDS) if chance.random() < 0.2 else None
        for _ in range(50):
            try:
                deliver(from_hub, tmp_path / "merge", repo_id, Hub(ADA_TOKEN, hasty))
                break
            except Passing:
                continue
        server.fault = None
        assert published(server, repo_id) == expected, f"seed {seed}"
        assert commits(server, repo_id) == 1 and list(tmp_path.iterdir()) == [], f"seed {seed}"


# --- the command line, and verification


@pytest.fixture
def command(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", ADA_TOKEN)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))

    def run(*arguments):
        try:
            return main(list(map(str, arguments))), capsys.readouterr().err
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return run


def test_from_the_command_line(server, expected, command, tmp_path, repo_id):
    status, said = command("merge", tmp_path / "recipe.yaml", "--publish", repo_id, "--shard-size", "50kB")
    assert status == 0 and f"Published at {server.url}/{repo_id}." in said, said
    assert published(server, repo_id) == expected and server.store.repo(repo_id).private
    status, said = command("verify", repo_id)
    assert status == 0 and "4 of 4 shards read whole" in said
    status, said = command("verify", repo_id, "--share", "0.5")
    assert status == 0 and "2 of 4 shards read whole" in said
    with pytest.raises(SystemExit):
        command("verify", repo_id, "--share", "1.5")


def test_the_same_command_goes_on_at_the_commits_that_it_began_with(
    server, from_hub, expected, command, tmp_path, monkeypatch
):  # fmt: skip
    """Though the branch of a model has moved since. What stops it is a full disk, which somebody then clears."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(from_hub))
    given = "merge", tmp_path / "recipe.yaml", tmp_path / "out", "--shard-size", "50kB"
    begin, begun = DirectFile.open, itertools.count(1)

    def until_full(file):
        if next(begun) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        begin(file)

    monkeypatch.setattr(DirectFile, "open", until_full)
    status, said = command(*given)
    assert status == 1 and "2 finished shards are kept: the same merge goes on from there" in said, said
    (tune,) = (one.model.path for one in from_hub.models)
    before = server.store.revision(tune).sha
    server.store.commit(tune, {"notes.txt": str(time.time()).encode()})
    status, said = command(*given)
    assert status == 0 and "models are read at the commits of that time" in said, said
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.safetensors")} == expected
    assert before in (tmp_path / "out" / RECIPE).read_text() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say where the merge goes: a folder, or --publish"),
        (["--public"], "Say which with --publish"),
        (["--publish", "name"], "has no owner. Write ada/name"),
        (["--publish", "bob/name"], "You cannot publish under bob, but under ada, acme"),
        (["--publish", "a b/c"], "is not a repo ID"),
    ],
)
def test_what_cannot_be_published_is_refused_at_once(server, command, tmp_path, arguments, message):
    status, said = command("merge", tmp_path / "recipe.yaml", *arguments)
    assert status in (1, 2) and message in said and len(said.splitlines()) == 1


def test_a_token_that_may_only_read(server, command, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", ADA_READ_TOKEN)
    assert "may only read" in command("merge", tmp_path / "recipe.yaml", "--publish", "ada/x")[1]


def verified(repo_id, **options):
    steps = verify(ADA.open_repo(ModelRef(repo_id)), **options)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_published_model_that_was_changed_is_found_out(server, recipe, tmp_path, repo_id):
    deliver(recipe, tmp_path / "merge", repo_id)
    assert verified(repo_id).faults == ()
    name = "model-00002-of-00004.safetensors"
    good = server.store.read(repo_id, name).read_bytes()
    server.store.commit(repo_id, {name: good[:-1] + bytes([good[-1] ^ 1])})
    (fault,) = verified(repo_id).faults
    assert f"The Hub keeps {name} as" in fault and f"{name} reads as" in fault
    assert [shard.file for shard in verified(repo_id).shards if shard.fault] == [name]
    server.store.commit(repo_id, {name: good[:-1]})
    found = verified(repo_id)
    assert "bytes, but was written with" in found.faults[0]
    assert [shard.read for shard in found.shards] == ["whole", "nothing", "whole", "whole"]


def test_a_share_is_some_whole_shards_and_the_headers_of_the_others(server, recipe, tmp_path, repo_id):
    deliver(recipe, tmp_path / "merge", repo_id)
    server.requests.clear()
    found = verified(repo_id, share=0.25)
    assert found.faults == () and sorted(s.read for s in found.shards) == ["header", "header", "header", "whole"]
    assert found.read_bytes == found.total_bytes == found.shards[0].nbytes
    assert len({tuple(s.read for s in verified(repo_id, share=0.25, seed=seed).shards) for seed in range(20)}) > 1


def test_a_shard_with_other_tensors_is_found_out_by_its_header(server, recipe, tmp_path, repo_id):
    """Also where the Hub keeps no checksum of it, and its bytes are not read."""
    deliver(recipe, tmp_path / "merge", repo_id)
    name = "model-00003-of-00004.safetensors"
    good = server.store.read(repo_id, name).read_bytes()
    server.store.commit(repo_id, {name: good.replace(b'"w2"', b'"v2"')})
    seed = next(n for n in range(50) if verified(repo_id, share=0.25, seed=n).shards[2].read == "header")
    (fault,) = verified(repo_id, share=0.25, seed=seed).faults
    assert fault.endswith(f"The header of {name} tells otherwise of 'v2' than the report.")


def test_bits_that_are_changed_on_the_way_are_found_out(server, recipe, tmp_path, repo_id):
    """What arrives is judged by the report, whatever the Hub says that it keeps."""
    deliver(recipe, tmp_path / "merge", repo_id)
    name = "model-00004-of-00004.safetensors"
    server.fault = always(Fault(flip_bit=20_000), path=server.store.files(repo_id)[name].sha256)
    (fault,) = verified(repo_id).faults
    assert fault.startswith(f"{name} reads as")


def test_what_alloy_has_not_published_cannot_be_verified(server, repo_id):
    server.store.create_repo(repo_id)
    server.store.commit(repo_id, {"config.json": b"{}"})
    with pytest.raises(MergeError, match=r"no merge_report\.json"):
        verified(repo_id)
