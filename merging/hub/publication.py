"""One folder becomes one new repo: checked, created, filled shard by shard, made visible by one commit."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from merging.errors import MergeError
from merging.hub.client import check_repo_id
from merging.hub.new_repo import NewRepo, Taken, Unsure
from merging.hub.words import HubFault

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Upload:
    """How far a publication is. `url` is set on the last one."""

    sent_bytes: int
    total_bytes: int
    file: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """Publishing a finished merge, and what is left when it fails.

    A repo that exists is refused. The repo is made after all that can be checked without it. When anything fails
    before the commit, or the caller leaves, the repo is deleted again if this run made it and nobody has put anything
    in it since; where that is not allowed, the error says that an empty repo is left. Nothing else is ever deleted.
    """

    repo: NewRepo
    folder: Path

    def run(self) -> Iterator[Upload]:
        check_repo_id(self.repo.repo_id)
        files = list_files(self.folder)
        self.repo.validate_card((self.folder / CARD).read_text("utf-8"))
        head = self.create()
        try:
            operations = yield from self.send(files)
            self.repo.commit(operations, head)
        except Unsure as error:
            raise MergeError(
                f"{error} If the repo there is empty, delete it in its settings and publish again."
            ) from None
        except Taken:
            raise
        except MergeError as error:
            raise MergeError(f"{error} {self.repo.take_back(head)}") from None
        except BaseException:  # the caller left, which is how one cancels; or a bug
            self.repo.take_back(head)
            raise
        total = sum(files.values())
        yield Upload(total, total, "", self.repo.page)

    def create(self) -> str:
        try:
            return self.repo.create()
        except HubFault as error:
            raise MergeError(
                f"{error} If {self.repo.page} shows an empty repo now, this attempt made it: delete it in its "
                "settings, or choose another name."
            ) from None

    def send(self, files: Mapping[str, int]) -> Generator[Upload, None, list[CommitOperationAdd]]:
        """Upload the shards one by one, then the small files together. None is visible until the commit."""
        operations = {file: CommitOperationAdd(file, self.folder / file) for file in files}
        shards = [f for f in files if f.endswith(".safetensors")]
        batches = [[f] for f in shards] + [[f for f in files if f not in shards]]
        sent, total = 0, sum(files.values())
        for batch in batches:
            yield Upload(sent, total, batch[0])
            self.repo.upload([operations[f] for f in batch])
            sent += sum(files[f] for f in batch)
        yield Upload(sent, total, "")
        return list(operations.values())


def list_files(folder: Path) -> dict[str, int]:
    """What is published: every file of the folder but hidden ones, by path, with its size."""
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    shown = {name: p.stat().st_size for name, p in files.items() if not any(x.startswith(".") for x in name.split("/"))}
    if CARD not in shown or not any(name.endswith(".safetensors") for name in shown):
        raise MergeError(f"{folder} is not a finished merge: it has no {CARD} or no weights. Merge first.")
    return shown
