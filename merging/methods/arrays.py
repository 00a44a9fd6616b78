"""What kernels compute on."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# float32. On a GPU torch tensors take numpy's place: kernels use only parts.py and what both have (+ - * /, indices).
Array: TypeAlias = NDArray[np.float32]
Sums: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]
Found: TypeAlias = Any  # Sums or Counts: what one pass of a measure finds
Measured: TypeAlias = Any  # what a measure hands to its kernel


def bytes_of(array: Bytes) -> memoryview:
    return memoryview(array)  # type: ignore[arg-type] # numpy's arrays are buffers
