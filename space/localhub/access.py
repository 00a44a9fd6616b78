"""Who is asking, and what they may see, read and change."""

import base64
import binascii
import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from space.localhub.errors import Forbidden, GatedRepo, Unauthorized
from space.localhub.records import Repo

Role = Literal["read", "write"]

WRITING = frozenset({"contribute-repos", "write-repos", "manage-repos"})
OWN = frozenset({"read-repos", "gated-repos"})  # with the token that a person made for themselves to read


@dataclass(frozen=True, slots=True)
class User:
    id: str  # stays the same when the name changes
    name: str
    fullname: str
    orgs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for: a person's own lets its holder do all that they may, an app's what they agreed to."""

    user: str
    scopes: frozenset[str]
    until: float = math.inf

    @property
    def role(self) -> Role:
        return "write" if self.scopes & WRITING else "read"


@dataclass(frozen=True, slots=True)
class Asker:
    """The person behind a request, or nobody."""

    user: User | None = None
    role: Role = "read"
    scopes: frozenset[str] = OWN

    def belongs_to(self, namespace: str) -> bool:
        return self.user is not None and namespace in {self.user.name, *self.user.orgs}

    def is_reader_of(self, repo: Repo) -> bool:
        return self.belongs_to(repo.owner) or (self.user is not None and self.user.name in repo.readers)

    def may_see(self, repo: Repo) -> bool:
        return not repo.private or (self.is_reader_of(repo) and "read-repos" in self.scopes)

    def check_may_read(self, repo: Repo) -> None:
        """Refuse the content of a gated repo to those who have not been let in."""
        if repo.gated is False or (self.is_reader_of(repo) and "gated-repos" in self.scopes):
            return
        if self.user is None:
            raise GatedRepo(
                f"Access to model {repo.id} is restricted. You must have access to it and be authenticated to access"
                " it. Please log in.",
                status=401,
            )
        raise GatedRepo(f"Access to model {repo.id} is restricted and you are not in the authorized list.")

    def check_may_write(self, namespace: str) -> User:
        """Refuse changes to those who are not members, or whose token can only read."""
        if self.user is None:
            raise Unauthorized("Invalid username or password.")
        if not self.belongs_to(namespace):
            raise Forbidden(f'You don\'t have the rights to change or create a model under the namespace "{namespace}"')
        if self.role != "write":
            raise Forbidden("Your token can only read. Use one with the write role.")
        return self.user


NOBODY = Asker()


class Accounts:
    """The people and their tokens, in memory only."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.grants: dict[str, Grant] = {}

    def add(self, name: str, *, token: str, fullname: str, orgs: Iterable[str], role: Role) -> None:
        known = self.users.get(name, User(hashlib.sha256(name.encode()).hexdigest()[:24], name, name, frozenset()))
        self.users[name] = User(known.id, name, fullname or known.fullname, known.orgs | frozenset(orgs))
        self.grant(token, Grant(name, OWN | WRITING if role == "write" else OWN))

    def grant(self, token: str, grant: Grant) -> None:
        self.grants[token] = grant

    def revoke(self, user: str) -> None:
        """Make the tokens that apps have of this person worthless."""
        self.grants = {t: g for t, g in self.grants.items() if g.user != user or g.until == math.inf}

    def asker(self, authorization: str | None) -> Asker:
        """Who sent this header. A token nobody has is refused even where none is needed, as on the real Hub."""
        if not authorization:
            return NOBODY
        grant = self.grants.get(token_in(authorization))
        if grant is None or grant.until < time.time():
            raise Unauthorized("Invalid credentials in Authorization header")
        return Asker(self.users[grant.user], grant.role, grant.scopes)


def token_in(authorization: str) -> str:
    """The token of a `Bearer` header, or of the `Basic` one that a browser or git sends, where it is the password."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
