"""The model card and the report of a merge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sources:
    """What the card needs to know of one input."""

    label: str
    repo_id: str | None
    revision: str | None
    card: Mapping[str, Any]  # the front matter of its README
