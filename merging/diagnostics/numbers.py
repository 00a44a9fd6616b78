"""The numbers of a diagnosis, each beside what two unrelated task vectors would show. Pure."""

import math
from dataclasses import dataclass

import numpy as np

from merging.diagnostics import nulls
from merging.diagnostics.sums import SHARES, Sums
from merging.roles import Role


@dataclass(frozen=True, slots=True)
class Model:
    """What one fine-tune changed. None where there was nothing to divide by."""

    size: float | None  # norm of the task vector, as a share of the base's norm
    unchanged: float | None  # share of the entries that are those of the base
    energy: tuple[float | None, ...]  # share of the squared norm in the largest SHARES of the entries
    kept: float | None  # share of the entries that trimming keeps, without those that are zero


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models, by their places. What needs a base is None where there is none."""

    a: int
    b: int
    cosine: float | None  # of their task vectors; of the models themselves where there is no base
    distance: float | None  # between the two, as a share of the norm of the reference
    norm_ratio: float | None  # the larger norm by the smaller
    both: float | None = None  # share of the entries that both changed
    conflict: float | None = None  # of these, the share that goes against each other
    conflict_weighted: float | None = None  # the same, each entry by its smaller magnitude
    trimmed_both: float | None = None  # share of the entries that both keep
    trimmed_both_null: float | None = None  # k^2, with the shares that were kept
    trimmed_conflict: float | None = None  # share of all entries that both keep and that go against each other
    trimmed_conflict_null: float | None = None  # half of k^2


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor, or several: a layer, a role, a role in a layer, or all."""

    name: str
    layer: int | None  # None outside of the layers, and where it is several
    role: Role | None  # None where it is several
    entries: int
    looked: int  # entries that were read
    models: tuple[Model, ...]  # of each fine-tune; empty without a base
    pairs: tuple[Pair, ...]
    merged: float | None  # distance of the planned merge from the base, as a share of the base's norm
    merged_null: float | None  # the same for unrelated task vectors of the same norms
    cosine_spread: float  # of the cosine of two unrelated vectors of this length

    def pair(self, a: int, b: int) -> Pair:
        return next(p for p in self.pairs if {p.a, p.b} == {a, b})


def numbers_of(name: str, layer: int | None, role: Role | None, sums: Sums, *, has_base: bool) -> Part:
    base = sums.products[0, 0]
    alone = len(sums.unchanged) < 2
    return Part(
        name=name, layer=layer, role=role, entries=round(sums.numel), looked=round(sums.looked),
        models=tuple(model(sums, i) for i in range(len(sums.unchanged))) if has_base else (),
        pairs=pairs_of_changes(sums) if has_base else pairs_of_models(sums),
        merged=rooted(sums.merged, base) if has_base else None,
        merged_null=rooted(sums.merged_null, base) if has_base and not alone else None,
        cosine_spread=nulls.cosine_spread(sums.numel),
    )  # fmt: skip


def model(sums: Sums, i: int) -> Model:
    whole = sums.energy[i, -1]
    return Model(
        size=rooted(sums.products[i + 1, i + 1], sums.products[0, 0]),
        unchanged=ratio(sums.unchanged[i], sums.numel),
        energy=tuple(ratio(energy, whole) for energy in sums.energy[i]),
        kept=ratio(sums.kept[i], sums.numel),
    )


def pairs_of_changes(sums: Sums) -> tuple[Pair, ...]:
    changes = sums.products[1:, 1:]
    return tuple(pair_of_changes(sums, changes, a, b) for b in range(len(changes)) for a in range(b))


def pair_of_changes(sums: Sums, changes: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", a: int, b: int) -> Pair:
    return Pair(
        a, b, *angle(changes, a, b, sums.products[0, 0]),
        both=ratio(sums.both[b, a], sums.numel),
        conflict=ratio(sums.against[b, a], sums.both[b, a]),
        conflict_weighted=ratio(sums.smaller_against[b, a], sums.smaller[b, a]),
        trimmed_both=ratio(sums.kept_both[b, a], sums.numel),
        trimmed_both_null=ratio(sums.kept_null[b, a], sums.numel),
        trimmed_conflict=ratio(sums.kept_against[b, a], sums.numel),
        trimmed_conflict_null=ratio(nulls.CONFLICT * sums.kept_null[b, a], sums.numel),
    )  # fmt: skip


def pairs_of_models(sums: Sums) -> tuple[Pair, ...]:
    """Of the models themselves, the reference first: model i is the reference and its change."""
    n = len(sums.products)
    back = np.eye(n)
    back[1:, 0] = 1
    models = back @ sums.products @ back.T
    norm = models[0, 0]
    apart = np.zeros((n, n))
    apart[1:, 1:] = sums.products[1:, 1:]
    return tuple(
        Pair(a, b, angle(models, a, b, norm)[0], angle(apart, a, b, norm)[1], angle(models, a, b, norm)[2])
        for b in range(n) for a in range(b)
    )  # fmt: skip


def angle(
    products: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", a: int, b: int, reference: float
) -> tuple[float | None, float | None, float | None]:
    """Cosine, distance and ratio of the norms of two vectors."""
    aa, bb, ab = products[a, a], products[b, b], products[a, b]
    cosine = ratio(ab, math.sqrt(aa) * math.sqrt(bb))
    return (
        None if cosine is None else min(1.0, max(-1.0, cosine)),
        rooted(max(0.0, aa + bb - 2 * ab), reference),
        rooted(max(aa, bb), min(aa, bb)),
    )


def ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole and math.isfinite(part / whole) else None


def rooted(part: float, whole: float) -> float | None:
    found = ratio(part, whole)
    return None if found is None else math.sqrt(found)


def energy_null() -> tuple[float, ...]:
    """The energy curve of a Gaussian vector, at the same SHARES."""
    return tuple(nulls.gaussian_energy(share) for share in SHARES)
