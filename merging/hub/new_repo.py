"""One new repo: made when it is needed, filled unseen, made visible by exactly one commit, or taken back."""

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import yaml
from huggingface_hub import CommitOperationAdd, ModelCard
from huggingface_hub.hf_api import RepoFile

from merging.card_check import check_card
from merging.errors import MergeError, Passing
from merging.hub.client import Client, check_repo_id
from merging.hub.words import UnknownRepo, page
from merging.report import CARD

LONG_LIST = re.compile(r"\[[^\]]{200,}\]")
AS_MADE = {".gitattributes"}  # what a repo begins with


class Unsure(Passing):
    """Whether the commit was made is not known."""


class Taken(MergeError):
    """The repo has become somebody else's."""


@dataclass(frozen=True, slots=True)
class NewRepo:
    """What is asked of the Hub for one publication. Nothing that somebody else has made is ever changed or deleted."""

    client: Client
    repo_id: str
    private: bool
    message: str

    @property
    def page(self) -> str:
        return page(self.repo_id)

    def validate_card(self, card: str) -> None:
        """Ask the Hub whether it accepts the card's metadata."""
        check_card(card)

        def validate() -> None:
            try:
                ModelCard(card).validate()
            except (ValueError, yaml.YAMLError) as error:
                raise MergeError(
                    f"The metadata of the model card is not valid: {complaints(str(error))}. Correct it first."
                ) from None

        self.client.ask("the check of the model card", validate)

    def check_free(self) -> None:
        """Refuse a name that cannot be, or that exists."""
        check_repo_id(self.repo_id)
        with suppress(UnknownRepo):
            self.head()
            raise MergeError(f"{self.repo_id} exists already on the Hub, and was not touched. Choose another name.")

    def create(self) -> str:
        """Make the repo, which must not exist; the commit that it starts with."""
        self.client.ask(
            self.repo_id, lambda: self.client.api.create_repo(self.repo_id, private=self.private), attempts=1
        )
        return self.head()

    def untouched(self) -> str | None:
        """The head of the repo if it is as one that was just made like this; None where there is none."""
        try:
            info = self.client.ask(self.repo_id, lambda: self.client.api.model_info(self.repo_id))
        except UnknownRepo:
            return None
        if {f.rfilename for f in info.siblings or ()} - AS_MADE or bool(info.private) != self.private:
            raise Taken(f"{self.repo_id} exists already on the Hub, and was not touched. Choose another name.")
        return str(info.sha)

    def head(self) -> str:
        return str(self.client.ask(self.repo_id, lambda: self.client.api.model_info(self.repo_id)).sha)

    def upload(self, operations: list[CommitOperationAdd], *, free_memory: bool = False) -> None:
        """Send contents that a commit will name later. What has arrived before is not sent again."""
        self.client.ask(
            self.repo_id,
            lambda: self.client.api.preupload_lfs_files(self.repo_id, operations, free_memory=free_memory),
            attempts=2,  # the client asks again by itself where a single request fails
        )

    def commit(self, operations: Sequence[CommitOperationAdd], head: str, given_up: threading.Event) -> None:
        """Make exactly one commit: after an answer that was lost, look at the branch before trying again.

        Raises as well where it is given up meanwhile, and was not made.
        """
        pauses = self.client.patience.pauses()
        while True:
            try:
                return self.try_commit(operations, head)
            except MergeError as error:
                now = self.head_after(error)
                if now != head:
                    return self.check_landed(operations, now)
                if not self.client.may_try_again(error, pauses, given_up):
                    raise

    def try_commit(self, operations: Sequence[CommitOperationAdd], head: str) -> None:
        self.client.ask(
            self.repo_id,
            lambda: self.client.api.create_commit(
                self.repo_id, operations, commit_message=self.message, parent_commit=head
            ),
            attempts=1,
        )

    def head_after(self, error: MergeError) -> str:
        try:
            return self.head()
        except MergeError:
            raise Unsure(f"{error} It is not known whether the commit was made: look at {self.page}.") from None

    def check_landed(self, operations: Sequence[CommitOperationAdd], sha: str) -> None:
        """Raise unless the commit at the head holds what was sent: then it is ours, and only its answer was lost."""
        api = self.client.api
        tree = self.client.ask(
            self.repo_id, lambda: list(api.list_repo_tree(self.repo_id, recursive=True, revision=sha))
        )
        there = {f.path: f for f in tree if isinstance(f, RepoFile)}
        for op in operations:
            file = there.get(op.path_in_repo)
            same = file and file.size == op.upload_info.size
            if not same or (file and file.lfs and file.lfs.sha256 != op.upload_info.sha256.hex()):
                raise Taken(
                    f"Somebody else has committed to {self.repo_id} meanwhile, so the merge was not published there. "
                    f"Look at {self.page}, and publish under another name."
                )

    def other_card(self, files: Sequence[CommitOperationAdd], sha: str) -> str:
        """What is to be said where an earlier attempt has made the commit, with another card than this one's."""
        mine = next((op for op in files if op.path_in_repo == CARD), None)
        there = self.client.ask(
            self.repo_id, lambda: self.client.api.get_paths_info(self.repo_id, [CARD], revision=sha)
        )
        if mine is None or not there or not isinstance(there[0], RepoFile):
            return ""
        with mine.as_file() as file:
            content = file.read()
        if hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == there[0].blob_id:
            return ""
        return f"It was published by an earlier attempt, with the card of that time. Change the card at {self.page}."

    def take_back(self, head: str) -> str:
        """Delete the repo, which this run has made, if it is as it was made; say what is left."""
        api = self.client.api
        try:
            if self.head() != head:
                return f"What is at {self.page} by now was not touched."
            self.client.ask(self.repo_id, lambda: api.delete_repo(self.repo_id, missing_ok=True))
            return "Nothing was published, and nothing is left on the Hub."
        except UnknownRepo:
            return "Nothing was published, and nothing is left on the Hub."
        except MergeError:
            pass
        return (
            f"Nothing was published, but an empty repo is left at {self.page}: "
            "delete it in its settings, or publish under another name."
        )


def complaints(text: str) -> str:
    """What the Hub says of a card, out of its JSON; any other text on one line."""
    with suppress(ValueError, TypeError, KeyError):
        text = "; ".join(str(error["message"]) for error in json.loads(text)["errors"])
    return LONG_LIST.sub("those that the Hub knows", " ".join(text.split()).rstrip("."))
