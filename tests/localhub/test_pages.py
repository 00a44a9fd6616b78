"""What a person sees in a browser."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from space.demo import hub as demo
from space.localhub import LocalHub
from space.localhub.page import size_text

PAGE = {"accept": "text/html"}


def test_the_front_page_lists_what_the_visitor_may_see(
    hub: LocalHub, http: httpx2.Client, visitor: httpx2.Client, repo_id: str
) -> None:
    hub.store.create_repo(repo_id, private=True)
    assert f'href="/{repo_id}"' in http.get("/", headers=PAGE).text
    assert f'href="/{repo_id}"' in http.get("/acme", headers=PAGE).text
    assert repo_id not in visitor.get("/", headers=PAGE).text


def test_a_repo_page_shows_files_and_card_and_runs_nothing(hub: LocalHub, http: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id, private=True, gated="auto")
    sha = hub.store.commit(
        repo_id,
        {"README.md": b"<script>alert(1)</script>", '<b>&".bin': b"x" * 1500, "a#?b.txt": b"hello"},
        message="<i>",
    )
    for address in ("", "/tree/main", f"/commit/{sha}"):
        answer = http.get(f"/{repo_id}{address}", headers=PAGE)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<script" not in answer.text and "<i>" not in answer.text and "<b>" not in answer.text
        assert "&lt;script&gt;" in answer.text and "1.5 kB" in answer.text
        assert ">private</span>" in answer.text and ">gated</span>" in answer.text
    link = answer.text.split("b.txt</a>")[0].rpartition('href="')[2].split('"')[0]
    assert http.get(link).text == "hello"
    assert http.get(f"/{repo_id}/blob/main/a%23%3Fb.txt", follow_redirects=True).text == "hello"


def test_the_card_of_a_gated_repo_is_for_readers(hub: LocalHub, visitor: httpx2.Client, repo_id: str) -> None:
    hub.store.create_repo(repo_id, gated="manual")
    hub.store.commit(repo_id, {"README.md": b"the card"})
    answer = visitor.get(f"/{repo_id}", headers=PAGE)
    assert answer.status_code == 200 and "the card" not in answer.text and "README.md" in answer.text


def test_a_wrong_address_gives_a_page_too(http: httpx2.Client) -> None:
    for address in ("/acme/nope", "/nope", "/a/b/c/d", "/datasets/a/b", "/acme/nope/resolve/main/x"):
        answer = http.get(address, headers=PAGE)
        assert answer.status_code == 404 and "<h1>404</h1>" in answer.text


def test_sizes_are_short() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 1_234_567, 5e9, 3e15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.2 MB",
        "5.0 GB",
        "3000.0 TB",
    ]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[httpx2.Client]:
    """A browser on the machine of a Hub that takes it for Ada's; she has a private model, and Bob has one."""
    with LocalHub(tmp_path, browser_user="ada") as hub, httpx2.Client(base_url=hub.url, follow_redirects=True) as http:
        hub.store.add_user("ada", token="hf_a", orgs=("acme",))
        for repo_id in ("acme/mine", "bob/his"):
            hub.store.create_repo(repo_id, private=True)
            hub.store.commit(repo_id, {"model.safetensors": b"weights", "a b.txt": b"hello"})
        yield http


def test_the_browser_of_the_demo_sees_what_its_user_may(browser: httpx2.Client) -> None:
    front = browser.get("/", headers=PAGE).text
    assert "acme/mine" in front and "bob/his" not in front
    shown = browser.get("/acme/mine", headers=PAGE)
    assert shown.status_code == 200
    links = [part.split('"')[0] for part in shown.text.split('<td><a href="')[1:]]
    contents = {link.rpartition("/")[2]: browser.get(link, headers=PAGE).content for link in links}
    assert contents["model.safetensors"] == b"weights" and contents["a%20b.txt"] == b"hello"
    assert browser.get("/bob/his", headers=PAGE).status_code == 404
    assert browser.get("/bob/his/blob/main/a%20b.txt", headers=PAGE).status_code == 404


def test_the_api_does_not_take_the_browser_for_its_user(browser: httpx2.Client) -> None:
    for address in ("/api/models/acme/mine", "/acme/mine/resolve/main/a%20b.txt", "/api/whoami-v2"):
        assert browser.get(address, headers=PAGE).status_code == 401
    assert browser.get("/api/models").json() == []
    assert browser.get("/acme/mine", headers=PAGE | {"host": "evil.example"}).status_code == 401


def test_the_demo_keeps_its_port_where_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(demo, "PORT", taken.getsockname()[1])
        other = demo.start(tmp_path)
        other.stop()
        assert other.url != f"http://127.0.0.1:{demo.PORT}"
    same = demo.start(tmp_path)
    same.stop()
    assert same.url == f"http://127.0.0.1:{demo.PORT}"
