"""Where finished shards go besides the folder that they are made in."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from merging.errors import Kept, MergeError
from merging.staging import Stage


class Delivery(Protocol):
    """Takes shards as they are finished, in the background, and shows them all at once at the end.

    What the futures and `waiting` raise has stopped the delivery, not spoiled the merge.
    """

    @property
    def repo_id(self) -> str: ...

    @property
    def keeps_files(self) -> bool:
        """If not, each shard leaves the folder when it has arrived."""
        ...

    def begin(self, stage: Stage, card: str) -> "Future[Any]":
        """Before the weights are read: whether it can be delivered at all, and what has arrived in an earlier run."""
        ...

    @property
    def sent_bytes(self) -> int:
        """Of the shards that have arrived."""
        ...

    def has(self, file: str, sha256: str) -> bool:
        """Whether a shard has arrived in an earlier run."""
        ...

    def take(self, file: str, sha256: str) -> "Future[Any]":
        """A shard is complete in the folder: it is sent in the background, unless it has arrived."""
        ...

    def waiting(self) -> int:
        """How many shards are on their way."""
        ...

    def finish(self, files: Mapping[str, bytes | Path]) -> "Future[Any]":
        """Show all that was taken, with these small files."""
        ...

    def rest(self) -> str:
        """What is left there for the next run, in words."""
        ...

    def take_back(self) -> str:
        """The merge was given up: leave nothing that only this merge has made. What is left all the same, in words."""
        ...

    def close(self) -> None: ...


@contextmanager
def delivering(delivery: Delivery | None) -> Iterator[None]:
    """Say what is left elsewhere when the block is not left well; take it back when nobody can go on from there."""
    try:
        yield
    except Kept as error:
        error.args = (f"{error} {delivery.rest() if delivery else ''}".strip(),)
        raise
    except MergeError as error:
        error.args = (f"{error} {delivery.take_back() if delivery else ''}".strip(),)
        raise
    except BaseException:
        if delivery:
            delivery.take_back()
        raise
    finally:
        if delivery:
            delivery.close()
