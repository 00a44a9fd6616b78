"""What a model card must have before it is sent: metadata that can be read, and a licence that the Hub knows."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from merging.errors import MergeError
from merging.front_matter import split
from merging.license import PERMISSIVE, STRICT
from merging.strict_yaml import load_yaml

WHAT = "The metadata of the model card"
LICENSES = frozenset(PERMISSIVE) | STRICT | {"other", "unknown"}


def check_card(card: str) -> None:
    """Refuse a card whose metadata the Hub would refuse or not find."""
    head, _ = split(card)
    if not head.strip():
        raise MergeError(f"{WHAT} is missing: the card must begin with it, between two lines of ---.")
    metadata = load_yaml(f"\n{head}", WHAT)  # the first --- is line 1 of the card
    if not isinstance(metadata, Mapping):
        raise MergeError(f"{WHAT} must be lines like `license: mit`.")
    licence = metadata.get("license")
    for id in licence if isinstance(licence, list) else [licence]:
        if id is not None:
            check_license(id)


def check_license(id: Any) -> None:
    if isinstance(id, str) and id in LICENSES:
        return
    near = get_close_matches(str(id).lower(), sorted(LICENSES), n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise MergeError(
        f"{WHAT} has the licence {str(id)[:60]!r}, which the Hub does not know. {hint}"
        "Choose one of its list, or write `other` and a license_name."
    )
