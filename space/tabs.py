"""Whose a tab is. Gradio knows each by a number of its own, and would give what the server keeps of it, and all answers
to it, to whoever names that number."""

import json
import threading
from urllib.parse import parse_qs

from starlette.types import Scope

MAX_KEPT = 100_000


class Tabs:
    """Which browser each tab is in, by the number in the browser's cookie; empty where it has none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.visitors: dict[str, str] = {}

    def belongs(self, tab: str, visitor: str) -> bool:
        """Whether this browser may name this tab: the first one to name it may."""
        with self.lock:
            if tab not in self.visitors and len(self.visitors) >= MAX_KEPT:
                del self.visitors[next(iter(self.visitors))]  # the oldest
            return self.visitors.setdefault(tab, visitor) == visitor


def tab_in(scope: Scope, body: bytes) -> str:
    """The tab that a request names, in its address or in what it sends; empty when it names none."""
    path, query = str(scope["path"]), parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if path.startswith("/gradio_api/heartbeat/"):
        return path.rsplit("/", 1)[1]
    if found := query.get("session_hash"):
        return str(found[0])
    if not path.startswith("/gradio_api/") or not body:
        return ""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(said.get("session_hash") or "") if isinstance(said, dict) else ""
