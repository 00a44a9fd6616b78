"""Blocks of bfloat16 models as they are stored, widened only where a step uses them (tiles.py), never as a whole.

Kernels see arrays. The steps that tile_sums.py and tile_measures.py have take these as they are; for all other steps,
and for arithmetic, they become the float32 arrays that they stand for.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from merging.methods import loops
from merging.methods.arrays import Array, Counts, Sums
from merging.methods.loops import tile_measures, tile_sums, tiles
from merging.methods.loops.tiles import Between, ByChance

Halves: TypeAlias = NDArray[np.uint16]
Keys: TypeAlias = NDArray[np.uint64]
NOTHING = np.float32(-0.0)  # added to any number it changes nothing
INFINITE = 0x7F80  # the upper half of infinity; that of what is not a number is larger, up to 127 more


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
    check: Callable[[float], None] | None = None  # of the largest magnitude, while that has not been looked at
    grain: int = 2**62  # elements whose sums are apart from those of others
    is_by_tiles: bool = True  # nothing of it was widened as a whole

    @property
    def rows(self) -> "Rows":
        return Rows(self, slice(None))

    @property
    def indices(self) -> set[int]:
        return set(range(len(self.begins)))

    @cached_property
    def plain(self) -> Array:
        """All of it, widened: float32 [n, m]."""
        self.settle()
        self.is_by_tiles = False
        out = np.empty((len(self.begins), self.count), np.float32)
        tiles.write_rows(*self.rows.whole, out)
        return out

    @property
    def largest(self) -> float:
        """The largest magnitude; infinity where one is not a number."""
        return magnitude(tiles.largest_bits(self.flat, self.begins, self.count))

    def settle(self) -> None:
        """Look at the numbers, if nothing has told that they are finite."""
        if self.check is not None:
            check, self.check = self.check, None
            check(self.largest)

    def told(self, is_finite: bool, *seen: "Row | Rows") -> None:
        """A step has gone over these, and what it found could not be finite if one of their numbers were not."""
        if not is_finite:
            self.settle()
        elif self.check is not None and set().union(*(part.indices for part in seen)) == self.indices:
            self.check = None


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

    @property
    def indices(self) -> set[int]:
        return {self.index}

    @property
    def halves(self) -> Halves:
        """As it is stored."""
        found: Halves = self.store.flat[self.begin : self.begin + self.store.count]
        return found

    def __len__(self) -> int:
        return self.store.count

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
    chosen: Between | ByChance | None = None  # None: all

    @property
    def is_whole(self) -> bool:
        return self.chosen is None

    @property
    def is_change(self) -> bool:
        """All of what the inputs changed."""
        return self.base is not None and self.is_whole

    def is_chosen_of(self, other: "Rows") -> bool:
        if self.base is None or other.base is None or not other.is_whole:
            return False
        return self.store is other.store and self.which == other.which and self.base.index == other.base.index

    @property
    def is_stored(self) -> bool:
        return self.base is None and self.is_whole

    @property
    def indices(self) -> set[int]:
        """Which of the inputs are in it, whatever their numbers are."""
        of_base = set() if self.base is None else self.base.indices
        return of_base | set(range(len(self.store.begins))[self.which]) if self.is_whole else set()

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
    def whole(self) -> "tuple[Halves, NDArray[np.int64], int]":
        """For the compiled loops: all of the rows."""
        return self.store.flat, self.begins, -1 if self.base is None else self.base.begin

    @property
    def kept(self) -> tuple[Any, ...]:
        """For the compiled loops: what is kept of them, also where that is all."""
        return tuple(self.chosen or Between(np.zeros(len(self), np.float32), np.full(len(self), np.inf, np.float32)))

    @cached_property
    def plain(self) -> Array:
        if self.is_stored:
            found: Array = self.store.plain[self.which]
            return found
        self.store.settle()
        self.store.is_by_tiles = False
        out = np.empty((len(self), self.store.count), np.float32)
        if self.chosen is None:
            tiles.write_rows(*self.whole, out)
        else:
            tiles.write_kept(*self.whole, self.kept, out)
        return out


@dataclass(eq=False)
class Pending(Lazy):
    """What a kernel found, not yet computed: [m]. It can be rounded on the way."""

    fill: Callable[[Any], int]  # writes into uint16 (bfloat16) or float32 [m]; the bits of the largest magnitude
    store: Store
    seen: tuple[Row | Rows, ...] = ()  # what is finite where all of this is

    @property
    def is_by_tiles(self) -> bool:
        return self.store.is_by_tiles and "plain" not in self.__dict__

    @cached_property
    def plain(self) -> Array:
        out = np.empty(self.store.count, np.float32)
        self.round_into(out)
        return out

    def round_into(self, out: Any) -> float:
        """Write into uint16 (bfloat16) or float32 [m]; the largest magnitude before it was rounded."""
        largest = magnitude(self.fill(out))
        self.store.told(math.isfinite(largest), *self.seen)
        return largest


# The steps of parts.py. Where rows are not as the loops on tiles want them, all other loops do.


def weighted_sum(tensors: Any, weights: Array) -> Any:
    if not (isinstance(tensors, Rows) and tensors.is_stored):
        return loops.weighted_sum(plain(tensors), weights)
    flat, begins, _ = tensors.whole
    return Pending(partial(tile_sums.weighted_sum, flat, begins, weights), tensors.store, (tensors,))


def add_weighted(base: Any, tensors: Any, weights: Array) -> Any:
    if not (isinstance(base, Row) and isinstance(tensors, Rows) and tensors.base is not None):
        return loops.add_weighted(plain(base), plain(tensors), weights)
    if tensors.is_whole and tensors.base.index == base.index:
        return added_changes(tensors, weights, NOTHING)
    given = *tensors.whole, tensors.kept, weights, base.begin
    return Pending(partial(tile_sums.add_kept, *given), base.store, (base, tensors))


def add_changes(base: Any, models: Any, weights: Array) -> Any:
    changes = models - base
    if not isinstance(changes, Rows):
        return loops.add_changes(plain(base), plain(models), weights)
    return added_changes(changes, weights, np.float32(0))


def added_changes(changes: Rows, weights: Array, start: np.float32) -> Pending:
    return Pending(partial(tile_sums.add_changes, *changes.whole, weights, start), changes.store, (changes,))


def blend(x: Any, y: Any, of_x: Any, of_y: Any) -> Any:
    if not (isinstance(x, Row) and isinstance(y, Row)):
        return loops.blend(plain(x), plain(y), of_x, of_y)
    return Pending(partial(tile_sums.blend, x.store.flat, x.begin, y.begin, of_x, of_y), x.store, (x, y))


def add_agreed(base: Any, changes: Any, factors: Array, weights: Array, divide: bool, least: Any, by: Any) -> Any:
    if not (isinstance(base, Row) and isinstance(changes, Rows) and changes.base is not None):
        return loops.add_agreed(plain(base), plain(changes), factors, weights, divide, least, by)
    given = *changes.whole, changes.kept, base.begin, factors, weights, divide, least, by
    return Pending(partial(tile_sums.add_agreed, *given), base.store)  # what is not a number has no sign to agree


def keep_between(tensors: Any, low: Array, high: Array) -> Any:
    if not (isinstance(tensors, Rows) and tensors.is_change):
        return loops.keep_between(plain(tensors), low, high)
    return replace(tensors, chosen=Between(low, high))


def keep_by_chance(tensors: Any, keys: Keys, below: Sums, start: int) -> Any:
    if not (isinstance(tensors, Rows) and tensors.is_change):
        return loops.keep_by_chance(plain(tensors), keys, below, start)
    return replace(tensors, chosen=ByChance(keys, below, start))


def sums_around(tensors: Any, kept: Any) -> Sums:
    if not (isinstance(kept, Rows) and isinstance(tensors, Rows) and kept.is_chosen_of(tensors)):
        return np.stack([loops.absolute_sums(plain(tensors)), loops.absolute_sums(plain(kept))])[None]
    store = kept.store
    sums: Sums = tile_measures.sums_around(*kept.whole, kept.kept, store.count, store.grain)
    store.told(bool(np.isfinite(sums).all()), tensors)
    return sums


def grams(tensors: Any) -> Sums:
    if not (isinstance(tensors, Rows) and tensors.is_whole):
        found: Sums = loops.gram(plain(tensors))[None]
        return found
    products: Sums = tile_measures.grams(*tensors.whole, tensors.store.count, tensors.store.grain)
    tensors.store.told(bool(np.isfinite(products).all()), tensors)
    return products


def count_high_halves(scores: Any, counts: Counts) -> None:
    if isinstance(scores, Rows) and scores.is_whole:
        tile_measures.count_high_halves(*scores.whole, scores.store.count, counts.reshape(len(counts), -1))
        scores.store.told(not counts[:, INFINITE : INFINITE + 128].any(), scores)
    else:
        loops.count_high_halves(plain(scores), counts)


def count_low_halves(scores: Any, bins: Any, mask: int, counts: Counts) -> None:
    if isinstance(scores, Rows) and scores.is_whole:
        tile_measures.count_low_halves(*scores.whole, scores.store.count, bins, mask, counts)
    else:
        loops.count_low_halves(plain(scores), bins, mask, counts)


def __getattr__(name: str) -> Callable[..., Any]:
    """The other steps, on plain arrays."""
    step = getattr(loops, name)
    return lambda *given: step(*map(plain, given))
