"""What the Hub refused or failed to do, in the user's words, with the way out."""

import re

import httpx2  # the Hub client's own, for its exceptions
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from merging.errors import MergeError, Passing, SignedOut


class HubFault(Passing):
    """The Hub or the way to it failed; asking again later may help."""


class TokenRefused(SignedOut):
    """The token has expired or was revoked; signing in again helps."""


class UnknownRepo(MergeError):
    """There is no such repo for this caller."""


class UnknownRevision(MergeError):
    """The repo is there, the revision is not."""


def page(repo_id: str) -> str:
    return f"{constants.ENDPOINT}/{repo_id}"


def in_words(error: BaseException, about: str, *, token: str | bool, wait: float = 0) -> MergeError:
    """Translate an error of the client. `about` is what was asked for; `wait` the seconds that the Hub asks for."""
    anonymous = token is False
    match error:
        case GatedRepoError():  # a RepositoryNotFoundError too, so it comes first
            return MergeError(
                f"{about} is gated: its owner asks for conditions to be accepted first. Open {page(about)}, "
                f"{'sign in, ' if anonymous else ''}accept them, then {'sign in here and ' if anonymous else ''}"
                "check again."
            )
        case DisabledRepoError():
            return MergeError(f"{about} has been disabled on the Hub, so it cannot be read. Choose another model.")
        case RevisionNotFoundError():
            return UnknownRevision(f"{about} has no such revision.")
        case RepositoryNotFoundError():
            return UnknownRepo(
                f"There is no model {about} on the Hub, or your account cannot see it"
                f"{' (you are not signed in)' if anonymous else ''}. Check the spelling"
                f"{', or sign in (`hf auth login`)' if anonymous else ''}."
            )
        case HfHubHTTPError():
            return status_in_words(error, about, token, wait)
        case RuntimeError() if error.__cause__:  # the client wraps the errors of an upload
            return in_words(error.__cause__, about, token=token, wait=wait)
    return silence_in_words(error, about, token)


def silence_in_words(error: BaseException, about: str, token: str | bool) -> MergeError:
    """For errors without an answer of the Hub."""
    if isinstance(error, OfflineModeIsEnabled):
        return MergeError(f"{about} cannot be read: HF_HUB_OFFLINE is set. Unset it, or give a local folder.")
    if isinstance(error, httpx2.TransportError):
        return MergeError(
            f"The Hub ({constants.ENDPOINT}) does not answer, asked for {about}. "
            "Check the connection and try again in a few minutes."
        )
    if isinstance(error, RuntimeError):  # of the upload's own library, which has no other type
        return MergeError(f"The upload of {about} failed: {without_tokens(str(error), token)}. Try it again.")
    return MergeError(
        f"What came back from the Hub ({constants.ENDPOINT}), asked for {about}, is not an answer of the Hub. "
        "A proxy or a sign-in page of the network may stand in between; try again from another network."
    )


def status_in_words(error: HfHubHTTPError, about: str, token: str | bool, wait: float) -> MergeError:
    status, said = error.response.status_code, without_tokens(error.server_message or "no reason given", token)
    if status == 401:
        return TokenRefused("The Hub does not accept your token: it has expired or was revoked. Sign in again.")
    if is_of_upload(error):
        return MergeError(
            f"The address that the Hub gave for the upload to {about} is refused there: {said}. Try again."
        )
    if status == 403:
        return MergeError(
            f"Your account, or the token you signed in with, may not do this with {about}. The Hub says: {said}. "
            "Sign in with an account, or a token, that may."
        )
    if status == 409:
        return MergeError(f"{about} exists already on the Hub, and was not touched. Choose another name.")
    if status == 429:
        when = f"in {wait:.0f} seconds" if wait else "in a few minutes"
        more = ", or sign in: the limit is higher then" if token is False else ""
        return MergeError(
            f"The Hub limits how often it may be asked, and the limit is reached. Try again {when}{more}."
        )
    if status >= 500:
        return MergeError(
            f"The Hub ({constants.ENDPOINT}) has a fault (status {status}), asked for {about}. "
            "Try again in a few minutes; https://status.huggingface.co tells more."
        )
    return MergeError(f"The Hub refused {about} (status {status}). It says: {said}. Try again, or look at its page.")


def is_of_upload(error: HfHubHTTPError) -> bool:
    """Whether it is the storage that refuses, as when the address that the Hub gave has expired: a new one may do.

    Only contents are put; whatever asks the Hub itself is a POST or DELETE.
    """
    return error.response.status_code in (400, 403) and error.response.request.method == "PUT"


def without_tokens(text: str, token: str | bool) -> str:
    """The Hub's own words, without any token in them."""
    if isinstance(token, str) and token:
        text = text.replace(token, "(your token)")
    return re.sub(r"hf_\w{4,}", "(a token)", text)
