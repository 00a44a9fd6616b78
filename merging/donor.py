"""The files of a merged model that come whole from one of its parents: config, generation config and tokenizer."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from merging.checkpoint import Checkpoint
from merging.errors import MergeError

COPIED = (
    "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    "preprocessor_config.json",
)  # fmt: skip
MAX_COPIED_BYTES = 100_000_000
CHAT_TEMPLATE = re.compile(r"additional_chat_templates/[\w.-]+\.jinja")


def copied_files(donor: Checkpoint) -> list[tuple[str, int]]:
    """The files that are taken over as they are, with their sizes. Never code.

    Raises MergeError where one is too large to be what its name says: each is in memory for a moment.
    """
    sizes = donor.source.sizes()
    found = [(f, size) for f, size in sorted(sizes.items()) if f in COPIED or CHAT_TEMPLATE.fullmatch(f)]
    if large := next(((f, size) for f, size in found if size > MAX_COPIED_BYTES), None):
        raise MergeError(
            f"{donor.label}: {large[0]} has {large[1]:,} bytes; a file that a merge takes over has at most "
            f"{MAX_COPIED_BYTES:,}. Remove it from the model, or let another model come first."
        )
    return found


def donated_files(donor: Checkpoint, config: Mapping[str, Any], dtype: str) -> Iterator[tuple[str, bytes]]:
    """Every file that the merge takes from its donor: name and content. `dtype` is the type of the merged weights.

    `config` is the donor's, for the layers that the merge has.
    """
    if config:
        yield "config.json", (json.dumps(with_dtype(config, dtype), indent=2, ensure_ascii=False) + "\n").encode()
    for file, size in copied_files(donor):
        yield file, donor.source.read(file, 0, size)


def with_dtype(config: Any, dtype: str, nested: bool = False) -> dict[str, Any]:
    """The config with its type of weights replaced, under the names of transformers 4 and 5, in its parts as well."""
    changed = {k: with_dtype(v, dtype, nested=True) if k.endswith("_config") and isinstance(v, dict) else v
               for k, v in config.items()}  # fmt: skip
    named = [k for k in ("dtype", "torch_dtype") if k in config]
    return changed | dict.fromkeys(named or ([] if nested else ["dtype"]), dtype)
