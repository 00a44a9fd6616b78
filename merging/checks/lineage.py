"""What the models say about where they come from. Only their weights prove it."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from merging.checks.facts import Facts
from merging.findings import Finding, listed, ok, warn

REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def check_lineage(models: Sequence[Facts], base: Facts | None) -> Iterator[Finding]:
    said = {m.label: declared_bases(m) for m in models if m is not base}
    wanted = {base.repo_id.lower()} if base and base.repo_id else None
    speaking = {label: bases for label, bases in said.items() if bases}
    if wanted is None and speaking:
        wanted = {b.lower() for b in next(iter(speaking.values()))}
    strange = {
        label: ", ".join(bases)
        for label, bases in speaking.items()
        if wanted and not wanted & {b.lower() for b in bases}
    }
    if strange:
        yield warn(
            "declared-base",
            f"{listed(strange)} {'names' if len(strange) == 1 else 'name'} another base than "
            f"{'the recipe' if base else 'the first model'}.",
            {**({base.label: "base of the recipe"} if base else {}), **strange},
            why="A task vector is the difference to the model that was trained on; against another one it is noise.",
            remedy="Take the base that the cards name, or see below what the weights themselves say.",
        )
    elif speaking and wanted:
        named = sorted({b for bases in speaking.values() for b in bases if b.lower() in wanted})
        yield ok("lineage", f"{listed(speaking)} {'names' if len(speaking) == 1 else 'name'} {named[0]} as base.")


def declared_bases(model: Facts) -> list[str]:
    """The repo IDs that a model's card and config name as its base."""
    found: Any = model.card.get("base_model") or []
    named = [str(b) for b in (found if isinstance(found, list) else [found])]
    origin = model.checkpoint.config.get("_name_or_path")
    if not named and isinstance(origin, str) and REPO_ID.fullmatch(origin) and origin != model.repo_id:
        named = [origin]
    return named
