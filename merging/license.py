"""Under which licence a merge may be published, worked out from the licences of its parents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merging.findings import listed

# From the least demanding to the most: what the later one asks for covers the earlier.
# Source of the ids: https://huggingface.co/docs/hub/repositories-licenses
PERMISSIVE = (
    "cc0-1.0", "unlicense", "wtfpl", "zlib", "isc", "mit", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "apache-2.0",
)  # fmt: skip
# Those that ask for more than a notice; others than these are not of the Hub's list, and count as `other`.
STRICT_IDS = """
openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m openrail++
afl-3.0 artistic-2.0 bsl-1.0 c-uda cc cc-by-2.5 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
cdla-permissive-1.0 cdla-permissive-2.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl
gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
odc-by odbl openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma
"""
STRICT = frozenset(STRICT_IDS.split())
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
    """The Hub's id of the licence that a card states: `other` for several or an unknown one, empty for none."""
    found = card.get("license")
    ids = sorted({str(f).strip().lower() for f in (found if isinstance(found, list) else [found]) if f is not None})
    known = [f for f in ids if f not in SAYS_NOTHING]
    if len(known) == 1 and (known[0] in PERMISSIVE or known[0] in STRICT):
        return known[0]
    return "other" if known else ""


def text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
