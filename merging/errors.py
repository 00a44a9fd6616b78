"""The one exception that is meant for the person who asked for a merge."""


class MergeError(Exception):
    """Something the user can fix: what happened, to what (model, tensor or key, values), and the way out.

    The message is shown as it is. Any other exception is a bug: it is logged, and the user sees only an id.
    """


class Passing(MergeError):
    """What went wrong is likely to pass: the same again later may succeed, so what is complete is worth keeping."""
