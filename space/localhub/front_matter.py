"""Reads the YAML at the head of a README, and checks it as the Hub does when a card is pushed."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

BLOCK = re.compile(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
LINK = "https://huggingface.co/docs/hub/model-cards#model-card-metadata"
TEXTS = ("library_name", "pipeline_tag", "license_name", "license_link", "base_model_relation", "thumbnail")
TEXTS_OR_LISTS = ("license", "language", "base_model", "datasets", "metrics", "new_version")
LICENSE_NAMES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
other
"""
LICENSES = frozenset(LICENSE_NAMES.split())


class InvalidCard(ValueError):
    """The head of the README is not YAML, or not a mapping."""


def front_matter(readme: str) -> dict[str, Any] | None:
    """The metadata of a card as plain JSON values, or nothing if it has none."""
    match = BLOCK.match(readme)
    if not match:
        return None
    try:
        card = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise InvalidCard(f"The metadata is not YAML: {error}") from None
    if card is None:
        return None
    if not isinstance(card, dict):
        raise InvalidCard("The metadata must be a mapping.")
    return as_json(card)


def as_json(card: dict[str, Any]) -> dict[str, Any]:
    """A YAML date becomes text, and what is no number becomes null."""
    try:
        text = json.dumps(card, default=str, skipkeys=True)
    except (ValueError, RecursionError) as error:
        raise InvalidCard(f"The metadata cannot be read: {error}") from None
    plain: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return plain


def faults_of(card: Mapping[str, Any]) -> Iterator[str]:
    """What the Hub would refuse in a model card's metadata."""
    yield from (f'"{key}" must be a string' for key in TEXTS if not isinstance(card.get(key, ""), str))
    for key in TEXTS_OR_LISTS:
        if not (isinstance(card.get(key, ""), str) or all_texts(card[key])):
            yield f'"{key}" must be a string or an array of strings'
    if not all_texts(card.get("tags") or []):
        yield '"tags" must be an array of strings'
    for name in listed(card.get("license")):
        if name not in LICENSES:
            yield f'"license" must be one of [{", ".join(sorted(LICENSES))}], not {name!r}'
    index = card.get("model-index", [])
    if not (isinstance(index, list) and all(isinstance(item, dict) and "name" in item for item in index)):
        yield '"model-index" must be an array of models with a name'


def all_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def listed(value: object) -> list[str]:
    """One text or a list of them, as a list; whatever else it is, nothing."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def verdict(readme: str) -> tuple[list[str], list[str]]:
    """Errors and warnings for a README that is to be pushed."""
    try:
        card = front_matter(readme)
    except InvalidCard as error:
        return [str(error)], []
    if card is None:
        return [], [f"empty or missing yaml metadata in repo card ({LINK})"]
    return list(faults_of(card)), []
