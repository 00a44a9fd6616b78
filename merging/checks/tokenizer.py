"""Whether a token id means the same in all models."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from merging.checks.facts import Facts, Json, parse_object
from merging.checks.files import brief
from merging.errors import MergeError
from merging.findings import Finding, block, counted, listed, ok, warn

EXAMPLES = 3  # tokens named in a finding
MARKS = ("bos_token", "eos_token", "pad_token", "unk_token")
RULES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What of a tokenizer.json decides which text becomes which ids."""

    kind: str  # BPE, Unigram, WordPiece
    ids: Mapping[str, int]
    added: frozenset[str]  # the tokens that were added to the trained vocabulary
    merges: tuple[str, ...]
    rules: Mapping[str, Any]


def check_tokenizers(models: Sequence[Facts]) -> Iterator[Finding]:
    """Compare the tokenizers with that of the first model, which the merge takes."""
    parsed, faults = parse_all(models)
    if models[0].label in faults:
        yield broken_tokenizer(models[0].label, faults.pop(models[0].label))
    missing = {m.label: "none that can be read" for m in models if m.tokenizer is None}
    if unknown := {m.label: text for m in models if (text := (missing | faults).get(m.label))}:
        yield no_tokenizer(unknown)
    if len(parsed) > 1:
        (first, reference), *others = parsed.items()
        found = [f for label, other in others for f in compare(first, reference, label, other)]
        yield from found
        if not any(f.level == "block" for f in found):
            yield from compare_marks([m for m in models if m.label in parsed])
        if not found:
            yield ok("tokenizer", f"The tokenizers agree: {reference.kind} with {len(reference.ids):,} tokens.")
    yield from compare_templates(models)


def parse_all(models: Sequence[Facts]) -> tuple[dict[str, Tokenizer], dict[str, str]]:
    """The tokenizers, and what is wrong with the others, by label.

    Each different file is parsed once: it can be tens of megabytes, and is mostly the same.
    """
    files = {m.label: m.tokenizer for m in models if m.tokenizer is not None}
    parsed = {raw: parse_or_fault(raw) for raw in dict.fromkeys(files.values())}
    found = {label: parsed[raw] for label, raw in files.items()}
    return (
        {label: t for label, t in found.items() if isinstance(t, Tokenizer)},
        {label: fault for label, fault in found.items() if isinstance(fault, str)},
    )


def parse_or_fault(raw: bytes) -> Tokenizer | str:
    try:
        return parse_tokenizer(raw)
    except MergeError as error:
        return str(error)


def parse_tokenizer(raw: bytes) -> Tokenizer:
    data = parse_object(raw)
    if data is None:
        raise MergeError("tokenizer.json is not a JSON object")
    model = data.get("model")
    if not isinstance(model, dict):
        raise MergeError(f"tokenizer.json: model is {brief(model)}, it must be a mapping")
    added = added_tokens(data)
    return Tokenizer(
        kind=str(model.get("type") or "BPE"),
        ids={**vocabulary(model), **added},
        added=frozenset(added),
        merges=merge_rules(listed_under("model.merges", model.get("merges"))),
        rules={rule: data.get(rule) for rule in RULES},
    )


def listed_under(key: str, value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise MergeError(f"tokenizer.json: {key} is {brief(value)}, it must be a list")
    return value or []


def merge_rules(values: list[Any]) -> tuple[str, ...]:
    """A rule stands as `a b` or as ["a", "b"]. There can be hundreds of thousands, so none has a call of its own."""
    kinds = {value.__class__ for value in values}
    if kinds <= {str}:
        return tuple(values)
    with suppress(TypeError):  # a part that is no text
        if kinds <= {str, list}:
            return tuple([v if v.__class__ is str else " ".join(v) for v in values])
    wrong = next(v for v in values if not (isinstance(v, str) or texts(v)))
    raise MergeError(f"tokenizer.json: model.merges has {brief(wrong)}, which is no pair of texts")


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def vocabulary(model: Json) -> dict[str, int]:
    found = model.get("vocab")
    if isinstance(found, dict):
        is_sound = set(map(type, found.values())) <= {int}
        return found if is_sound else {token: id for token, id in found.items() if type(id) is int}
    if isinstance(found, list):  # Unigram: pairs of a token and its score
        return {str(pair[0]): id for id, pair in enumerate(found) if isinstance(pair, list) and pair}
    raise MergeError(f"tokenizer.json: model.vocab is {brief(found)}, it must be a mapping or a list")


def added_tokens(data: Json) -> dict[str, int]:
    found = listed_under("added_tokens", data.get("added_tokens"))
    tokens = [t for t in found if isinstance(t, dict) and isinstance(t.get("id"), int)]
    return {str(t.get("content")): t["id"] for t in tokens}


def compare(first: str, reference: Tokenizer, label: str, other: Tokenizer) -> Iterator[Finding]:
    if reference is other:
        return
    if reason := clash(reference, other):
        yield different_tokenizer(first, label, reason)
        return
    more, less = other.ids.keys() - reference.ids.keys(), reference.ids.keys() - other.ids.keys()
    if more or less:
        yield extra_tokens(first, label, more, less)
    changed = [rule for rule in RULES if reference.rules[rule] != other.rules[rule]]
    if changed:
        yield tokenizer_rules(first, label, changed)


def clash(a: Tokenizer, b: Tokenizer) -> str | None:
    """How the tokenizers contradict each other, or None. Added tokens that only one has are no contradiction."""
    moved = [t for t, id in a.ids.items() if b.ids.get(t, id) != id]
    if moved:
        examples = ", ".join(f"{t!r} is {a.ids[t]} and {b.ids[t]}" for t in moved[:EXAMPLES])
        return f"other ids for {counted(len(moved), 'token')}: {examples}"
    if a.kind != b.kind:
        return f"one is {a.kind}, the other {b.kind}"
    lone = sorted(((a.ids.keys() ^ b.ids.keys()) - a.added) - b.added)
    if lone:
        return f"{counted(len(lone), 'token')} of the vocabulary in one only: {', '.join(map(repr, lone[:EXAMPLES]))}"
    if reused := reused_ids(a, b):
        return f"ids stand for different tokens: {', '.join(reused[:EXAMPLES])}"
    if a.merges != b.merges:
        return f"they join characters by different rules ({len(a.merges):,} and {len(b.merges):,} merges)"
    return None


def reused_ids(a: Tokenizer, b: Tokenizer) -> list[str]:
    tokens = {id: token for token, id in a.ids.items()}
    return [f"{id} is {tokens[id]!r} and {t!r}" for t, id in b.ids.items() if id in tokens and t not in a.ids]


def different_tokenizer(first: str, label: str, reason: str) -> Finding:
    return block(
        "different-tokenizer",
        f"{first} and {label} have different tokenizers.",
        {first: "the reference", label: reason},
        why="A row of the embeddings is then one word in one model and another word in the other. Their mixture "
        "means neither.",
        remedy="Merge models with one tokenizer. (A rule that maps tokens to each other is not offered yet.)",
        computable=False,
    )


def extra_tokens(first: str, label: str, more: set[str], less: set[str]) -> Finding:
    return warn(
        "extra-tokens",
        f"{first} and {label} have different added tokens.",
        {first: f"lacks {examples(more)}", label: f"lacks {examples(less)}"},
        why="The merge takes the tokenizer of the first model. Tokens that it lacks can be neither read nor written "
        "any more, and rows that only one model trained are mixed with untrained ones.",
        remedy="If the added tokens matter (a chat format, tools), put the model that has them first, or as the base.",
    )


def examples(tokens: set[str]) -> str:
    named = ", ".join(map(repr, sorted(tokens)[:EXAMPLES]))
    return f"{counted(len(tokens), 'token')}: {named}" if tokens else "none"


def tokenizer_rules(first: str, label: str, changed: Sequence[str]) -> Finding:
    return warn(
        "tokenizer-rules",
        f"{first} and {label} prepare text differently.",
        {first: "the reference", label: f"another {' and '.join(changed)}"},
        why="The same text can become other tokens than a model was trained on. Often it is only another version of "
        "the same file.",
        remedy="Usually none is needed. Compare the two tokenizer.json files if answers look odd.",
    )


def broken_tokenizer(label: str, fault: str) -> Finding:
    return block(
        "broken-tokenizer",
        f"The tokenizer of {label} cannot be used: {fault}.",
        {label: fault},
        why="The merge takes its tokenizer from this model, and could not read or write text with it.",
        remedy="Download tokenizer.json again, or put another model first, or as the base.",
    )


def no_tokenizer(labels: Mapping[str, str]) -> Finding:
    return warn(
        "no-tokenizer",
        f"{listed(labels)} {'has' if len(labels) == 1 else 'have'} no tokenizer.json that can be compared.",
        labels,
        why="Whether a token id means the same in all models is then not known.",
        remedy="Make sure yourself that the models share one tokenizer.",
    )


def compare_marks(models: Sequence[Facts]) -> Iterator[Finding]:
    """The tokens that begin, end and fill a text."""
    marks = {m.label: {mark: text_of(m.tokenizer_config.get(mark)) for mark in MARKS} for m in models}
    first, *rest = marks.values()
    differing = [k for k in MARKS if any(None not in (first[k], r[k]) and first[k] != r[k] for r in rest)]
    if differing:
        yield warn(
            "special-tokens",
            "The models mark begin, end or padding with different tokens.",
            {label: ", ".join(f"{k} {m[k]!r}" for k in differing) for label, m in marks.items()},
            why="The merge stops where the first model's tokenizer says; a model trained to end otherwise may run on.",
            remedy="Set the stop tokens of the merge yourself if answers do not end.",
        )


def text_of(token: Any) -> str | None:
    """A special token stands as text, or as an object with its content."""
    found = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else None


def compare_templates(models: Sequence[Facts]) -> Iterator[Finding]:
    templates = {m.label: m.chat_template for m in models}
    given = {t.strip() for t in templates.values() if t}
    if len(given) > 1:
        order = {t: chr(ord("A") + n) for n, t in enumerate(dict.fromkeys(t.strip() for t in templates.values() if t))}
        yield warn(
            "chat-template",
            "The chat templates differ.",
            {k: f"template {order[t.strip()]}, {len(t):,} characters" if t else "none" for k, t in templates.items()},
            why="A model answers best in the format it was trained on. The merge takes the first model's, so the "
            "others hear a format that is strange to them.",
            remedy="Prefer fine-tunes with one chat format, or try the merge in chat before you publish it.",
        )
