"""What measures found in a tensor before: so that another lambda or density looks at as little as possible again.

A measure is a generator that yields passes over the tensor. Two things are remembered: what it found in the end, by the
values of those settings that it asked for; and the total of each pass, by all that the pass was made of. A pass that
cannot be compared with another one is made again, so that forgetting costs time and never changes a result.
"""

import types
from collections import OrderedDict
from collections.abc import Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from merging.methods.arrays import Found, Measured
from merging.methods.spec import Method, Pass, Settings, Shape

MOST_RESULTS = 64  # of one tensor by one method: a few numbers each
PLAIN = (bool, int, float, str, bytes, type(None))


class Watched(Mapping[str, Any]):
    """Settings that know which of them were asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return self.settings[name]

    def __iter__(self) -> Iterator[str]:
        self.asked.update(self.settings)
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    def seen(self) -> tuple[tuple[str, Any], ...]:
        return tuple((name, print_of(self.settings[name])) for name in sorted(self.asked))


class Incomparable(Exception):
    """Something of which nobody can tell whether it is the same as another."""


def print_of(thing: Any) -> Hashable:
    """Equal for two things only if they do the same. Raises Incomparable."""
    if isinstance(thing, PLAIN):
        return type(thing), repr(thing)  # 0 is not False, nor -0.0
    if isinstance(thing, np.ndarray):
        return thing.dtype.str, thing.shape, thing.tobytes()
    if isinstance(thing, np.generic):
        return thing.dtype.str, thing.tobytes()
    if isinstance(thing, tuple | list):
        return type(thing), tuple(print_of(one) for one in thing)
    if isinstance(thing, Mapping):
        return Mapping, tuple((name, print_of(thing[name])) for name in sorted(thing))
    if isinstance(thing, partial):
        return partial, print_of(thing.func), print_of(thing.args), print_of(thing.keywords)
    if isinstance(thing, types.FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        given = thing.__defaults__, thing.__kwdefaults__
        return thing.__module__, thing.__qualname__, thing.__code__, print_of(cells), print_of(given)
    raise Incomparable(type(thing).__name__)


@dataclass(frozen=True, slots=True)
class Sparse:
    """A total, of whose numbers most are zero: counts are."""

    shape: tuple[int, ...]
    at: Any  # int32 where it is not zero
    numbers: Any

    @staticmethod
    def of(found: Found) -> "Sparse":
        flat = found.reshape(-1)
        at = np.flatnonzero(flat)
        return Sparse(found.shape, at.astype(np.uint32), flat[at])

    def whole(self) -> Found:
        found = np.zeros(self.shape, self.numbers.dtype)
        found.reshape(-1)[self.at] = self.numbers
        return found

    @property
    def nbytes(self) -> int:
        return int(self.at.nbytes + self.numbers.nbytes)


@dataclass(slots=True)
class Recall:
    """Used by one thread. What was not asked for longest is forgotten first, within so many bytes."""

    limit_bytes: int
    totals: OrderedDict[Hashable, Sparse] = field(default_factory=OrderedDict)
    results: dict[Hashable, dict[tuple[str, ...], dict[Hashable, Measured]]] = field(default_factory=dict)
    nbytes: int = 0

    def measuring(
        self, method: Method, shape: Shape, settings: Settings, of: Hashable
    ) -> Generator[Pass, Found, Measured]:
        """What a method must know of one tensor; yields the passes that have to be made, and gets their totals.

        `of` tells what is measured from all else: the tensor in its models, the seed, how it is cut into grains.
        """
        assert method.measure is not None, "there is something to be measured"
        known = self.results.setdefault((method.name, of), {})
        for names, found in known.items():
            if (values := tuple((name, print_of(settings[name])) for name in names)) in found:
                return found[values]
        watched = Watched(settings)
        measured = yield from self.passing(method.measure(shape, watched), of)
        seen = watched.seen()
        mine = known.setdefault(tuple(name for name, _ in seen), {})
        if len(mine) >= MOST_RESULTS:
            del mine[next(iter(mine))]
        mine[seen] = measured
        return measured

    def passing(self, passes: Generator[Pass, Found, Measured], of: Hashable) -> Generator[Pass, Found, Measured]:
        try:
            look = next(passes)
            while True:
                look = passes.send((yield from self.total(look, of)))
        except StopIteration as found:
            return found.value

    def total(self, look: Pass, of: Hashable) -> Generator[Pass, Found, Found]:
        try:
            key: Hashable = (print_of(look), of)
        except Incomparable:
            return (yield look)
        if key in self.totals:
            self.totals.move_to_end(key)
            return self.totals[key].whole()
        found = yield look
        self.keep(key, Sparse.of(found))
        return found

    def keep(self, key: Hashable, total: Sparse) -> None:
        self.totals[key] = total
        self.nbytes += total.nbytes
        while self.nbytes > self.limit_bytes and len(self.totals) > 1:
            self.nbytes -= self.totals.popitem(last=False)[1].nbytes
