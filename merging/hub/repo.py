"""A repo of the Hub at one commit, read by byte range as if it lay here."""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import httpx2  # the Hub client's own, for its types
from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from merging.checkpoint import Folder
from merging.checksum import Checksum, Hash
from merging.errors import Kept, MergeError
from merging.hub.client import Client, asked_to_wait, is_hub, may_pass, prepare
from merging.hub.words import HubFault
from merging.patience import Patience
from merging.prefetch import Prefetch
from merging.ranges import ReadAhead
from merging.reading import Range, cut, read_whole
from merging.waiting import TICK, in_thread, outcome, stopped

WHOLE, IN_PART = "sha256", "not read whole"  # what `verified` says of a file
NO_CHECKSUM = "no checksum on the Hub"
IN_CACHE = "read from the cache of this machine"
ODD_ORDER = "read whole, but not in order, so its checksum is not known"
SEVERAL = "read by several runs, none of which had the checksum of it all"  # after a kill


class OddAnswer(httpx2.TransportError):
    """An answer that is not the range that was asked for; the next one may be."""


@dataclass(eq=False)
class HubRepo:
    """A `Source`: what is read is one commit, whatever happens to the branch meanwhile."""

    repo_id: str
    revision: str
    label: str
    files: Mapping[str, RepoFile] = field(repr=False)
    client: Client
    cache: Folder | None = field(default=None, repr=False)  # files of this commit that may be read in place
    addresses: dict[str, str] = field(default_factory=dict, repr=False)  # file -> where the Hub redirected to
    asking: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock), repr=False)
    heads: dict[str, bytes] = field(default_factory=dict, repr=False)  # shard -> its header, as it was read
    expected: dict[str, str] = field(default_factory=dict, repr=False)  # file -> what `verified` will say of it
    coming: Prefetch | None = field(default=None, repr=False)
    resume_at: float = field(default=0.0, repr=False)  # by the monotonic clock: the Hub wants no request before
    received_bytes: int = field(default=0, repr=False)
    halted: threading.Event = field(default_factory=threading.Event, repr=False)

    @cached_property
    def ahead(self) -> ReadAhead:
        return ReadAhead(self.fetch_unless_stopped, self.sizes())

    def sizes(self) -> Mapping[str, int]:
        return {path: file.size for path, file in self.files.items()}

    def sha256(self, file: str) -> str | None:
        """The checksum that the Hub keeps of a large file; None for a small one."""
        lfs = self.files[file].lfs
        return lfs.sha256 if lfs else None

    def checksum(self, file: str, head: bytes = b"") -> Checksum | None:
        """The checksum to compare a file with, once all that follows `head` is read; git's own for a small file."""
        size, sha256, oid = self.files[file].size, self.sha256(file), self.files[file].blob_id
        if not sha256 and not oid:
            return None
        digest: Hash = hashlib.sha256() if sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        digest.update(memoryview(head))
        return Checksum(digest, sha256 or oid, len(head), size)

    def read(self, file: str, start: int, end: int) -> bytes:
        """Like `read_into`. What is read whole is checked, and read once more where it is not as the Hub keeps it."""
        found = self.read_once(file, start, end)
        if (start, end) == (0, self.files[file].size) and not self.is_right(file, found):
            self.ahead.clear()
            found = self.read_once(file, start, end)
            if not self.is_right(file, found):
                raise MergeError(
                    f"{self.label}/{file} does not arrive as the Hub keeps it: its checksum is another one. A proxy "
                    "may change it on the way; try again, or from another network."
                )
        self.keep_head(file, start, found)
        return found

    def read_once(self, file: str, start: int, end: int) -> bytes:
        buffer = bytearray(end - start)
        self.read_into(file, start, memoryview(buffer))
        return bytes(buffer)

    def is_right(self, file: str, content: bytes) -> bool:
        checksum = self.checksum(file, content)
        return checksum is None or checksum.right

    def keep_head(self, file: str, start: int, found: bytes) -> None:
        """Remember a shard's header as it was read, since it is the first part of the shard's checksum."""
        head = self.heads.get(file, b"")
        if file.endswith(".safetensors") and start <= len(head) and len(head) < header_end(head):
            head += found[len(head) - start :]
            self.heads[file] = head[: header_end(head)]

    def read_into(self, file: str, start: int, into: memoryview) -> None:
        if start + len(into) > self.files[file].size:
            raise MergeError(
                f"{self.label}/{file} has {self.files[file].size:,} bytes, but bytes up to {start + len(into):,} are "
                "needed. The repo is broken; tell its owner."
            )
        if self.cache and self.is_cached(file):
            self.cache.read_into(file, start, into)
            return
        done = self.coming.read_into(file, start, into) if self.coming else 0
        if done < len(into):
            self.ahead.read_into(file, start + done, into[done:])

    def is_cached(self, file: str) -> bool:
        return self.cache is not None and self.cache.sizes().get(file) == self.files[file].size

    def expect(self, ranges: Sequence[Range], memory_bytes: int) -> None:
        """See `Source`. From here on the shards that will be read whole are checked."""
        self.ahead.clear()
        self.expected |= {r.file: IN_CACHE for r in ranges if self.is_cached(r.file)}
        stretches = cut([r for r in ranges if r.file not in self.expected], memory_bytes)
        touched = {s.file for s in stretches}
        whole, in_order = read_whole(stretches, self.sizes())
        checksums: dict[str, Checksum] = {}
        for file in touched:
            head = self.heads.get(file, b"")
            self.expected[file] = IN_PART
            if whole.get(file) in (0, len(head)):
                checksum = self.checksum(file, head[: whole[file]])
                self.expected[file] = (NO_CHECKSUM if not checksum else WHOLE) if file in in_order else ODD_ORDER
                if checksum and file in in_order:
                    checksums[file] = checksum
        self.coming = Prefetch(self.fetch, stretches, memory_bytes, self.label, self.is_stopped, checksums)
        self.coming.start()

    def verified(self) -> Mapping[str, str]:
        if self.coming:
            self.coming.finish()
        return self.expected

    def checked(self) -> Collection[str]:
        return self.coming.checked() if self.coming else ()

    def recall(self, files: Collection[str], right: Collection[str]) -> None:
        for file in files:
            if self.expected.get(file) != IN_CACHE:
                self.expected[file] = WHOLE if file in right else SEVERAL

    def stop(self) -> None:
        self.halted.set()

    def is_stopped(self) -> bool:
        return self.halted.is_set() or self.client.stopped.is_set()

    def close(self) -> None:
        self.stop()
        self.coming = None
        self.ahead.clear()
        if self.cache:
            self.cache.close()

    def probe(self) -> None:
        """Read a few bytes: a gated repo shows its files to everybody, and refuses only what is in them."""
        weights = sorted(f for f in self.files if f.endswith(".safetensors"))
        for file in [*weights, "config.json"][:1]:
            if size := self.files[file].size if file in self.files else 0:
                self.read(file, 0, min(8, size))

    def fetch_unless_stopped(self, file: str, start: int, into: memoryview) -> None:
        """Like `fetch`, left alone as soon as one need not wait for it; `into` may be written to all the same."""
        outcome(in_thread(lambda: self.fetch(file, start, into)), self.is_stopped, self.repo_id)

    def fetch(self, file: str, start: int, into: memoryview) -> None:
        """Fill `into`, in as many requests as it takes: each goes on at the byte where the last one stopped."""
        prepare()
        trouble = Trouble(self.client.patience)
        done = 0
        while done < len(into):
            self.wait_until(self.resume_at)
            known = self.addresses.get(file)
            try:
                for chunk in self.stream(file, start + done, start + len(into)):
                    self.refuse_when_stopped()
                    into[done : done + len(chunk)] = chunk
                    done += len(chunk)
                    trouble = Trouble(self.client.patience)  # it moves, so patience starts anew
            except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
                trouble.count += 1
                if known and (trouble.count > 1 or is_refused(error)):
                    self.forget(file, known)
                pause = self.pause_after(error, trouble, file, start + done)
                self.wait_until(time.monotonic() + pause)

    def forget(self, file: str, address: str) -> None:
        """Ask the Hub anew where a file lies, unless another thread has done so."""
        if self.addresses.get(file) == address:
            self.addresses.pop(file, None)

    def wait_until(self, moment: float) -> None:
        self.refuse_when_stopped()
        while (left := moment - time.monotonic()) > 0:
            self.halted.wait(min(left, TICK))
            self.refuse_when_stopped()

    def refuse_when_stopped(self) -> None:
        if self.is_stopped():
            raise stopped(self.repo_id)

    def pause_after(self, error: Exception, trouble: "Trouble", file: str, at: int) -> float:
        """The seconds to wait before the next request, or the error that ends the reading."""
        pause = next(trouble.pauses, None)
        limit = asked_to_wait(error)
        expired = has_expired(error, first=trouble.count == 1)
        if not (may_pass(error) or expired) or limit > self.client.patience.longest_limit:
            words = self.client.in_words(error, self.repo_id)
            raise words if isinstance(words, Kept) else Kept(str(words)) from None  # access may be given again
        if pause is None:
            raise self.gave_up(error, file, at) from None
        if limit:
            self.resume_at = max(self.resume_at, time.monotonic() + limit)
        return 0 if expired and trouble.count == 1 else max(pause, limit)

    def stream(self, file: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes of one request, whose answer is checked to be that range, whole and unpacked."""
        with ExitStack() as first:
            url = self.address(file, first)
            headers = build_hf_headers(token=self.client.token if is_hub(url) else False, library_name="alloy")
            headers |= {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
            with get_session().stream("GET", url, headers=headers, timeout=self.client.timeout) as answer:
                hf_raise_for_status(answer)
                check_range(answer, start, end, self.files[file].size)
                self.addresses[file] = str(answer.url)
                first.close()
                yield from self.body(answer, end - start)

    def address(self, file: str, first: ExitStack) -> str:
        """Where to ask for a file: where the Hub redirected to, once it did. Only one asks the Hub at a time."""
        if file not in self.addresses:
            first.enter_context(self.asking[file])
            if file in self.addresses:
                first.close()
        return self.addresses.get(file) or hf_hub_url(self.repo_id, file, revision=self.revision)

    def body(self, answer: httpx2.Response, nbytes: int) -> Iterator[bytes]:
        patience, began, left = self.client.patience, time.monotonic(), nbytes
        for chunk in answer.iter_raw():
            self.received_bytes += len(chunk)
            if (left := left - len(chunk)) < 0:
                raise OddAnswer("sent more bytes than were asked for")
            yield chunk
            passed = time.monotonic() - began
            if left and passed > patience.silence and nbytes - left < passed * patience.slowest:
                raise OddAnswer(f"sent {nbytes - left:,} bytes in {passed:.0f} seconds")
        if left:
            raise OddAnswer("sent fewer bytes than were asked for")

    def gave_up(self, error: Exception, file: str, at: int) -> HubFault:
        last = f"It {error}." if isinstance(error, OddAnswer) else str(self.client.in_words(error, self.repo_id))
        return HubFault(
            f"The Hub stopped answering while reading {self.repo_id}/{file} (byte {at:,} of "
            f"{self.files[file].size:,}). Check the connection and start again: the same commit will be read. {last}"
        )


class Trouble:
    """How often in a row it has not gone well, and the pauses that are left."""

    def __init__(self, patience: Patience) -> None:
        self.count, self.pauses = 0, patience.pauses()


def header_end(head: bytes) -> int:
    """Where the data of a shard begins, by its first eight bytes; 8 as long as they are not known."""
    return 8 + int.from_bytes(head[:8], "little") if len(head) >= 8 else 8


def is_refused(error: Exception) -> bool:
    return isinstance(error, HfHubHTTPError) and not may_pass(error)


def has_expired(error: Exception, *, first: bool) -> bool:
    """Whether an address may have expired, and the Hub give a new one. 403 is what it then says, as a rule."""
    if not isinstance(error, HfHubHTTPError) or may_pass(error):
        return False
    asked = error.response.url
    from_hub = "/resolve/" in asked.path and is_hub(str(asked))  # and not from the server that it redirects to
    return not from_hub and (first or error.response.status_code == 403)


def check_range(answer: httpx2.Response, start: int, end: int, size: int) -> None:
    """Raise OddAnswer unless these are the bytes `start` to `end`: a proxy that ignores ranges sends other ones."""
    told = answer.headers.get("content-range", "")
    if answer.status_code != 206:
        raise OddAnswer(f"answered with the whole file (status {answer.status_code}) instead of a byte range")
    if told not in (f"bytes {start}-{end - 1}/{size}", f"bytes {start}-{end - 1}/*"):
        raise OddAnswer(f"sent the range {told!r} instead of bytes {start}-{end - 1} of {size}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise OddAnswer("sent the bytes compressed, though they were asked for as they are")
