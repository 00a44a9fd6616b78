"""Whether a published model is what its report says: pushed bytes read again, and their hashes compared."""

import hashlib
import json
import random
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from merging.checkpoint import read_header, read_whole
from merging.errors import Kept, MergeError
from merging.hub.repo import HubRepo
from merging.prefetch import Prefetch
from merging.reading import AHEAD, Range, cut
from merging.report import REPORT
from merging.waiting import Stopped

BLOCK = 8 << 20  # hashed at once

Extent = Literal["whole", "header", "nothing"]
Layout = Mapping[str, tuple[str, tuple[int, ...]]]  # tensor -> its type and shape


@dataclass(frozen=True, slots=True)
class Written:
    """A shard as the report tells of it."""

    file: str
    nbytes: int
    sha256: str
    tensors: Layout


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """What was read of a shard, and what is wrong with it, in words; empty when it is as it was written."""

    file: str
    nbytes: int
    read: Extent
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """How far it is: the bytes read, and the shards that are done."""

    read_bytes: int
    total_bytes: int
    shards: tuple[ShardCheck, ...] = ()
    of: int = 0  # shards in all

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(shard.fault for shard in self.shards if shard.fault)

    @property
    def whole(self) -> int:
        """Shards of which every byte was read."""
        return sum(shard.read == "whole" for shard in self.shards)


def verify(repo: HubRepo, *, share: float = 1.0, seed: int | None = None) -> Generator[Verified, None, Verified]:
    """Compare every shard with the report: its size, the Hub's checksum of it, and what is read of it again.

    The report has one SHA-256 for each shard, so a share of the bytes is some shards, read whole and hashed anew (one
    at least, by chance, so that more is seen each time), and the headers of all others, which must name the tensors
    that the report names. Yields how far it is.
    """
    if not 0 < share <= 1:
        raise MergeError(f"The share is {share:g}, it must be above 0 and at most 1.")
    shards = reported(repo)
    there = [shard for shard in shards if repo.sizes().get(shard.file) == shard.nbytes]
    whole = {shard.file for shard in chosen(there, share, random.Random(seed))}
    coming = ahead(repo, [shard for shard in there if shard.file in whole])
    found = Verified(0, sum(shard.nbytes for shard in there if shard.file in whole), of=len(shards))
    for shard in shards:
        faults = [stored_otherwise(repo, shard)]
        if shard.file in whole:
            digest = hashlib.sha256()
            for data in blocks(coming, shard):
                digest.update(data)
                found = replace(found, read_bytes=found.read_bytes + len(data))
                yield found
            faults.append(read_otherwise(shard, digest.hexdigest()))
        elif shard in there:
            faults.append(headed_otherwise(repo, shard))
        extent: Extent = "whole" if shard.file in whole else "header" if shard in there else "nothing"
        check = ShardCheck(shard.file, shard.nbytes, extent, " ".join(filter(None, faults)))
        found = replace(found, shards=(*found.shards, check))
        yield found
    return found


def reported(repo: HubRepo) -> list[Written]:
    """The shards that the report names."""
    try:
        report = json.loads(read_whole(repo, REPORT) or b"{}")
        layouts: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
        for t in report["tensors"]:
            layouts.setdefault(str(t["shard"]), {})[str(t["name"])] = str(t["dtype"]), tuple(map(int, t["shape"]))
        return [
            Written(str(s["file"]), int(s["bytes"]), str(s["sha256"]), layouts.get(str(s["file"]), {}))
            for s in report["shards"]
        ]
    except (ValueError, KeyError, TypeError):
        raise MergeError(
            f"{repo.label} has no {REPORT} that names its shards, so there is nothing to compare it with. "
            "Only models that Alloy has published can be verified."
        ) from None


def chosen(shards: Sequence[Written], share: float, chance: random.Random) -> list[Written]:
    """Shards at random, up to this share of the bytes; one at least."""
    total, taken = sum(s.nbytes for s in shards), list[Written]()
    for shard in chance.sample(shards, len(shards)):
        if taken and sum(s.nbytes for s in [*taken, shard]) > share * total:
            break
        taken.append(shard)
    return taken


def ahead(repo: HubRepo, shards: Collection[Written]) -> Prefetch:
    """These shards as they arrive, several requests at a time. What arrives is judged here, by the report alone."""
    stretches = cut([Range(shard.file, 0, shard.nbytes) for shard in shards], AHEAD)
    coming = Prefetch(repo.fetch, stretches, AHEAD, repo.label, repo.is_stopped, {})
    coming.start()
    return coming


def blocks(coming: Prefetch, shard: Written) -> Iterator[bytearray]:
    for start in range(0, shard.nbytes, BLOCK):
        data = bytearray(min(BLOCK, shard.nbytes - start))
        coming.read_into(shard.file, start, memoryview(data))
        yield data


def stored_otherwise(repo: HubRepo, shard: Written) -> str:
    """What the Hub itself says of a shard that is not as reported; empty when all is well."""
    file = shard.file
    if (size := repo.sizes().get(file)) is None:
        return f"{file} is missing."
    if size != shard.nbytes:
        return f"{file} has {size:,} bytes, but was written with {shard.nbytes:,}."
    if (sha256 := repo.sha256(file)) not in (None, shard.sha256):
        return f"The Hub keeps {file} as {sha256}, but it was written as {shard.sha256}."
    return ""


def read_otherwise(shard: Written, sha256: str) -> str:
    return "" if sha256 == shard.sha256 else f"{shard.file} reads as {sha256}, but was written as {shard.sha256}."


def headed_otherwise(repo: HubRepo, shard: Written) -> str:
    """What is wrong with the header of a shard; empty when it names the tensors that were written."""
    try:
        found = read_header(repo, shard.file, shard.nbytes)
    except (Kept, Stopped):
        raise
    except MergeError as broken:
        return str(broken)
    layout = {name: (info.dtype, info.shape) for name, info in found.items()}
    if odd := sorted(name for name in layout.keys() | shard.tensors if layout.get(name) != shard.tensors.get(name)):
        return f"The header of {shard.file} tells otherwise of {odd[0]!r} than the report."
    return ""
