"""The metadata at the head of a model card: read from anybody's text, written by the YAML library only."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from merging.errors import MergeError
from merging.strict_yaml import load_yaml

MARK = "---"
BLOCK = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


def split(card: str) -> tuple[str, str]:
    """The YAML between the marks, and the text after them; no YAML where the card does not start with a mark."""
    found = BLOCK.match(card)
    return (found[1], card[found.end() :].lstrip("\r\n")) if found else ("", card)


def read_front_matter(text: str) -> dict[str, Any]:
    """The metadata of a card; empty where there is none or it cannot be read."""
    try:
        found = load_yaml(split(text)[0], "The metadata")
    except MergeError:
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def write_front_matter(metadata: Mapping[str, Any], text: str) -> str:
    """A card of metadata and text. Whatever is in the values, they are read back as they were."""
    dumped = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=1000)
    return f"{MARK}\n{dumped}{MARK}\n\n{text}"


def replace_metadata(card: str, **fields: Any) -> str:
    """The card with these fields set, or removed where they are None. The text after the metadata stays."""
    changed = read_front_matter(card) | fields
    return write_front_matter({k: v for k, v in changed.items() if v is not None}, split(card)[1])
