"""Under which licence a merge may be published, worked out from the licences of its parents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merging.findings import listed

# From the least demanding to the most: what the later one asks for covers the earlier.
# Source of the ids: https://huggingface.co/docs/hub/repositories-licenses
PERMISSIVE = (
    "cc0-1.0", "unlicense", "wtfpl", "0bsd", "mit-0", "zlib", "isc", "mit", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "apache-2.0",
)  # fmt: skip
SAYS_NOTHING = ("", "unknown", "none")


@dataclass(frozen=True, slots=True)
class License:
    """The id for the card, with the name and the link that `other` needs, and one sentence on how it came about."""

    id: str
    reason: str
    name: str | None = None
    link: str | None = None
    certain: bool = True  # False: a person must decide


def combine(cards: Mapping[str, Mapping[str, Any]]) -> License:
    """The licence of a merge of these models, by their cards' front matter.

    Conservative: one and the same licence stays. Among permissive ones the most demanding is taken. A single
    licence that is not permissive wins over permissive ones. Two of that sort, or a model without a licence, give
    `other`: the terms of all of them hold, and a person must look.
    """
    given = {label: id_of(card) for label, card in cards.items()}
    silent = [label for label, found in given.items() if not found]
    ids = {found for found in given.values() if found}
    if silent:
        return License("other", f"{listed(silent)} states no licence, so none can be derived.", certain=False)
    if len(ids) == 1:
        return same_everywhere(ids.pop(), cards)
    strict = sorted(ids - set(PERMISSIVE))
    if not strict:
        most = max(ids, key=PERMISSIVE.index)
        return License(most, f"The models have {listed(sorted(ids))}; {most} asks for most and covers the others.")
    if len(strict) == 1 and strict[0] != "other":
        return License(strict[0], f"The models have {listed(sorted(ids))}; the strictest, {strict[0]}, holds for all.")
    reason = f"The models have {listed(sorted(ids))}. The terms of all of them hold together."
    return License("other", reason, certain=False)


def same_everywhere(id: str, cards: Mapping[str, Mapping[str, Any]]) -> License:
    """One licence; for `other`, only if it is the same one by name and link."""
    named = {(text(card.get("license_name")), text(card.get("license_link"))) for card in cards.values()}
    if id != "other":
        return License(id, f"All models have {id}.")
    if len(named) == 1 and any(named_once := named.pop()):
        return License(id, f"All models have {named_once[0] or named_once[1]}.", named_once[0], named_once[1])
    return License("other", "The models have licences of their own, which are not the same.", certain=False)


def id_of(card: Mapping[str, Any]) -> str:
    found = card.get("license")
    ids = sorted({str(f).strip().lower() for f in (found if isinstance(found, list) else [found]) if f is not None})
    known = [f for f in ids if f not in SAYS_NOTHING]
    return known[0] if len(known) == 1 else "other" if known else ""


def text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
