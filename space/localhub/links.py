"""Signed links that expire: whoever holds one may use it, so no token travels with a content."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from space.localhub.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs paths with a key that lives as long as the server."""

    lifetime: float
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def sign(self, path: str, **facts: str | int) -> str:
        """The path with the facts, the hour they end and the proof as its query."""
        said = {**{name: str(value) for name, value in facts.items()}, "expires": str(int(time.time() + self.lifetime))}
        return f"{path}?{urlencode({**said, 'signature': self._proof(path, said)})}"

    def check(self, path: str, query: Mapping[str, str]) -> None:
        """Refuse a link that we did not make, that was changed, or that is too old."""
        said = {name: value for name, value in query.items() if name != "signature"}
        if not hmac.compare_digest(self._proof(path, said).encode(), query.get("signature", "").encode()):
            raise Forbidden("The signature of this link is wrong.")
        if float(said["expires"]) < time.time():
            raise Forbidden("This link has expired.")

    def _proof(self, path: str, said: Mapping[str, str]) -> str:
        text = "\n".join([path, urlencode(sorted(said.items()))])
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()
