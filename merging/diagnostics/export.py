"""A diagnosis as JSON, which is read back to an equal value, and as a table of one number a line."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from merging.diagnostics import nulls
from merging.diagnostics.diagnosis import Diagnosis
from merging.diagnostics.entries import Histogram
from merging.diagnostics.numbers import Model, Pair, Part, energy_null
from merging.diagnostics.sums import SHARES

COLUMNS = ("level", "name", "layer", "role", "entries", "looked", "quantity", "model", "other", "value", "null")
LEVELS = ("whole", "roles", "layers", "cells", "tensors")
Row = tuple[str, str, str, float | None, float | None]  # quantity, model, other model, value, null value


def to_json(diagnosis: Diagnosis) -> str:
    return json.dumps(tree(diagnosis), indent=2, ensure_ascii=False)


def tree(diagnosis: Diagnosis) -> dict[str, Any]:
    """For programs; with what unrelated task vectors would show, where that is the same everywhere."""
    return asdict(diagnosis) | {"energy_shares": SHARES, "nulls": null_values()}


def null_values() -> dict[str, Any]:
    return {
        "size": nulls.UNRELATED_SIZE, "cosine": nulls.COSINE, "norm_ratio": nulls.NORM_RATIO,
        "unchanged": nulls.UNCHANGED, "conflict": nulls.CONFLICT, "conflict_weighted": nulls.CONFLICT,
        "energy": energy_null(),
    }  # fmt: skip


def from_json(text: str) -> Diagnosis:
    found = json.loads(text)
    for extra in ("energy_shares", "nulls"):
        found.pop(extra)
    found["models"], found["whole"] = tuple(found["models"]), part_from(found["whole"])
    for level in LEVELS[1:]:
        found[level] = tuple(map(part_from, found[level]))
    return Diagnosis(**found)


def part_from(raw: Mapping[str, Any]) -> Part:
    models = tuple(Model(**one | {"energy": tuple(one["energy"])}) for one in raw["models"])
    return Part(**{**raw, "models": models, "pairs": tuple(Pair(**one) for one in raw["pairs"])})


def to_csv(diagnosis: Diagnosis) -> str:
    """One number a line, beside its null value; empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for level in LEVELS:
        parts: tuple[Part, ...] = (diagnosis.whole,) if level == "whole" else getattr(diagnosis, level)
        for part in parts:
            place = (level, part.name, part.layer, part.role, part.entries, part.looked)
            writer.writerows((*place, *row) for row in rows_of(part, diagnosis.models))
    return out.getvalue()


def histogram_csv(found: Histogram) -> str:
    """A line for each bin of each model, and of the merge; entries that are not changed at all lie from 0 to 0."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("tensor", "model", "from", "to", "share of the entries"))
    for name, shares, unchanged in found.rows:
        bins = zip(found.edges, found.edges[1:], shares, strict=False)
        writer.writerows((found.tensor, name, *one) for one in ((0.0, 0.0, unchanged), *bins))
    return out.getvalue()


def rows_of(part: Part, models: tuple[str, ...]) -> Iterator[Row]:
    for label, one in zip(models, part.models, strict=False):  # none without a base
        yield "size", label, "", one.size, nulls.UNRELATED_SIZE
        yield "unchanged", label, "", one.unchanged, nulls.UNCHANGED
        yield "kept", label, "", one.kept, None
        for share, energy, null in zip(SHARES, one.energy, energy_null(), strict=True):
            yield f"energy_top_{100 * share:g}%", label, "", energy, null
    for pair in part.pairs:
        for quantity, value, by_chance in pair_rows(pair):
            yield quantity, models[pair.a], models[pair.b], value, by_chance
    yield "merged", "", "", part.merged, part.merged_null


def pair_rows(pair: Pair) -> tuple[tuple[str, float | None, float | None], ...]:
    return (
        ("cosine", pair.cosine, nulls.COSINE),
        ("distance", pair.distance, None),
        ("norm_ratio", pair.norm_ratio, nulls.NORM_RATIO),
        ("both", pair.both, None),
        ("conflict", pair.conflict, nulls.CONFLICT),
        ("conflict_weighted", pair.conflict_weighted, nulls.CONFLICT),
        ("trimmed_both", pair.trimmed_both, pair.trimmed_both_null),
        ("trimmed_conflict", pair.trimmed_conflict, pair.trimmed_conflict_null),
    )
