"""Blocks of bfloat16 models as they are stored, widened only where a step uses them (tiles.py), never as a whole.

Kernels see arrays. The steps that tiles.py has take these as they are; for all other steps, and for arithmetic, they
become the float32 arrays that they stand for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from merging.methods import loops, tiles
from merging.methods.arrays import Array, Counts, Sums
from merging.methods.tiles import ALL, BETWEEN, BY_CHANCE

Halves: TypeAlias = NDArray[np.uint16]
Keys: TypeAlias = NDArray[np.uint64]
Chosen: TypeAlias = tuple[int, Array, Array, Keys, Sums, int]  # the last fields of tiles.Rows
NO_FLOATS, NO_KEYS, NO_LIMITS = np.empty(0, np.float32), np.empty(0, np.uint64), np.empty(0, np.float64)
EVERYTHING: Chosen = (ALL, NO_FLOATS, NO_FLOATS, NO_KEYS, NO_LIMITS, 0)


class Lazy:
    """Stands for a float32 array, which arithmetic makes of it."""

    __array_priority__ = 1  # an array on the left leaves the sum to this class

    @cached_property
    def plain(self) -> Array:
        raise NotImplementedError

    def __add__(self, other: Any) -> Array:
        found: Array = self.plain + plain(other)
        return found

    def __sub__(self, other: Any) -> Any:
        return self.plain - plain(other)

    def __mul__(self, other: Any) -> Array:
        found: Array = self.plain * plain(other)
        return found

    __radd__, __rmul__ = __add__, __mul__  # of numbers that commute


def plain(value: Any) -> Any:
    return value.plain if isinstance(value, Lazy) else value


@dataclass(eq=False)
class Store:
    """A block of every input: row i is flat[begins[i] : begins[i] + count]."""

    flat: Halves
    begins: "NDArray[np.int64]"
    count: int

    @property
    def rows(self) -> "Rows":
        return Rows(self, slice(None))

    @cached_property
    def plain(self) -> Array:
        """All of it, widened: float32 [n, m]."""
        out = np.empty((len(self.begins), self.count), np.float32)
        tiles.write_rows(self.rows.spec, out)
        return out

    @property
    def largest(self) -> float:
        """The largest magnitude; infinity where one is not a number."""
        return max(magnitude(tiles.largest_bits(self.flat[b : b + self.count])) for b in self.begins)


def magnitude(bits: int) -> float:
    """The float32 of the bits of a magnitude; infinity for what is not a number."""
    return float(np.uint32(min(bits, 0x7F800000)).view(np.float32))


@dataclass(eq=False)
class Row(Lazy):
    """One input: [m]."""

    store: Store
    index: int

    @property
    def begin(self) -> int:
        return int(self.store.begins[self.index])

    @cached_property
    def plain(self) -> Array:
        found: Array = self.store.plain[self.index]
        return found


@dataclass(eq=False)
class Rows(Lazy):
    """Some of the inputs, or what they changed of one, or what is kept of that: [n, m]."""

    store: Store
    which: slice
    base: Row | None = None
    chosen: Chosen = EVERYTHING

    @property
    def is_whole(self) -> bool:
        return self.chosen is EVERYTHING

    @property
    def is_stored(self) -> bool:
        return self.base is None and self.is_whole

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, key: int | slice) -> "Row | Rows | Array":
        if not self.is_stored:
            return self.plain[key]
        chosen = range(len(self.store.begins))[self.which][key]
        if isinstance(chosen, int):
            return Row(self.store, chosen)
        return replace(self, which=slice(chosen.start, chosen.stop, chosen.step))

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Row) and other.store is self.store and self.is_stored:
            return replace(self, base=other)
        return super().__sub__(other)

    @property
    def begins(self) -> "NDArray[np.int64]":
        return self.store.begins[self.which]

    @property
    def spec(self) -> tiles.Rows:
        """For the compiled loops."""
        base = -1 if self.base is None else self.base.begin
        return tiles.Rows(self.store.flat, self.begins, base, *self.chosen)

    @cached_property
    def plain(self) -> Array:
        if self.is_stored:
            found: Array = self.store.plain[self.which]
            return found
        out = np.empty((len(self), self.store.count), np.float32)
        tiles.write_rows(self.spec, out)
        return out


@dataclass(eq=False)
class Pending(Lazy):
    """What a kernel found, not yet computed: [m]. It can be rounded on the way."""

    fill: Callable[[Any], int]  # writes into uint16 (bfloat16) or float32 [m]; the bits of the largest magnitude
    count: int

    @cached_property
    def plain(self) -> Array:
        out = np.empty(self.count, np.float32)
        self.fill(out)
        return out


# The steps of parts.py. Where rows are not as tiles.py wants them, those of loops.py do.


def weighted_sum(tensors: Any, weights: Array) -> Any:
    if not isinstance(tensors, Rows):
        return loops.weighted_sum(plain(tensors), weights)
    return Pending(lambda out: tiles.weighted_sum(tensors.spec, weights, out), tensors.store.count)


def add_weighted(base: Any, tensors: Any, weights: Array) -> Any:
    if not (isinstance(base, Row) and isinstance(tensors, Rows)):
        return loops.add_weighted(plain(base), plain(tensors), weights)
    return Pending(lambda out: tiles.add_weighted(base.begin, tensors.spec, weights, out), base.store.count)


def add_changes(base: Any, models: Any, weights: Array) -> Any:
    changes = models - base
    if not isinstance(changes, Rows):
        return loops.add_changes(plain(base), plain(models), weights)
    return Pending(lambda out: tiles.add_changes(base.begin, changes.spec, weights, out), base.store.count)


def blend(x: Any, y: Any, of_x: Any, of_y: Any) -> Any:
    if not (isinstance(x, Row) and isinstance(y, Row)):
        return loops.blend(plain(x), plain(y), of_x, of_y)
    both = x.store.rows.spec
    return Pending(lambda out: tiles.blend(both, x.begin, y.begin, of_x, of_y, out), x.store.count)


def add_agreed(base: Any, changes: Any, factors: Array, weights: Array, divide: bool, by: Any) -> Any:
    if not (isinstance(base, Row) and isinstance(changes, Rows)):
        return loops.add_agreed(plain(base), plain(changes), factors, weights, divide, by)
    given = base.begin, changes.spec, factors, weights, divide, by
    return Pending(lambda out: tiles.add_agreed(*given, out), base.store.count)


def keep_between(tensors: Any, low: Array, high: Array) -> Any:
    if not isinstance(tensors, Rows) or not tensors.is_whole:
        return loops.keep_between(plain(tensors), low, high)
    return replace(tensors, chosen=(BETWEEN, low, high, NO_KEYS, NO_LIMITS, 0))


def keep_by_chance(tensors: Any, keys: Keys, below: Sums, start: int) -> Any:
    if not isinstance(tensors, Rows) or not tensors.is_whole:
        return loops.keep_by_chance(plain(tensors), keys, below, start)
    return replace(tensors, chosen=(BY_CHANCE, NO_FLOATS, NO_FLOATS, keys, below, start))


def absolute_sums(tensors: Any) -> Sums:
    if not isinstance(tensors, Rows):
        found: Sums = loops.absolute_sums(plain(tensors))
        return found
    sums: Sums = tiles.absolute_sums(tensors.spec, tensors.store.count)
    return sums


def gram(tensors: Any) -> Sums:
    if not isinstance(tensors, Rows):
        found: Sums = loops.gram(plain(tensors))
        return found
    products: Sums = tiles.gram(tensors.spec, tensors.store.count)
    return products


def count_high_halves(scores: Any, counts: Counts) -> None:
    if isinstance(scores, Rows):
        tiles.count_high_halves(scores.spec, scores.store.count, counts)
    else:
        loops.count_high_halves(plain(scores), counts)


def count_low_halves(scores: Any, bins: Any, mask: int, counts: Counts) -> None:
    if isinstance(scores, Rows):
        tiles.count_low_halves(scores.spec, scores.store.count, bins, mask, counts)
    else:
        loops.count_low_halves(plain(scores), bins, mask, counts)


def __getattr__(name: str) -> Callable[..., Any]:
    """The other steps, on plain arrays."""
    step = getattr(loops, name)
    return lambda *given: step(*map(plain, given))
