"""How loops are compiled and kept on the disk, and what all of them use."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.extending import intrinsic

TILE = 4096
SMALL_TILE = 1024  # where many rows of a tile are in use at once
LANES = 256
MAGNITUDE = 0x7FFFFFFF  # the bits of a float32 without its sign

# Of all files here: what is compiled holds parts of several, and is out of date when one of them changes.
SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))

njit: Callable[..., Any] = partial(numba.njit, nogil=True, error_model="numpy", no_cfunc_wrapper=True)  # untyped
part = njit(no_cpython_wrapper=True)  # compiled into the loops that call it; Python cannot


def compiled(function: Callable[..., Any]) -> Any:
    """Kept on the disk: only the first merge of a machine waits for it, and only for what it uses."""
    found = njit(cache=True)(function)
    found._cache = Kept(function)
    return found


class Kept(FunctionCache):
    """Numba's own would have a stamp of the function's file alone; and would, to read what is compiled, first get all
    that compiling needs, for a tenth of a second."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = stamp_of(Path(function.__code__.co_filename))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def stamp_of(file: Path) -> str:
    """By which the cache knows what is compiled of a file."""
    stamp = SOURCES.copy()
    stamp.update(file.read_bytes())
    return stamp.hexdigest()


@intrinsic
def bits_of(context: Any, number: Any) -> Any:
    """The bits of a float32, as uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return numba.types.uint32(numba.types.float32), generate


@intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.uint32), generate
