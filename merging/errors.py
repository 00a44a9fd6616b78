"""The one exception that is meant for the person who asked for a merge."""


class MergeError(Exception):
    """Something the user can fix: what happened, to what (model, tensor or key, values), and the way out.

    The message is shown as it is. Any other exception is a bug: it is logged, and the user sees only an id.
    """


class Kept(MergeError):
    """What was asked for has stopped, but what is complete of it is kept: the same again goes on from there."""


class Passing(Kept):
    """What went wrong is likely to pass by itself: the same again a little later may succeed."""

    wait: float = 0  # seconds that a server asked for


class NoMemory(MergeError):
    """There was too little memory for it as it was tried; with less in memory, or elsewhere, it may succeed."""


class SignedOut(Kept):
    """The token is missing or has expired: it goes on when its owner has signed in."""
