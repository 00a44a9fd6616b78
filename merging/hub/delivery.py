"""A merge on its way to a new repo while it is made: each finished shard is sent, then one commit shows them all."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from huggingface_hub import CommitOperationAdd
from huggingface_hub.lfs import UploadInfo, post_lfs_batch_info
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from merging.errors import MergeError
from merging.hub.client import check_repo_id
from merging.hub.new_repo import NewRepo
from merging.hub.words import HubFault, UnknownRepo
from merging.journal import Journal
from merging.staging import Stage
from merging.writer import writing

BATCH = 100  # objects that one question to the Hub names
STOP = object()
LONGEST_ANSWER = 10.0  # seconds that one who gives up waits for what is being asked


@dataclass
class Delivery:
    """What the engine hands its shards to. All talk with the Hub is in one thread of its own, in order.

    The journal tells what this merge has made on the Hub and sent there, so that after a kill nothing is sent twice
    and nothing is taken for ours that is not.
    """

    repo: NewRepo
    keeps_files: bool  # False: a shard that has arrived is deleted here
    url: str = ""  # when it is published
    note: str = ""  # on what is published, in words
    left: str = ""  # what is left on the Hub after it was given up, in words
    head: str = ""
    stage: Stage | None = None
    sending: list[Future[Any]] = field(default_factory=list)
    arrived: dict[str, CommitOperationAdd] = field(default_factory=dict)
    work: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    thread: threading.Thread | None = None
    asking: threading.Lock = field(default_factory=threading.Lock)  # held while the repo is made, and committed to
    given_up: threading.Event = field(default_factory=threading.Event)  # nothing more is made or sent
    receipt: Path | None = None  # where the address is written down when it is published
    stays: bool = False  # what is on the Hub is left for the next run, also when this one is left

    @property
    def repo_id(self) -> str:
        return self.repo.repo_id

    @property
    def journal(self) -> Journal:
        assert self.stage is not None, "the delivery has not begun"
        return self.stage.journal

    # --- one thread, so that what is asked of the Hub is in order

    def do(self, work: Callable[[], Any]) -> "Future[Any]":
        """Have something done after all that was given before."""
        if self.thread is None:
            self.thread = threading.Thread(target=self.serve, name="delivery", daemon=True)
            self.thread.start()
        future: Future[Any] = Future()
        self.work.put((future, work))
        return future

    def serve(self) -> None:
        while (given := self.work.get()) is not STOP:
            future, work = given
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)

    # --- in the order of a merge

    def begin(self, stage: Stage, card: str) -> "Future[Any]":
        """Check all that can be known before the weights are read; find what has arrived earlier."""
        self.stage = stage
        return self.do(lambda: self.prepare(card))

    def prepare(self, card: str) -> None:
        check_repo_id(self.repo_id)
        self.repo.validate_card(card)
        made = self.known("made")
        if made is None and self.known("making") is None:
            self.repo.check_free()
        elif made is not None:
            self.find(made["head"])

    def known(self, kind: str) -> Mapping[str, Any] | None:
        """The newest entry of the journal about this repo, if it has not gone since."""
        about = [entry for entry in self.journal.entries if entry.get("repo") == self.repo_id]
        gone = max((i for i, entry in enumerate(about) if entry["kind"] == "gone"), default=-1)
        return next((e for e in reversed(about[gone + 1 :]) if e["kind"] == kind), None)

    def find(self, head: str) -> None:
        """The repo of an earlier run, and which shards it has got."""
        try:
            self.repo.head()
        except UnknownRepo:  # somebody has deleted it
            self.journal.add("gone", repo=self.repo_id)
            return
        self.head = head
        self.arrived = {op.path_in_repo: op for op in self.still_there(self.sent())}

    def sent(self) -> list[CommitOperationAdd]:
        entries = {e["file"]: e for e in self.journal.of_kind("sent") if e["repo"] == self.repo_id}
        return [arrived(e["file"], e["bytes"], e["sha256"]) for e in entries.values()]

    def still_there(self, operations: Sequence[CommitOperationAdd]) -> list[CommitOperationAdd]:
        """Those of the contents that the Hub would not ask for again."""
        held: set[str] = set()
        headers = build_hf_headers(token=self.repo.client.token, library_name="alloy")
        for at in range(0, len(operations), BATCH):
            infos = [op.upload_info for op in operations[at : at + BATCH]]
            ask = partial(post_lfs_batch_info, infos, None, "model", self.repo_id, "main", headers=headers)
            answers, _, _ = self.repo.client.ask(self.repo_id, ask)
            held |= {answer["oid"] for answer in answers if not answer.get("actions")}
        return [op for op in operations if op.upload_info.sha256.hex() in held]

    @property
    def sent_bytes(self) -> int:
        return sum(op.upload_info.size for op in list(self.arrived.values()))

    def has(self, file: str, sha256: str) -> bool:
        """Whether the Hub has got this shard from an earlier run."""
        return file in self.arrived and self.arrived[file].upload_info.sha256.hex() == sha256

    def take(self, file: str, sha256: str) -> "Future[Any]":
        """A shard is complete in the folder; it is sent while the next one is made."""
        if self.has(file, sha256):
            if not self.keeps_files and self.stage:  # a kill came between its arrival and this
                with writing(path := self.stage.folder / file):
                    path.unlink(missing_ok=True)
            return self.do(lambda: None)
        self.sending.append(self.do(lambda: self.send(file, sha256)))
        return self.sending[-1]

    def send(self, file: str, sha256: str) -> None:
        """Again after faults that pass: those who make the next shards need not begin anew for it."""
        pauses = self.repo.client.patience.pauses()
        while True:
            try:
                return self.try_to_send(file, sha256)
            except MergeError as error:
                if not self.repo.client.may_try_again(error, pauses, self.given_up):
                    raise

    def try_to_send(self, file: str, sha256: str) -> None:
        assert self.stage is not None, "the delivery has not begun"
        path = self.stage.folder / file
        operation = Content(file, path)
        operation.given_up = self.given_up
        operation.upload_info.sha256 = bytes.fromhex(sha256)  # known, so it need not be read for it
        self.make()
        self.repo.upload([operation], free_memory=True)
        self.journal.add("sent", repo=self.repo_id, file=file, bytes=operation.upload_info.size, sha256=sha256)
        self.arrived[file] = operation
        if not self.keeps_files:
            with writing(path):
                path.unlink()

    def make(self) -> None:
        """Make the repo as late as the first shard allows. One that is in doubt is used only as if just made."""
        with self.asking:
            self.refuse_if_given_up()
            if not self.head:
                self.make_now()

    def make_now(self) -> None:
        in_doubt = self.known("making") is not None
        if not in_doubt:
            self.journal.add("making", repo=self.repo_id)
        found = self.repo.untouched() if in_doubt else None
        try:
            self.head = found or self.create(in_doubt)
        except HubFault:  # it may have been made all the same
            raise
        except MergeError:
            if not in_doubt:
                self.journal.add("gone", repo=self.repo_id)  # it was refused, and what is there is another's
            raise
        self.journal.add("made", repo=self.repo_id, head=self.head, sure=found is None and not in_doubt)

    def create(self, in_doubt: bool) -> str:
        try:
            return self.repo.create()
        except MergeError:  # perhaps an earlier attempt has come through only now
            if in_doubt and (found := self.repo.untouched()):
                return found
            raise

    def waiting(self) -> int:
        """How many shards are still on their way. Raises what went wrong with one."""
        for future in [f for f in self.sending if f.done()]:
            self.sending.remove(future)
            future.result()
        return len(self.sending)

    def finish(self, files: Mapping[str, bytes | Path]) -> "Future[Any]":
        """Show it: one commit of what was sent and of these small files."""
        return self.do(lambda: self.commit(files))

    def commit(self, files: Mapping[str, bytes | Path]) -> None:
        self.make()
        small = [CommitOperationAdd(name, content) for name, content in sorted(files.items())]
        operations = [*(self.arrived[file] for file in sorted(self.arrived)), *small]
        with self.asking:
            self.refuse_if_given_up()
            if (now := self.repo.head()) != self.head:  # an earlier run was killed before it heard of its commit
                self.repo.check_landed(list(self.arrived.values()), now)  # it told of its own time and findings
                self.note = self.repo.other_card(small, now)
            else:
                self.repo.upload(small)
                self.repo.commit(operations, self.head, self.given_up)
            self.url = self.repo.page
            if self.receipt:
                self.receipt.write_text(self.url, encoding="utf-8")

    def refuse_if_given_up(self) -> None:
        if self.given_up.is_set():
            raise MergeError(f"Publishing {self.repo_id} was stopped.")

    # --- when it ends early

    def rest(self) -> str:
        """What is left on the Hub for the next run, in words."""
        if self.stage is None or self.url or not self.known("making"):
            return ""
        count = len(self.arrived)
        sent = f"{count} shard{'s' if count != 1 else ''} sent to it" if count else "nothing sent to it"
        if not self.known("made"):
            return f"An empty repo may be left at {self.repo.page}."
        return f"The repo at {self.repo.page} is left, with {sent}, none of it visible yet."

    def take_back(self) -> str:
        """Delete the repo if this merge made it, and nobody has put anything into it; say what is left."""
        is_known = self.asking.acquire(timeout=LONGEST_ANSWER)
        self.given_up.set()  # what is being sent ends, and what waits in the line is not begun after this
        if is_known:
            self.asking.release()
        if self.url:
            self.left = f"It had been published already: {self.url}."
        elif self.stays or not self.rest():
            return ""
        elif not is_known:
            self.left = f"The Hub does not answer, and something of it may be at {self.repo.page}: look there."
        elif (made := self.known("made")) is not None and made["sure"]:
            self.left = self.repo.take_back(made["head"])
        else:
            self.left = f"An empty repo may be left at {self.repo.page}: if it is yours, delete it in its settings."
        return self.left

    def close(self) -> None:
        self.work.put(STOP)


class Content(CommitOperationAdd):
    """A file whose sending ends where it is given up."""

    given_up = threading.Event()

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        with super().as_file(with_tqdm) as file:
            yield cast(BinaryIO, Until(file, self.given_up))


class Until:
    """A file that reads as long as it is wanted."""

    def __init__(self, file: BinaryIO, given_up: threading.Event) -> None:
        self.file, self.given_up = file, given_up

    def read(self, size: int = -1) -> bytes:
        if self.given_up.is_set():
            raise MergeError("What was being sent was given up.")
        return self.file.read(size)

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(1 << 20):
            yield data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def arrived(file: str, nbytes: int, sha256: str) -> CommitOperationAdd:
    """A content that is on the Hub and no longer here, for a commit to name.

    The client has no public way to say so after a restart, but these marks of its own (1.x and 2.x).
    """
    operation = CommitOperationAdd(file, b"")
    operation.upload_info = UploadInfo(nbytes, b"", bytes.fromhex(sha256))
    operation._upload_mode, operation._should_ignore, operation._is_uploaded = "lfs", False, True
    return operation
