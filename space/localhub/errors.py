"""What the Hub refuses, with the status and the code that its client turns into exceptions."""

from collections.abc import Mapping
from typing import Any, ClassVar


class HubError(Exception):
    """A refusal. The message is shown to the caller as it is."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.answer_status = status or self.status
        self.headers = dict(headers or {})
        self.facts = dict(facts or {})


class BadRequest(HubError):
    """A name, a path or a body that no Hub would take."""


class NotFound(HubError):
    """An address that leads nowhere."""

    status = 404


class RepoNotFound(HubError):
    """No such repo, or none that this caller may know of."""

    status = 404
    code = "RepoNotFound"


class GatedRepo(HubError):
    """The repo may be known to the caller, its content not."""

    status = 403
    code = "GatedRepo"


class RevisionNotFound(HubError):
    status = 404
    code = "RevisionNotFound"


class EntryNotFound(HubError):
    status = 404
    code = "EntryNotFound"


class Unauthorized(HubError):
    """Nobody is signed in, or the token is not known here."""

    status = 401


class Forbidden(HubError):
    """The caller is known and may not do this."""

    status = 403


class AlreadyExists(HubError):
    status = 409


class StaleParent(HubError):
    """The branch has moved since the caller looked."""

    status = 412


class ContentMismatch(HubError):
    """Bytes arrived that are not the ones that were announced."""
