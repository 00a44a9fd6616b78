"""How far a merge, a diagnosis or a publication is."""

from dataclasses import dataclass

WORD = 0.2  # seconds between two words on progress, at least


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been done so far; yielded a few times a second at most."""

    done_bytes: int  # read and written
    total_bytes: int
    tensor: str
    tensors_done: int
    tensors: int
    shard: int  # 1-based
    shards: int
    note: str = ""  # something to be told at once
