"""The model card of a merge: what it was made of and how, how to run it, how to make it again, what was checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from merging.findings import listed
from merging.front_matter import read_front_matter, replace_metadata, split, write_front_matter
from merging.license import License, combine, id_of
from merging.markdown import code, escaped, fenced, link, plain, table
from merging.methods import METHODS
from merging.values import in_words

__all__ = ["read_front_matter", "replace_metadata", "with_repo_id", "write_card"]

Json = Mapping[str, Any]

HUB = "https://huggingface.co"
SHARD_BYTES = 5_000_000_000  # what the command takes when it is not told
THIS_MODEL = "path/to/this-model"  # in the example, until the repo has a name
UNCERTAIN_NAME = "see-the-parent-models"  # the Hub wants a name for `other`


def write_card(report: Json, cards: Mapping[str, Json]) -> str:
    """A whole README.md. `report` is that of merge_report.json, `cards` the front matter of each model by its label.

    Keys that the report lacks leave their sentence out. All text of others is escaped; YAML is written by the library.
    """
    licence = combine(cards) if cards else License("other", "The models have no cards.", certain=False)
    parts = (title(report), opening(report), merged(report), method(report), recipe(report), running(),
             reproducing(report), checked(report), licences(report, cards, licence), limits(report))  # fmt: skip
    return write_front_matter(metadata(report, cards, licence), "\n\n".join(p for p in parts if p) + "\n")


def with_repo_id(card: str, repo_id: str, *, license: str | None = None) -> str:
    """The card under the name it is published by, and under the licence that its publisher chose."""
    if license is not None and license != read_front_matter(card).get("license"):
        card = replace_metadata(card, license=license, license_name=None, license_link=None)
    text = split(card)[1].replace(THIS_MODEL, repo_id)
    first, _, rest = text.partition("\n")
    if first.startswith("# "):
        text = f"# {escaped(repo_id.rpartition('/')[2])}\n{rest}"
    return write_front_matter(read_front_matter(card), text)


def metadata(report: Json, cards: Mapping[str, Json], licence: License) -> dict[str, Any]:
    """What the Hub reads. Fields that would be empty are left out."""
    parents = list(dict.fromkeys(plain(m["repo_id"]) for m in models(report) if m.get("repo_id")))
    found = {
        "base_model": parents,
        "base_model_relation": "merge" if parents else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "alloy", *([plain(name)] if (name := method_of(report).get("name")) else [])],
        "license": licence.id,
        "license_name": licence.name or (UNCERTAIN_NAME if licence.id == "other" else None),
        "license_link": licence.link,
        "language": union(cards, "language"),
        "datasets": union(cards, "datasets"),
    }
    return {key: value for key, value in found.items() if value}


def union(cards: Mapping[str, Json], field: str) -> list[str]:
    """The values of a field in all cards. A YAML reader takes the language `no` for a false."""
    values = [card.get(field) for card in cards.values()]
    flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys("no" if v is False else plain(v) for v in flat if isinstance(v, str) or v is False))


def models(report: Json) -> list[Json]:
    return list(report.get("models") or ())


def is_base(model: Json) -> bool:
    return model.get("role") == "base"


def base_of(report: Json) -> Json | None:
    return next((m for m in models(report) if is_base(m)), None)


def method_of(report: Json) -> Json:
    return report.get("method") or {}


def shown(model: Json) -> str:
    """A model as a link where it has a page, by the name of its folder where it has not."""
    if repo_id := model.get("repo_id"):
        return link(plain(repo_id), HUB)
    return code(folder_name(plain(model.get("label", ""))) or "a folder")


def folder_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def title(report: Json) -> str:
    parents = [m for m in models(report) if not is_base(m)]
    names = [folder_name(plain(m.get("repo_id") or m.get("label") or "")) for m in parents]
    return f"# Merge of {escaped(listed(names))}" if 0 < len(names) <= 3 else f"# Merge of {len(names)} models"


def opening(report: Json) -> str:
    parents = [shown(m) for m in models(report) if not is_base(m)]
    base, named = base_of(report), method_of(report).get("title") or method_of(report).get("name")
    how = f", by {escaped(named).lower() if plain(named).istitle() else escaped(named)}" if named else ""
    on = f" on their base {shown(base)}" if base else ""
    return (
        f"This model is a merge of {listed(parents or ['several models'])}{on}{how}. Nothing was trained: every weight "
        "was computed from those of the parents."
    )


def merged(report: Json) -> str:
    rows = [[shown(m), code(str(m.get("revision") or "")[:12]), "base" if is_base(m) else "merged", settings(m)]
            for m in models(report)]  # fmt: skip
    whole = table(["Model", "Commit", "Part", "Parameters"], rows)
    return "## What was merged\n\n" + "\n\n".join([whole, *layers(report)])


def layers(report: Json) -> Iterator[str]:
    """What the layers are made of, where they were stacked anew."""
    names, rows, first = {m.get("label"): shown(m) for m in models(report)}, [], 0
    for part in report.get("slices") or ():
        sources = part.get("sources") or ()
        begin, end = next((s["layer_range"] for s in sources), (0, 0))
        of = [f"{names.get(s['label']) or escaped(s['label'])} {span(*s['layer_range'])}" for s in sources]
        own = [pairs(part.get("parameters") or {}), *(settings(s) for s in sources)]
        rows.append([span(first, first := first + end - begin), ", ".join(of), "; ".join(p for p in own if p)])
    if rows:
        yield f"Its {first} layers, counted from 0, are made of these:"
        yield table(["Layers", "Of", "Parameters"], rows)


def span(first: int, end: int) -> str:
    return f"{first}" if end == first + 1 else f"{first} to {end - 1}"


def settings(model: Json) -> str:
    return pairs(model.get("parameters") or {})


def pairs(settings: Json) -> str:
    """`weight 0.5, normalize true`, with values as a recipe has them."""
    return ", ".join(f"{escaped(k)} {escaped(in_words(v))}" for k, v in settings.items() if v is not None)


def method(report: Json) -> str:
    used = method_of(report)
    name = escaped(used.get("title") or used.get("name") or "unknown")
    paper = plain(used.get("paper") or "")
    source = f" ([paper]({paper}))" if paper.startswith("https://") and not set(paper) & set(" ()<>\"'") else ""
    lines = [f"**{name}**{source}. {escaped(used.get('summary') or '')}".rstrip()]
    if given := report.get("parameters"):  # those of each model stand beside it
        lines.append(f"Parameters: {pairs(given)}.")
    if dtype := report.get("dtype"):
        lines.append(f"The arithmetic was done in float32, rounded once to {escaped(dtype)}.")
    return "## Method\n\n" + "\n\n".join(lines)


def recipe(report: Json) -> str:
    text = report.get("recipe")
    return f"## Recipe\n\n{fenced(text, 'yaml')}" if isinstance(text, str) and text.strip() else ""


def running() -> str:
    example = f"""\
from transformers import pipeline

chat = pipeline("text-generation", model="{THIS_MODEL}")
messages = [{{"role": "user", "content": "Hello!"}}]
print(chat(messages, max_new_tokens=200)[0]["generated_text"][-1]["content"])"""
    return (
        f"## How to run it\n\n{fenced(example, 'python')}\n\nIf the parents have no chat template, give plain text "
        'instead of messages: `chat("Once upon a time")`.'
    )


def reproducing(report: Json) -> str:
    version = report.get("alloy")
    shard = report.get("shard_bytes", SHARD_BYTES)
    option = f" --shard-size {shard}" if isinstance(shard, int) and shard != SHARD_BYTES else ""
    random = METHODS[name].random if (name := str(method_of(report).get("name"))) in METHODS else True
    seed = f" Random choices follow from the seed {escaped(report['seed'])}." if random and "seed" in report else ""
    lines = [
        f"With Alloy{f' {escaped(version)}' if version else ''}, and the parents at the commits above:",
        fenced(f"python -m merging merge merge_recipe.yaml OUT{option}", "bash"),
        f"The result is the same bit for bit, whatever the number of threads and the memory.{seed}",
    ]
    folders = [shown(m) for m in models(report) if not m.get("repo_id")]
    if folders:
        many = len(folders) > 1
        lines.append(
            f"{listed(folders)} {'were' if many else 'was'} read from {'local folders' if many else 'a local folder'}, "
            f"and {'are' if many else 'is'} needed for it as well."
        )
    if shards := report.get("shards"):
        rows = [[code(s.get("file", "")), f"{s.get('bytes', 0):,}", code(s.get("sha256", ""))] for s in shards]
        lines.append(table(["File", "Bytes", "sha256"], rows))
    if versions := report.get("versions"):
        lines.append("Made with " + ", ".join(f"{escaped(k)} {escaped(v)}" for k, v in versions.items()) + ".")
    return "## How to make it again\n\n" + "\n\n".join(lines)


def checked(report: Json) -> str:
    """The findings. A block that was overridden comes first, and is called what it is."""
    found, allowed = list(report.get("findings") or ()), set(report.get("allowed") or ())
    lines = [*overridden(found, allowed), *warnings(found), *fine(found)]
    if not lines:
        return ""
    return "## What was checked before the merge\n\n" + "\n".join(f"- {line}" for line in lines)


def overridden(found: Sequence[Json], allowed: set[str]) -> Iterator[str]:
    for f in found:
        if f.get("level") == "block":
            by = f" (`--allow {plain(f['id'])}`)" if f.get("id") in allowed and plain(f["id"]).isascii() else ""
            yield f"**Overridden{by}:** {sentence(f)} {escaped(f.get('why') or '')} The merge was made all the same."


def warnings(found: Sequence[Json]) -> Iterator[str]:
    for f in found:
        if f.get("level") == "warn" and f.get("id") != "licence":
            yield f"**Warning:** {sentence(f)} {escaped(f.get('why') or '')}".rstrip()


def fine(found: Sequence[Json]) -> Iterator[str]:
    for f in found:
        if f.get("level") == "ok" and f.get("id") not in ("cost", "licence"):
            yield sentence(f)


def sentence(finding: Json) -> str:
    """The title, and what each model has, where they have something."""
    both = zip(finding.get("models") or (), finding.get("values") or (), strict=False)
    values = "; ".join(f"{escaped(label)}: {escaped(value)}" for label, value in both)
    return f"{escaped(finding.get('title') or '')}{f' ({values})' if values else ''}"


def licences(report: Json, cards: Mapping[str, Json], licence: License) -> str:
    names = {m.get("label"): shown(m) for m in models(report)}
    stated = [f"{names.get(k) or escaped(k)}: {escaped(id_of(card) or 'none stated')}" for k, card in cards.items()]
    who = f"By their cards, the parents are licensed as follows. {'; '.join(stated)}. " if stated else ""
    decide = "" if licence.certain else " Read them before you use this model."
    return f"## Licence\n\n{who}{escaped(licence.reason)}{decide}"


def limits(report: Json) -> str:
    donor = base_of(report) or next(iter(models(report)), None)
    takes = f"- Config, tokenizer and chat template are those of {shown(donor)}.\n" if donor else ""
    return (
        "## Limits\n\n"
        "- No public benchmark was run for this card. A merge can be worse than each of its parents: try it yourself.\n"
        f"{takes}"
        "- What the parents get wrong, and what they are biased towards, this model has from them.\n"
        "- Safety training of a parent may be weakened or undone by merging."
    )
