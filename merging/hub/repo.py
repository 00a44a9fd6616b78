"""A repo of the Hub at one commit, read by byte range as if it lay here."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import httpx2  # the Hub client's own, for its types
from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from merging.errors import MergeError
from merging.hub.client import Client, asked_to_wait, is_hub, may_pass, prepare
from merging.hub.words import HubFault
from merging.ranges import ReadAhead


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
    addresses: dict[str, str] = field(default_factory=dict, repr=False)  # file -> where the Hub redirected to

    stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    @cached_property
    def ahead(self) -> ReadAhead:
        return ReadAhead(self.fetch, self.sizes())

    def sizes(self) -> Mapping[str, int]:
        return {path: file.size for path, file in self.files.items()}

    def sha256(self, file: str) -> str | None:
        """The checksum that the Hub keeps of a large file; None for a small one."""
        lfs = self.files[file].lfs
        return lfs.sha256 if lfs else None

    def read(self, file: str, start: int, end: int) -> bytes:
        buffer = bytearray(end - start)
        self.read_into(file, start, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, file: str, start: int, into: memoryview) -> None:
        if start + len(into) > self.files[file].size:
            raise MergeError(
                f"{self.label}/{file} has {self.files[file].size:,} bytes, but bytes up to {start + len(into):,} are "
                "needed. The repo is broken; tell its owner."
            )
        self.ahead.read_into(file, start, into)

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.stop()
        self.ahead.clear()

    def probe(self) -> None:
        """Read a few bytes: a gated repo shows its files to everybody, and refuses only what is in them."""
        weights = sorted(f for f in self.files if f.endswith(".safetensors"))
        for file in [*weights, "config.json"][:1]:
            if size := self.files[file].size if file in self.files else 0:
                self.read(file, 0, min(8, size))

    def fetch(self, file: str, start: int, into: memoryview) -> None:
        """Fill `into`, in as many requests as it takes: each goes on at the byte where the last one stopped."""
        prepare()
        done, pauses = 0, self.client.patience.pauses()
        while done < len(into):
            try:
                for chunk in self.stream(file, start + done, start + len(into)):
                    self.refuse_when_stopped()
                    into[done : done + len(chunk)] = chunk
                    done += len(chunk)
                    pauses = self.client.patience.pauses()  # it moves, so patience starts anew
            except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
                self.stopped.wait(self.pause_after(error, next(pauses, None), file, start + done))
                self.refuse_when_stopped()

    def refuse_when_stopped(self) -> None:
        if self.stopped.is_set():
            raise MergeError(f"The reading of {self.repo_id} was stopped.")

    def pause_after(self, error: Exception, pause: float | None, file: str, at: int) -> float:
        """The seconds to wait before the next request, or the error that ends the reading."""
        if self.addresses.pop(file, None) and isinstance(error, HfHubHTTPError) and not may_pass(error):
            return 0  # a signed address expires; the Hub gives a new one
        limit = asked_to_wait(error)
        if not may_pass(error) or limit > self.client.patience.longest_limit:
            raise self.client.in_words(error, self.repo_id) from None
        if pause is None:
            raise self.gave_up(error, file, at) from None
        return max(pause, limit)

    def stream(self, file: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes of one request, whose answer is checked to be that range, whole and unpacked."""
        url = self.addresses.get(file) or hf_hub_url(self.repo_id, file, revision=self.revision)
        headers = build_hf_headers(token=self.client.token if is_hub(url) else False, library_name="alloy")
        headers |= {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with get_session().stream("GET", url, headers=headers, timeout=self.client.timeout) as answer:
            hf_raise_for_status(answer)
            check_range(answer, start, end, self.files[file].size)
            self.addresses[file] = str(answer.url)
            left = end - start
            for chunk in answer.iter_raw():
                if (left := left - len(chunk)) < 0:
                    raise OddAnswer("sent more bytes than were asked for")
                yield chunk
        if left:
            raise OddAnswer("sent fewer bytes than were asked for")

    def gave_up(self, error: Exception, file: str, at: int) -> HubFault:
        last = f"It {error}." if isinstance(error, OddAnswer) else str(self.client.in_words(error, self.repo_id))
        return HubFault(
            f"The Hub stopped answering while reading {self.repo_id}/{file} (byte {at:,} of "
            f"{self.files[file].size:,}). Check the connection and start again: the same commit will be read. {last}"
        )


def check_range(answer: httpx2.Response, start: int, end: int, size: int) -> None:
    """Raise OddAnswer unless these are the bytes `start` to `end`: a proxy that ignores ranges sends other ones."""
    told = answer.headers.get("content-range", "")
    if answer.status_code != 206:
        raise OddAnswer(f"answered with the whole file (status {answer.status_code}) instead of a byte range")
    if told not in (f"bytes {start}-{end - 1}/{size}", f"bytes {start}-{end - 1}/*"):
        raise OddAnswer(f"sent the range {told!r} instead of bytes {start}-{end - 1} of {size}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise OddAnswer("sent the bytes compressed, though they were asked for as they are")
