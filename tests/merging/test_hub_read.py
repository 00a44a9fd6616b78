"""Reading from the Hub: what is found, what is refused and in which words, and what faults are survived."""

import hashlib
import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merging.errors import MergeError
from merging.hub import Hub, HubRepo, check_repo_id, open_model
from merging.patience import Patience
from merging.recipe import ModelRef
from space.localhub import Fault, LocalHub
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN, BOB_TOKEN
from tests.merging.hubs import ADA, ANYONE, BOB, HASTY, QUICK, always, times
from tests.merging.models import write_model

BYTES = random.Random(0).randbytes(3_000_000)
FILE = "model.safetensors"


@pytest.fixture
def repo(server: LocalHub, repo_id: str) -> HubRepo:
    server.store.create_repo(repo_id)
    server.store.commit(repo_id, {FILE: BYTES, "config.json": b"{}"})
    return opened(ANYONE, repo_id)


def opened(hub: Hub, repo_id: str, revision: str | None = None) -> HubRepo:
    found = hub.open(ModelRef(repo_id, revision))
    assert isinstance(found, HubRepo)
    return found


def hasty(repo: HubRepo, fault: Fault) -> HubRepo:
    """The same repo, read without much patience for silence where the fault is a silence."""
    if fault.delay:
        repo.client = Hub(False, HASTY).client
    return repo


def resolves(server: LocalHub) -> int:
    return sum("/resolve/" in r.path for r in server.requests)


def test_a_repo_is_pinned_and_listed(repo: HubRepo, server: LocalHub):
    sha = server.store.revision(repo.repo_id).sha
    assert (repo.label, repo.revision) == (repo.repo_id, sha)
    assert repo.sizes()[FILE] == len(BYTES) and repo.sizes()["config.json"] == 2
    server.store.commit(repo.repo_id, {"config.json": b'{"a": 1}'})
    assert repo.read("config.json", 0, 2) == b"{}"
    assert opened(ANYONE, repo.repo_id, sha).revision == sha


def test_the_checksum_of_a_shard_is_known(repo: HubRepo):
    assert repo.sha256(FILE) == hashlib.sha256(BYTES).hexdigest()
    assert repo.sha256("config.json") is None


@pytest.mark.parametrize(
    ("start", "end"), [(0, 8), (0, 3_000_000), (1_234_567, 2_000_001), (2_999_999, 3_000_000), (5, 5)]
)
def test_ranges_are_what_was_asked_for(repo: HubRepo, start: int, end: int):
    assert repo.read(FILE, start, end) == BYTES[start:end]


def test_reading_past_the_end_is_refused(repo: HubRepo):
    with pytest.raises(MergeError, match="has 3,000,000 bytes, but bytes up to 3,000,001 are needed"):
        repo.read(FILE, 2_999_999, 3_000_001)


def test_threads_share_requests(repo: HubRepo, server: LocalHub):
    server.requests.clear()
    block = 20_000
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda at: repo.read(FILE, at, at + block), range(0, len(BYTES), block)))
    assert b"".join(parts) == BYTES
    assert len(server.requests) < len(parts) / 3


def test_a_file_is_resolved_once(repo: HubRepo, server: LocalHub):
    server.requests.clear()
    for at in range(0, len(BYTES), 500_000):
        repo.read(FILE, at, at + 10)
    assert resolves(server) == 0  # the probe has done it already


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(drop=True),
        Fault(drop=True, reset=True),
        Fault(cut_after=100_000),
        Fault(cut_after=100_000, reset=True),
        Fault(ignore_range=True),
        Fault(delay=1.0),
        Fault(delay=1.0, delay_after=70_000),
        Fault(status=403),
    ],
    ids=lambda f: repr(f)[:60],
)
def test_faults_that_pass_are_survived(repo: HubRepo, server: LocalHub, fault: Fault):
    server.fault = times(2, fault, method="GET")
    if fault.status == 403:
        server.fault = times(1, fault, method="GET")
    assert hasty(repo, fault).read(FILE, 200_000, 2_900_000) == BYTES[200_000:2_900_000]


def test_a_read_goes_on_where_it_was_cut(repo: HubRepo, server: LocalHub):
    """A link that dies every 300 kB still brings the file, and brings each byte once."""
    server.fault = always(Fault(cut_after=300_000), method="GET")
    assert repo.read(FILE, 0, len(BYTES)) == BYTES
    assert len(server.requests) < 30


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(drop=True), Fault(ignore_range=True), Fault(delay=5)])
def test_a_dead_hub_is_given_up_with_words(repo: HubRepo, server: LocalHub, fault: Fault):
    server.fault = always(fault, method="GET")
    server.requests.clear()
    with pytest.raises(
        MergeError, match=r"stopped answering while reading acme/.*safetensors \(byte 500,000 of 3,000,0"
    ):
        hasty(repo, fault).read(FILE, 500_000, 600_000)
    assert len(server.requests) <= 2 * QUICK.attempts  # each may be redirected


def test_a_file_that_ignores_ranges_is_not_downloaded_whole(repo: HubRepo, server: LocalHub):
    server.fault = always(Fault(ignore_range=True), method="GET")
    with pytest.raises(MergeError, match="answered with the whole file"):
        repo.read(FILE, 500_000, 500_001)


def test_a_rate_limit_is_waited_for_but_not_for_ever(repo: HubRepo, server: LocalHub):
    limited = {"RateLimit": '"resolvers";r=0;t=0'}
    server.fault = times(1, Fault(status=429, headers=limited), method="GET")
    assert repo.read(FILE, 500_000, 500_001) == BYTES[500_000:500_001]
    server.fault = always(Fault(status=429, headers={"RateLimit": '"resolvers";r=0;t=299'}), method="GET")
    server.requests.clear()
    with pytest.raises(MergeError, match="Try again in 300 seconds"):
        repo.read(FILE, 1_500_000, 1_500_001)
    assert len(server.requests) == 1


def test_nobody_asks_before_the_limit_ends(repo: HubRepo, server: LocalHub):
    """One request is told to wait; those that others would make meanwhile wait with it."""
    server.fault = times(1, Fault(status=429, headers={"Retry-After": "1"}), method="GET")
    server.requests.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(repo.read, FILE, 500_000, 500_010)
        while not server.requests:
            time.sleep(0.01)
        time.sleep(0.1)
        others = [pool.submit(repo.read, FILE, at, at + 10) for at in (1_000_000, 1_500_000, 2_000_000)]
        time.sleep(0.5)
        assert len(server.requests) == 1
        assert first.result() == BYTES[500_000:500_010]
        assert others[2].result() == BYTES[2_000_000:2_000_010]


def test_a_folder_is_opened_in_the_same_words_as_on_the_command_line(tmp_path: Path):
    here = write_model(tmp_path / "m", {"w": torch.ones(4)})
    assert open_model(ModelRef(str(here)), ANYONE).shards == (FILE,)
    with pytest.raises(MergeError, match=r"is a folder here, and folders have no revisions. Leave out @v1"):
        open_model(ModelRef(str(here), "v1"), ANYONE)
    with pytest.raises(MergeError, match=r"There is no folder ./missing. Give the folder of a model, or a Hub repo"):
        open_model(ModelRef("./missing"), ANYONE)


def test_an_address_that_expired_is_asked_for_anew(repo: HubRepo, server: LocalHub):
    repo.read(FILE, 0, 10)
    server.requests.clear()
    server.fault = times(1, Fault(status=403), path="/cdn")
    repo.addresses[FILE] = repo.addresses[FILE].replace("signature=", "signature=0")
    assert repo.read(FILE, 1_000_000, 1_000_010) == BYTES[1_000_000:1_000_010]
    assert resolves(server) == 1


def test_faults_at_random_leave_the_bytes_right(repo: HubRepo, server: LocalHub):
    chance = random.Random(1)
    kinds = [Fault(status=500), Fault(status=503), Fault(drop=True, reset=True), Fault(cut_after=50_000)]
    server.fault = lambda request: chance.choice(kinds) if chance.random() < 0.2 else None
    wide = opened(Hub(False, replace(QUICK, attempts=10)), repo.repo_id)
    blocks = [(at, min(at + 64_000, len(BYTES))) for at in range(0, len(BYTES), 64_000)]
    with ThreadPoolExecutor(4) as pool:
        assert b"".join(pool.map(lambda b: wide.read(FILE, *b), blocks)) == BYTES


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_call_is_made_again_after_a_fault(repo: HubRepo, server: LocalHub, status: int):
    server.fault = times(2, Fault(status=status), path="/api/models/")
    assert opened(ANYONE, repo.repo_id).revision == repo.revision


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=500), r"has a fault \(status 500\)"),
        (Fault(drop=True), "does not answer"),
        (Fault(delay=9), "does not answer"),
        (Fault(status=429, headers={"Retry-After": "7"}), "limit is reached. Try again in 7 seconds, or sign in"),
        (Fault(status=200, body=b"<html>sign in to this wifi</html>"), "is not an answer of the Hub"),
        (Fault(status=403, headers={"X-Error-Message": "Access to this resource is disabled."}), "has been disabled"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_hub_in_trouble_is_named(repo: HubRepo, server: LocalHub, fault: Fault, words: str):
    server.fault = always(fault, path="/api/models/")
    with pytest.raises(MergeError, match=words) as raised:
        Hub(False, HASTY if fault.delay else QUICK).open(ModelRef(repo.repo_id))
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    "path",
    ["acme/pocket-revers", "acme/pocket-revrese", "acme/Pocket_Reverse", "alloy/pocket-revers", "pocket-reverse"],
)
def test_a_typing_mistake_gets_a_suggestion(server: LocalHub, path: str):
    if not server.store.find("alloy/pocket-reverse"):
        server.store.create_repo("alloy/pocket-reverse")
    with pytest.raises(MergeError, match=rf"no model {path} on the Hub.*Did you mean alloy/pocket-reverse\?"):
        BOB.open(ModelRef(path))


def test_what_is_like_nothing_gets_none(server: LocalHub):
    with pytest.raises(MergeError, match="your account cannot see it") as raised:
        BOB.open(ModelRef("zzyzx/qqqq"))
    assert "Did you mean" not in str(raised.value)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a/b/c",
        "../etc",
        "a/../b",
        "a b/c",
        "https://hf.co/a/b",
        "a/b?x",
        "a/b%2f",
        "a/b\n",
        "a--b/c",
        "datasets/a/b",
        "ä/b",
    ],
)
def test_what_is_no_repo_id_reaches_no_url(server: LocalHub, path: str):
    with pytest.raises(MergeError, match="is not a repo ID"):
        ANYONE.open(ModelRef(path))
    asked = [seen for seen in server.requests if not seen.path.startswith("/cdn/")]  # the rest of an earlier read
    assert not asked


@pytest.mark.parametrize(
    ("repo_id", "words"),
    [
        ("https://huggingface.co/owner/name/tree/main", "but an address. Write owner/name."),
        ("huggingface.co/owner/name", "but an address. Write owner/name."),
        ("https://huggingface.co/datasets", "but an address. Write owner/name."),
        ("a/b/c", "it must read owner/name"),
        ("/b", "it must read owner/name"),
        ("", "it must read owner/name"),
        ("a/my model", "' ' cannot stand in it"),
        ("ä/b", "'ä' cannot stand in it"),
        ("a/b--c", "'--' and '..' cannot stand in it"),
        ("a/b..c", "'--' and '..' cannot stand in it"),
        ("a/-b", "neither part may begin or end with '-' or '.'"),
        ("a/b.", "neither part may begin or end with '-' or '.'"),
        ("a./b", "neither part may begin or end with '-' or '.'"),
        ("a/" + "b" * 97, "each part has at most 96 characters"),
        ("a/b.git", "it may not end with '.git'"),
    ],
)
def test_the_broken_rule_of_a_repo_id_is_named(repo_id: str, words: str):
    with pytest.raises(MergeError) as refused:
        check_repo_id(repo_id)
    assert words in str(refused.value) and str(refused.value).endswith(".")


def test_a_private_repo_is_not_seen_by_others(server: LocalHub, repo_id: str):
    server.store.create_repo(repo_id, private=True)
    server.store.commit(repo_id, {FILE: BYTES})
    assert opened(ADA, repo_id).read(FILE, 0, 8) == BYTES[:8]
    with pytest.raises(MergeError, match="or your account cannot see it"):
        BOB.open(ModelRef(repo_id))
    with pytest.raises(
        MergeError, match=r"you are not signed in\). Check the spelling, or sign in \(`hf auth login`\)"
    ):
        ANYONE.open(ModelRef(repo_id))


def test_a_gated_repo_is_found_out_at_once(server: LocalHub, repo_id: str):
    server.store.create_repo(repo_id, gated="auto")
    server.store.commit(repo_id, {FILE: BYTES, "config.json": b"{}"})
    with pytest.raises(MergeError, match=rf"{repo_id} is gated.*Open http://[\d.:]+/{repo_id}, accept"):
        BOB.open(ModelRef(repo_id))
    with pytest.raises(MergeError, match="sign in, accept"):
        ANYONE.open(ModelRef(repo_id))
    server.store.grant(repo_id, "bob")
    assert opened(BOB, repo_id).read(FILE, 0, 8) == BYTES[:8]


def test_a_revision_that_is_missing_is_named(repo: HubRepo):
    with pytest.raises(MergeError, match=r"has no revision 'v9'. Give a branch, a tag or a commit SHA"):
        ANYONE.open(ModelRef(repo.repo_id, "v9"))


def test_a_bad_token_is_named(repo: HubRepo):
    with pytest.raises(MergeError, match="does not accept your token"):
        Hub("hf_revoked_token", QUICK).open(ModelRef(repo.repo_id))


def test_a_repo_of_pickles_says_so(server: LocalHub, repo_id: str):
    server.store.create_repo(repo_id)
    server.store.commit(repo_id, {"pytorch_model.bin": b"\x80\x02", "config.json": b"{}"})
    with pytest.raises(MergeError, match="only as pickles"):
        open_model(ModelRef(repo_id), ANYONE)


def test_folders_only_where_they_are_allowed(server: LocalHub, tmp_path, repo_id: str):
    with pytest.raises(MergeError, match="is not a repo ID"):
        open_model(ModelRef(str(tmp_path)), ANYONE, folders=False)
    with pytest.raises(MergeError, match="There is no folder acme/none"):
        open_model(ModelRef("acme/none"), None)
    with pytest.raises(MergeError, match="there are no weights"):
        open_model(ModelRef(str(tmp_path)), None)


def test_a_search_puts_what_can_be_merged_first(server: LocalHub, repo_id: str):
    word = repo_id.replace("/", "-")
    server.store.create_repo(f"acme/{word}-a")
    server.store.create_repo(f"acme/{word}-b")
    server.store.commit(f"acme/{word}-b", {FILE: safetensors(), "README.md": CARD.encode()})
    assert ANYONE.search(word) == [f"acme/{word}-b", f"acme/{word}-a"]
    assert ANYONE.search(word, limit=1) == [f"acme/{word}-b"]


def test_without_a_text_a_search_finds_models_that_can_be_merged_in_one_call(server: LocalHub, repo_id: str):
    for name, files in (("a", {FILE: safetensors(), "README.md": CARD.encode()}), ("b", {"x.bin": b"x"})):
        server.store.create_repo(f"{repo_id}-{name}")
        server.store.commit(f"{repo_id}-{name}", files)
    server.requests.clear()
    found = ANYONE.search("  ")
    assert found[0] == f"{repo_id}-a" and len(found) <= 10 and f"{repo_id}-b" not in found
    asked = [one for one in server.requests if one.path.startswith("/api/")]  # a read of another test may straggle
    assert len(asked) == 1


CARD = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# x\n"


def safetensors() -> bytes:
    return (2).to_bytes(8, "little") + b"{}"


def test_whoami():
    account = ADA.whoami()
    assert account and (account.name, account.fullname, account.orgs, account.can_write) == (
        "ada",
        "Ada",
        ("acme",),
        True,
    )
    reader = Hub(ADA_READ_TOKEN, QUICK).whoami()
    assert reader and not reader.can_write
    assert ANYONE.whoami() is None
    with pytest.raises(MergeError, match="does not accept your token"):
        Hub("hf_revoked_token", QUICK).whoami()


def test_the_token_goes_to_the_hub_only(server: LocalHub, repo: HubRepo):
    """The CDN of the local Hub has another host name; what it is sent has no token."""
    seen: list[tuple[str, str | None]] = []
    server.fault = lambda request: seen.append((request.url.path, request.headers.get("authorization")))
    mine = opened(BOB, repo.repo_id)
    mine.read(FILE, 0, len(BYTES))
    mine.read(FILE, 2_000_000, 2_000_001)
    hub, cdn = [a for p, a in seen if "/cdn/" not in p], [a for p, a in seen if "/cdn/" in p]
    assert hub and all(a == f"Bearer {BOB_TOKEN}" for a in hub)
    assert cdn and not any(cdn), seen


def test_the_token_is_shown_nowhere(server: LocalHub, repo: HubRepo, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    mine = opened(ADA, repo.repo_id)
    texts = [repr(ADA), str(ADA.client), repr(mine), repr(mine.client)]
    server.fault = always(Fault(status=403, body=b'{"error": "token %s is not ok"}' % ADA_TOKEN.encode()))
    with pytest.raises(MergeError) as raised:
        ADA.open(ModelRef(repo.repo_id))
    texts += [str(raised.value), repr(raised.value), caplog.text]
    assert "(your token)" in str(raised.value)
    assert not any(ADA_TOKEN in text for text in texts)


def test_readers_do_not_block_each_other(repo: HubRepo, server: LocalHub):
    """A stalled stretch holds up those who need it, and nobody else."""
    repo.read(FILE, 0, 10)
    stalled = threading.Event()

    def stall(request):
        if "bytes=2000000-" in request.headers.get("range", "") and not stalled.is_set():
            stalled.set()
            return Fault(delay=0.25)
        return None

    server.fault = stall
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(repo.read, FILE, 2_000_000, 2_000_010)
        assert stalled.wait(20)
        assert repo.read(FILE, 1_000_000, 1_000_010) == BYTES[1_000_000:1_000_010]
        assert not slow.done()
        assert slow.result() == BYTES[2_000_000:2_000_010]


def test_who_waits_for_an_answer_is_told_within_seconds():
    usual, hurried = Patience(), Patience().hurried()
    assert hurried.attempts * hurried.silence + sum(hurried.pauses()) <= 20 < usual.attempts * usual.silence
    assert HASTY.hurried().silence == HASTY.silence, "who is in a greater hurry stays so"
