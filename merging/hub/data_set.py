"""One file of a data set on the Hub, read whole by who may read it; no cache sees it."""

import re

from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from merging.errors import MergeError
from merging.hub.access import Hub
from merging.hub.words import UnknownRepo

# A page's address will do, or what its owner would write: org/name/folder/file.jsonl, perhaps org/name@revision/…
PLACE = re.compile(
    r"(?:https://(?:huggingface\.co|hf\.co)/)?(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/"
    r"(?:(?:blob|resolve|raw)/(?P<branch>[\w.-]+)/)?(?P<file>[\w./ -]+\.(?:jsonl|json|tsv|txt))"
)


def is_data_file(text: str) -> bool:
    return PLACE.fullmatch(text.strip()) is not None


def read_data_file(hub: Hub, place: str, max_bytes: int) -> bytes:
    """Raises MergeError where there is no such file for this caller, or where it is larger than that."""
    found = PLACE.fullmatch(place.strip())
    if found is None:
        raise MergeError(f"{place.strip()[:80]!r} names no file of a data set. Write org/name/file.jsonl.")
    repo, file = found["repo"], found["file"]
    url = hf_hub_url(repo, file, repo_type="dataset", revision=found["revision"] or found["branch"])
    headers = build_hf_headers(token=hub.token, library_name="alloy")

    def read() -> bytes:
        with get_session().stream("GET", url, headers=headers, timeout=hub.client.timeout) as answer:
            try:
                hf_raise_for_status(answer)
            except EntryNotFoundError:
                raise MergeError(f"The data set {repo} has no file {file}. Its page on the Hub lists them.") from None
            read = bytearray()
            for chunk in answer.iter_bytes():
                read += chunk
                if len(read) > max_bytes:
                    raise MergeError(f"{repo}/{file} has more than {max_bytes:,} bytes. Give a smaller file.")
            return bytes(read)

    try:
        return hub.client.ask(f"the data set {repo}", read)
    except UnknownRepo:
        way = "" if hub.token else ", or sign in"
        raise MergeError(
            f"There is no data set {repo} on the Hub, or your account cannot see it. Check the spelling{way}."
        ) from None
