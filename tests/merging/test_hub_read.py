"""Reading from the Hub: what is found, what is refused and in which words, and what faults are survived."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from merging.errors import MergeError
from merging.hub import Hub, HubRepo
from merging.recipe import ModelRef
from space.localhub import Fault, LocalHub
from tests.merging.hubs import ANYONE, always, times

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
    import hashlib

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
    assert repo.read(FILE, 200_000, 2_900_000) == BYTES[200_000:2_900_000]


def test_a_read_goes_on_where_it_was_cut(repo: HubRepo, server: LocalHub):
    """A link that dies every 300 kB still brings the file, and brings each byte once."""
    server.fault = always(Fault(cut_after=300_000), method="GET")
    assert repo.read(FILE, 0, len(BYTES)) == BYTES
    assert len(server.requests) < 30
