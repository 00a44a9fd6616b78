"""What a test can break, and that the break is as asked."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from space.localhub import Fault, LocalHub
from space.localhub.link import Link

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def url(hub: LocalHub, repo_id: str) -> str:
    hub.store.create_repo(repo_id)
    hub.store.commit(repo_id, {"notes.txt": CONTENT})
    return f"{hub.url}/{repo_id}/resolve/main/notes.txt"


def always(hub: LocalHub, fault: Fault) -> None:
    hub.fault = lambda request: fault


def received(visitor: httpx2.Client, url: str) -> bytes:
    """As much of the body as comes before the connection ends."""
    body = b""
    with visitor.stream("GET", url) as answer:
        try:
            for chunk in answer.iter_raw():
                body += chunk
        except (httpx2.ReadError, httpx2.RemoteProtocolError):
            return body
    return body


def test_a_status_with_headers(hub: LocalHub, visitor: httpx2.Client, url: str) -> None:
    always(hub, Fault(status=429, headers={"Retry-After": "7"}))
    answer = visitor.get(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    hub.fault = None
    assert visitor.get(url).status_code == 200


def test_the_fault_is_chosen_by_the_request(
    hub: LocalHub, visitor: httpx2.Client, ada: HfApi, url: str, repo_id: str
) -> None:
    hub.fault = lambda request: Fault(status=503) if request.method == "HEAD" else None
    assert visitor.head(url).status_code == 503 and visitor.get(url).status_code == 200
    assert [seen.status for seen in hub.requests if seen.path.endswith("notes.txt")] == [503, 200]
    hub.fault = lambda request: Fault(status=500) if request.url.path.endswith(repo_id) else None
    with pytest.raises(HfHubHTTPError, match="500"):
        ada.model_info(repo_id)


@pytest.mark.parametrize("bytes_sent", [0, 1, 100_000])
def test_a_cut_after_some_bytes(hub: LocalHub, visitor: httpx2.Client, url: str, bytes_sent: int) -> None:
    always(hub, Fault(cut_after=bytes_sent))
    assert received(visitor, url) == CONTENT[:bytes_sent]
    always(hub, Fault(cut_after=bytes_sent, reset=True))
    assert CONTENT.startswith(received(visitor, url))


@pytest.mark.parametrize("reset", [False, True])
def test_a_dropped_request_does_no_work_and_a_lost_answer_does(
    hub: LocalHub, ada: HfApi, repo_id: str, reset: bool
) -> None:
    hub.store.create_repo(repo_id)
    for fault, made in ((Fault(drop=True, reset=reset), False), (Fault(lose_answer=True, reset=reset), True)):
        hub.fault = lambda request, fault=fault: fault if "/tag/" in request.url.path else None
        # Which of the two depends on whether the client was still sending when the connection went.
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            ada.create_tag(repo_id, tag="v1")
        assert hub.requests[-1] == ("POST", f"/api/models/{repo_id}/tag/main", 0)
        assert ("v1" in hub.store.repo(repo_id).tags) == made


@pytest.mark.parametrize("fault", [{"drop": True}, {"lose_answer": True}, {"cut_after": 0}])
def test_a_connection_ends_as_asked(hub: LocalHub, url: str, fault: dict[str, Any]) -> None:
    port, path = url.removeprefix("http://127.0.0.1:").split("/", 1)
    for reset in (False, True):
        always(hub, Fault(**fault, reset=reset))
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as line:
            line.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            with pytest.raises(ConnectionResetError) if reset else nullcontext():
                while line.recv(65536):
                    pass


def test_silence_before_the_work_and_in_the_body(hub: LocalHub, visitor: httpx2.Client, url: str) -> None:
    always(hub, Fault(delay=0.2))
    start = time.monotonic()
    assert visitor.get(url).content == CONTENT
    assert time.monotonic() - start >= 0.2
    always(hub, Fault(delay=30, delay_after=1000))
    with visitor.stream("GET", url, timeout=0.3) as answer, pytest.raises(httpx2.ReadTimeout):
        b"".join(answer.iter_raw())


def test_a_range_that_is_ignored(hub: LocalHub, visitor: httpx2.Client, url: str) -> None:
    assert visitor.get(url, headers={"range": "bytes=1-2"}).status_code == 206
    always(hub, Fault(ignore_range=True))
    answer = visitor.get(url, headers={"range": "bytes=1-2"})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("bit", [0, 7, 8 * 999_999 + 3])
def test_one_flipped_bit(hub: LocalHub, visitor: httpx2.Client, url: str, bit: int) -> None:
    always(hub, Fault(flip_bit=bit))
    got = visitor.get(url).content
    different = [n for n in range(len(CONTENT)) if got[n] != CONTENT[n]]
    assert different == [bit // 8] and got[bit // 8] ^ CONTENT[bit // 8] == 1 << bit % 8


def test_a_slow_line_is_shared(hub: LocalHub, visitor: httpx2.Client, url: str) -> None:
    hub.link = Link(bytes_per_second=4_000_000, latency=0.05)
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        assert all(found.content == CONTENT for found in pool.map(visitor.get, [url, url]))
    hub.link = None
    assert 0.55 <= time.monotonic() - began < 5


def test_what_is_sent_goes_over_the_slow_line_too(hub: LocalHub, visitor: httpx2.Client) -> None:
    hub.link = Link(bytes_per_second=4_000_000)
    began = time.monotonic()
    visitor.post("/api/validate-yaml", json={"content": "x" * 1_000_000})
    hub.link = None
    assert 0.25 <= time.monotonic() - began < 5


def test_a_hub_stops_at_once_even_when_it_is_silent(tmp_path_factory: pytest.TempPathFactory) -> None:
    hub = LocalHub(tmp_path_factory.mktemp("hub")).start()
    always(hub, Fault(delay=60))
    asking = threading.Thread(target=lambda: httpx2.get(hub.url, timeout=30))
    asking.start()
    time.sleep(0.1)
    start = time.monotonic()
    hub.stop()
    asking.join()
    assert time.monotonic() - start < 2


def test_the_record_is_bounded(hub: LocalHub, visitor: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space.localhub.faults.LONGEST_RECORD", 10)
    for _ in range(25):
        visitor.get("/api/nothing")
    assert 5 <= len(hub.requests) <= 10
    assert hub.requests[-1] == ("GET", "/api/nothing", 404)
