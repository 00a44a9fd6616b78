"""Whether a published model is what its report says: pushed bytes read again, and their hashes compared."""

import hashlib
import json
import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merging.checkpoint import read_whole
from merging.errors import MergeError
from merging.hub.repo import HubRepo
from merging.report import REPORT

BLOCK = 8 << 20  # read at once
SHARE = 0.1  # of the bytes, at least one shard


@dataclass(frozen=True, slots=True)
class Verified:
    """How far it is; `faults` says in words what is not as it should be."""

    read_bytes: int
    total_bytes: int
    shards: int  # that are read again
    of: int
    faults: tuple[str, ...] = field(default=())


def verify(repo: HubRepo, *, whole: bool = False, seed: int | None = None) -> Generator[Verified, None, Verified]:
    """Compare the Hub's checksum of every shard with the report's, and read some of them again, or all.

    Which ones is left to chance, so that more is seen each time.
    """
    shards = reported(repo)
    faults = [fault for shard in shards if (fault := stored_otherwise(repo, shard))]
    chosen = shards if whole else share(shards, random.Random(seed))
    chosen = [shard for shard in chosen if shard["file"] in repo.sizes()]
    total, read = sum(repo.sizes()[s["file"]] for s in chosen), 0
    for shard in chosen:
        digest, size = hashlib.sha256(), repo.sizes()[shard["file"]]
        for start in range(0, size, BLOCK):
            end = min(start + BLOCK, size)
            digest.update(repo.read(shard["file"], start, end))
            read += end - start
            yield Verified(read, total, len(chosen), len(shards), tuple(faults))
        if digest.hexdigest() != shard["sha256"]:
            faults.append(f"{shard['file']} reads as {digest.hexdigest()}, but was written as {shard['sha256']}.")
    return Verified(read, total, len(chosen), len(shards), tuple(dict.fromkeys(faults)))


def reported(repo: HubRepo) -> list[Mapping[str, Any]]:
    try:
        shards = json.loads(read_whole(repo, REPORT) or b"{}")["shards"]
        return [{"file": str(s["file"]), "bytes": int(s["bytes"]), "sha256": str(s["sha256"])} for s in shards]
    except (ValueError, KeyError, TypeError):
        raise MergeError(
            f"{repo.label} has no {REPORT} that names its shards, so there is nothing to compare it with. "
            "Only models that Alloy has published can be verified."
        ) from None


def stored_otherwise(repo: HubRepo, shard: Mapping[str, Any]) -> str:
    """What the Hub itself says of a shard that is not as reported; empty when all is well."""
    file = shard["file"]
    if (size := repo.sizes().get(file)) is None:
        return f"{file} is missing."
    if size != shard["bytes"]:
        return f"{file} has {size:,} bytes, but was written with {shard['bytes']:,}."
    if (sha256 := repo.sha256(file)) not in (None, shard["sha256"]):
        return f"The Hub keeps {file} as {sha256}, but it was written as {shard['sha256']}."
    return ""


def share(shards: Sequence[Mapping[str, Any]], chance: random.Random) -> list[Mapping[str, Any]]:
    """Shards at random, up to a tenth of the bytes; one at least."""
    total, chosen = sum(s["bytes"] for s in shards), list[Mapping[str, Any]]()
    for shard in chance.sample(list(shards), len(shards)):
        if chosen and sum(s["bytes"] for s in [*chosen, shard]) > SHARE * total:
            break
        chosen.append(shard)
    return chosen
