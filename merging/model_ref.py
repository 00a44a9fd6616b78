"""How a recipe names a model: a local folder, or a Hub repo at a revision."""

import re
from dataclasses import dataclass
from typing import Any

from merging.errors import MergeError
from merging.settings import shown

WITH_REVISION = re.compile(r"(?P<path>[\w-][\w.-]*(/[\w.-]+)?)@(?P<revision>[^@\s]+)")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A local folder, or a Hub repo at a revision: `org/name[@revision]`."""

    path: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.path}@{self.revision}" if self.revision else self.path


def read_model(raw: Any, place: str) -> ModelRef:
    if isinstance(raw, dict):
        raise MergeError(
            f"{place} is a mapping; write it as `org/name@revision`. Adapters (lora) are not supported yet."
        )
    if not isinstance(raw, str) or not raw or len(raw) > 1000 or not raw.isprintable() or raw != raw.strip():
        raise MergeError(f"{place} is {shown(raw)}, it must be a Hub repo like `org/name[@revision]` or a folder.")
    local = raw.startswith(("/", ".", "~"))
    if "+" in raw and not local:
        raise MergeError(
            f"{place} is {shown(raw)}. Adapters (model+lora) are not supported yet; write a folder as ./{raw}."
        )
    if not local and (found := WITH_REVISION.fullmatch(raw)):
        return ModelRef(found["path"], found["revision"])
    return ModelRef(raw)
