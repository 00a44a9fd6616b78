"""What a person sees in a browser."""

import httpx2

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
