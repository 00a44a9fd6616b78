"""Output heads that are stored although the embeddings serve as head: only a true copy of them may be left out."""

from collections.abc import Sequence

from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import TensorInfo

HEAD = "lm_head.weight"
EMBEDDINGS = ("embed", "wte")  # one of these is in the name of every table of input embeddings
PLACES = 4  # looked at before the merge; all of it is compared when it begins
LOOK = 65_536  # bytes at each place
BLOCK = 8_000_000


def heads_of(checkpoint: Checkpoint) -> list[str]:
    return [name for name in checkpoint.tensors if name == HEAD or name.endswith(f".{HEAD}")]


def original(checkpoint: Checkpoint, head: str) -> TensorInfo | None:
    """The embeddings that a head repeats, as far as a look at a few places tells; None for a head of its own."""
    copy = checkpoint.tensors[head]
    tables = (info for name, info in checkpoint.tensors.items() if any(mark in name for mark in EMBEDDINGS))
    alike = (t for t in tables if t is not copy and (t.dtype, t.shape) == (copy.dtype, copy.shape))
    step = max(LOOK, (copy.nbytes - LOOK) // (PLACES - 1))
    places = [(at, min(at + LOOK, copy.nbytes)) for at in range(0, copy.nbytes, step)]
    return next((t for t in alike if all(same(checkpoint, copy, t, *place) for place in places)), None)


def same(checkpoint: Checkpoint, a: TensorInfo, b: TensorInfo, start: int, end: int) -> bool:
    """Whether two tensors have the same bytes from `start` to `end`."""
    found = (bytearray(end - start), bytearray(end - start))
    for info, buffer in zip((a, b), found, strict=True):
        checkpoint.read(info, start, memoryview(buffer))
    return found[0] == found[1]


def compare_heads(checkpoints: Sequence[Checkpoint], written: frozenset[str]) -> None:
    """Compare every head that is left out with its embeddings, to the last byte."""
    for checkpoint in checkpoints:
        for head in heads_of(checkpoint):
            if head not in written and not is_copy(checkpoint, head):
                raise MergeError(
                    f"{checkpoint.label} shares its embeddings with its output head (tie_word_embeddings), but stores "
                    f"{head!r} as well, and it differs from them in a few places. Load the model and save it again."
                )


def is_copy(checkpoint: Checkpoint, head: str) -> bool:
    copy, table = checkpoint.tensors[head], original(checkpoint, head)
    blocks = ((at, min(at + BLOCK, copy.nbytes)) for at in range(0, copy.nbytes, BLOCK))
    return table is not None and all(same(checkpoint, copy, table, *block) for block in blocks)
