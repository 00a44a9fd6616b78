"""People who speak HTTP with the app, without its page: to see what it answers to those who do not keep to the page."""

import json
import secrets
from typing import Any
from urllib.parse import urlsplit

import httpx

LONG = 60.0  # seconds


class Caller:
    """One person with one cookie. All that they are answered is kept in `heard`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookie = ""
        self.heard: list[str] = []
        self.http = httpx.Client(timeout=LONG)

    def request(self, method: str, url: str, **rest: Any) -> httpx.Response:
        url = url if url.startswith("http") else self.address + url
        ours = url.startswith(self.address)
        # By hand: Python's cookie jar does not send a Secure cookie to loopback, as browsers do.
        headers = {"cookie": f"session={self.cookie}"} if self.cookie and ours else {}
        answer = self.http.request(method, url, headers=headers, **rest)
        for line in answer.headers.get_list("set-cookie") if ours else []:
            self.cookie = line.partition("session=")[2].partition(";")[0]
        if ours:
            self.heard += [str(answer.headers), answer.text]
        return answer

    def visit(self) -> "Caller":
        self.request("GET", "/")
        return self

    def sign_in(self, user: str) -> "Caller":
        asked = self.visit().request("GET", "/login/huggingface?_target_url=/").headers["location"]
        back = self.request("POST", asked, data={"answer": "allow", "user": user}).headers["location"]
        assert urlsplit(back).path == "/login/callback"
        assert self.request("GET", back).headers["location"] == "/"
        return self

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", "/config").json()
        return found

    def fire(self, fn_index: int, data: list[Any], *, tab: str = "", **more: Any) -> str:
        """Call a listener by its number through the queue; all that comes of it, as text."""
        tab = tab or secrets.token_hex(6)
        asked = {"data": data, "fn_index": fn_index, "session_hash": tab, "event_data": None, "trigger_id": None}
        joined = self.request("POST", "/gradio_api/queue/join", json={**asked, **more})
        if joined.status_code != 200:
            return joined.text
        return joined.text + self.listen(tab)

    def listen(self, tab: str) -> str:
        """The answers of a tab until an event of it has ended."""
        said = []
        headers = {"cookie": f"session={self.cookie}"} if self.cookie else {}
        url = f"{self.address}/gradio_api/queue/data?session_hash={tab}"
        with self.http.stream("GET", url, headers=headers) as answer:
            for line in answer.iter_lines():
                said.append(line)
                if line.startswith("data:") and json.loads(line[5:]).get("msg") in (
                    "process_completed",
                    "close_stream",
                ):
                    break
        self.heard += said
        return "\n".join(said)

    def call(self, name: str, **data: Any) -> str:
        """Call a named endpoint as scripts do."""
        joined = self.request("POST", f"/gradio_api/call/v2/{name}", json=data)
        if joined.status_code != 200:
            return joined.text
        said = self.request("GET", f"/gradio_api/call/{name}/{joined.json()['event_id']}")
        return said.text

    def ask(self, name: str, **data: Any) -> Any:
        """The answer of a named endpoint; an error of it is raised."""
        said = self.call(name, **data)
        event, _, rest = said.rstrip().rpartition("event: ")[2].partition("\n")
        assert event == "complete", said
        return json.loads(rest.removeprefix("data: "))[0]
