"""Sign-in for apps, as OpenID Connect has it: a person's consent becomes a code, and the code becomes tokens."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from space.localhub.access import Accounts, Grant
from space.localhub.errors import BadRequest, Unauthorized

CODE_SECONDS = 60
CALLBACK = "/login/callback"  # the one address to which an app may have people sent back
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
ALGORITHM = "RS256"

SCOPES = {
    "openid": "know who you are",
    "profile": "see your name",
    "read-repos": "read your private models",
    "gated-repos": "read gated models that you were let into",
    "contribute-repos": "create models in your name",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What an app asks a person for, checked when it is made."""

    client_id: str
    redirect_uri: str
    scope: str
    state: str = ""
    nonce: str = ""

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.scope.split())


@dataclass(slots=True)
class SignIn:
    """The apps that may ask, the codes on their way, and the key that signs who somebody is. In memory only."""

    accounts: Accounts
    token_seconds: float = 8 * 3600
    apps: dict[str, str] = field(default_factory=dict)  # client id -> secret
    codes: dict[str, tuple[Request, str, float]] = field(default_factory=dict)  # code -> (asked, user, until)
    key: "Key" = field(default_factory=lambda: Key())

    def check(self, asked: Request) -> None:
        """Refuse an app that nobody registered, and an address that is not this machine's."""
        if asked.client_id not in self.apps:
            raise BadRequest("There is no app with this client id.")
        where = urlsplit(asked.redirect_uri)
        if where.scheme not in ("http", "https") or where.hostname not in LOOPBACK_NAMES or where.path != CALLBACK:
            raise BadRequest(f"People may be sent back to {CALLBACK} on this machine only.")
        if unknown := asked.scopes - SCOPES.keys():
            raise BadRequest(f"There is no scope {min(unknown)!r}.")

    def allow(self, asked: Request, user: str) -> str:
        """The code that tells the app that this person agrees."""
        self.check(asked)
        if user not in self.accounts.users:
            raise BadRequest(f"There is no user {user!r}.")
        code = secrets.token_urlsafe(24)
        self.codes[code] = asked, user, time.time() + CODE_SECONDS
        return code

    def tokens(self, code: str, redirect_uri: str, client: tuple[str, str], issuer: str) -> dict[str, Any]:
        """What a code is worth, once: an access token, and the signed word on whose it is."""
        client_id, secret = client
        if not secrets.compare_digest(self.apps.get(client_id, "").encode(), secret.encode()) or not secret:
            raise Unauthorized("invalid_client")
        asked, user, until = self.codes.pop(code, (None, "", 0.0))
        if asked is None or until < time.time() or (asked.client_id, asked.redirect_uri) != (client_id, redirect_uri):
            raise BadRequest("invalid_grant")
        token = f"hf_oauth_{secrets.token_urlsafe(32)}"
        self.accounts.grant(token, Grant(user, asked.scopes, time.time() + self.token_seconds))
        claims = self.userinfo(user, issuer) | {"iss": issuer, "aud": client_id, "nonce": asked.nonce}
        return {
            "access_token": token, "token_type": "bearer", "expires_in": int(self.token_seconds), "scope": asked.scope,
            "id_token": self.key.signed(claims, self.token_seconds),
        }  # fmt: skip

    def userinfo(self, user: str, base: str) -> dict[str, Any]:
        known = self.accounts.users[user]
        return {
            "sub": known.id, "name": known.fullname, "preferred_username": user,
            "profile": f"{base}/{user}", "picture": "", "isPro": False,
        }  # fmt: skip


class Key:
    """Made when it is first needed: most runs of the Hub never sign."""

    @cached_property
    def pair(self) -> RSAKey:
        return RSAKey.generate_key(2048, parameters={"use": "sig", "alg": ALGORITHM}, auto_kid=True)

    def public(self) -> dict[str, Any]:
        return {"keys": [self.pair.as_dict(private=False)]}

    def signed(self, claims: Mapping[str, Any], seconds: float) -> str:
        now = int(time.time())
        header = {"alg": ALGORITHM, "kid": self.pair.kid}
        return jwt.encode(header, {**claims, "iat": now, "exp": now + int(seconds)}, self.pair, algorithms=[ALGORITHM])
