"""One folder becomes one new repo: checked, created, filled shard by shard, made visible by one commit."""

import json
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, ModelCard
from huggingface_hub.hf_api import RepoFile

from merging.card_check import check_card
from merging.errors import MergeError
from merging.hub.client import Client, check_repo_id
from merging.hub.words import HubFault, page

CARD = "README.md"
LONG_LIST = re.compile(r"\[[^\]]{200,}\]")


@dataclass(frozen=True, slots=True)
class Upload:
    """How far a publication is. `url` is set on the last one."""

    sent_bytes: int
    total_bytes: int
    file: str
    url: str = ""


class Unsure(MergeError):
    """Whether the commit was made is not known."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Publishing, and what is left when it fails.

    A repo that exists is refused. The repo is made after all that can be checked without it. When anything fails
    before the commit, or the caller leaves, the repo is deleted again if this run made it and nobody has put anything
    in it since; where that is not allowed, the error says that an empty repo is left. Nothing else is ever deleted.
    """

    client: Client
    folder: Path
    repo_id: str
    private: bool
    message: str

    def run(self) -> Iterator[Upload]:
        check_repo_id(self.repo_id)
        files = list_files(self.folder)
        self.validate_card()
        head = self.create()
        try:
            operations = yield from self.send(files)
            self.commit(operations, head)
        except Unsure:
            raise
        except MergeError as error:
            raise MergeError(f"{error} {self.take_back(head)}") from None
        except BaseException:  # the caller left, which is how one cancels; or a bug
            self.take_back(head)
            raise
        total = sum(files.values())
        yield Upload(total, total, "", page(self.repo_id))

    def validate_card(self) -> None:
        """Ask the Hub whether it accepts the card's metadata, before anything is made there."""
        text = (self.folder / CARD).read_text("utf-8")
        check_card(text)

        def validate() -> None:
            try:
                ModelCard(text).validate()
            except (ValueError, yaml.YAMLError) as error:
                raise MergeError(
                    f"The metadata of the model card is not valid: {complaints(str(error))}. Correct it first."
                ) from None

        self.client.ask("the check of the model card", validate)

    def create(self) -> str:
        """Make the repo; the commit that it starts with."""
        try:
            self.client.ask(
                self.repo_id, lambda: self.client.api.create_repo(self.repo_id, private=self.private), attempts=1
            )
        except HubFault as error:
            raise MergeError(
                f"{error} If {page(self.repo_id)} shows an empty repo now, this attempt made it: delete it in its "
                "settings, or choose another name."
            ) from None
        return self.head()

    def head(self) -> str:
        return str(self.client.ask(self.repo_id, lambda: self.client.api.model_info(self.repo_id)).sha)

    def send(self, files: Mapping[str, int]) -> Generator[Upload, None, list[CommitOperationAdd]]:
        """Upload the shards one by one, then the small files together. None is visible until the commit."""
        operations = {file: CommitOperationAdd(file, self.folder / file) for file in files}
        shards = [f for f in files if f.endswith(".safetensors")]
        batches = [[f] for f in shards] + [[f for f in files if f not in shards]]
        sent, total = 0, sum(files.values())
        for batch in batches:
            yield Upload(sent, total, batch[0])
            self.upload([operations[f] for f in batch])
            sent += sum(files[f] for f in batch)
        yield Upload(sent, total, "")
        return list(operations.values())

    def upload(self, operations: list[CommitOperationAdd]) -> None:
        self.client.ask(
            self.repo_id,
            lambda: self.client.api.preupload_lfs_files(self.repo_id, operations, free_memory=False),
            attempts=2,  # the client asks again by itself where a single request fails
        )

    def commit(self, operations: Sequence[CommitOperationAdd], head: str) -> None:
        """Make exactly one commit: after an answer that was lost, look at the branch before trying again."""
        pauses = self.client.patience.pauses()
        while True:
            try:
                return self.try_commit(operations, head)
            except MergeError as error:
                now = self.head_after(error)
                if now != head:
                    return self.check_landed(operations, now)
                pause = next(pauses, None)
                if pause is None or not isinstance(error, HubFault):
                    raise
                time.sleep(pause)

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
            raise Unsure(
                f"{error} It is not known whether the commit was made: look at {page(self.repo_id)}. If the repo there "
                "is empty, delete it in its settings and publish again."
            ) from None

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
                raise Unsure(
                    f"Somebody else has committed to {self.repo_id} meanwhile, so the merge was not published there. "
                    f"Look at {page(self.repo_id)}, and publish under another name."
                )

    def take_back(self, head: str) -> str:
        """Delete the repo that this run made if it is as it was made; say what is left."""
        api = self.client.api
        try:
            if self.head() == head:
                self.client.ask(self.repo_id, lambda: api.delete_repo(self.repo_id, missing_ok=True))
                return "Nothing was published, and nothing is left on the Hub."
        except MergeError:
            pass
        return (
            f"Nothing was published, but an empty repo is left at {page(self.repo_id)}: "
            "delete it in its settings, or publish under another name."
        )


def complaints(text: str) -> str:
    """What the Hub says of a card, out of its JSON; any other text on one line."""
    with suppress(ValueError, TypeError, KeyError):
        text = "; ".join(str(error["message"]) for error in json.loads(text)["errors"])
    return LONG_LIST.sub("those that the Hub knows", " ".join(text.split()).rstrip("."))


def list_files(folder: Path) -> dict[str, int]:
    """What is published: every file of the folder but hidden ones, by path, with its size."""
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    shown = {name: p.stat().st_size for name, p in files.items() if not any(x.startswith(".") for x in name.split("/"))}
    if CARD not in shown or not any(name.endswith(".safetensors") for name in shown):
        raise MergeError(f"{folder} is not a finished merge: it has no {CARD} or no weights. Merge first.")
    return shown
