"""What is read of a model before anything is decided about it: its small files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merging.card import read_front_matter
from merging.checkpoint import MAX_JSON_BYTES, Checkpoint
from merging.errors import MergeError
from merging.header import is_bomb
from merging.recipe import ModelRef
from merging.waiting import readers

MAX_TOKENIZER_BYTES = 64_000_000
MAX_LISTS = 4_000_000  # in a tokenizer, which may have one for each of its merge rules

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """One model as far as it is known without its weights."""

    label: str
    checkpoint: Checkpoint = field(repr=False)
    config: Json = field(repr=False)  # of the language model, where it is part of a larger one
    card: Json = field(repr=False)  # the front matter of its README
    tokenizer: bytes | None = field(repr=False)  # tokenizer.json
    tokenizer_config: Json = field(repr=False)
    chat_template: str | None = field(repr=False)

    @property
    def repo_id(self) -> str | None:
        return self.checkpoint.source.repo_id


def gather(refs: Sequence[ModelRef], checkpoints: Mapping[ModelRef, Checkpoint]) -> list[Facts]:
    """The facts of all models, in their order."""
    with readers([checkpoints[ref].source for ref in refs]) as pool:
        return list(pool.map(lambda ref: read_facts(label_of(ref, refs), checkpoints[ref]), refs))


def label_of(ref: ModelRef, refs: Sequence[ModelRef]) -> str:
    """How findings name a model: by its path, and by its revision where two have the same path."""
    return ref.path if [r.path for r in refs].count(ref.path) == 1 else str(ref)


def read_facts(label: str, checkpoint: Checkpoint) -> Facts:
    tokenizer_config = read_object(checkpoint, "tokenizer_config.json")
    return Facts(
        label=label,
        checkpoint=checkpoint,
        config=language_config(checkpoint.config),
        card=read_front_matter(read_text(checkpoint, "README.md") or ""),
        tokenizer=read_up_to(checkpoint, "tokenizer.json", MAX_TOKENIZER_BYTES),
        tokenizer_config=tokenizer_config,
        chat_template=read_text(checkpoint, "chat_template.jinja") or template_of(tokenizer_config),
    )


def language_config(config: Json) -> Json:
    """A model that sees or hears keeps the settings of its language part one level down."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    own = {"text_config", "vision_config", "audio_config"}
    return {k: v for k, v in {**inner, **config}.items() if k not in own}


def template_of(tokenizer_config: Json) -> str | None:
    """The chat template; the default one where there are several by name."""
    found = tokenizer_config.get("chat_template")
    if isinstance(found, list):
        named = {str(t.get("name")): t.get("template") for t in found if isinstance(t, Mapping)}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) else None


def read_object(checkpoint: Checkpoint, file: str) -> Json:
    """A JSON object, empty where it is missing or broken: none of these files decides by itself."""
    try:
        return checkpoint.json(file) or {}
    except MergeError:
        return {}


def read_text(checkpoint: Checkpoint, file: str) -> str | None:
    raw = read_up_to(checkpoint, file, MAX_JSON_BYTES)
    return None if raw is None else raw.decode("utf-8", errors="replace")


def read_up_to(checkpoint: Checkpoint, file: str, limit: int) -> bytes | None:
    """A whole file, or None where it is missing or larger than the limit."""
    size = checkpoint.source.sizes().get(file, limit + 1)
    return checkpoint.source.read(file, 0, size) if size <= limit else None


def parse_object(raw: bytes) -> Json | None:
    """A JSON object from bytes of strangers, or None."""
    if is_bomb(raw, MAX_LISTS):
        return None
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
