"""The header of a safetensors file, refused where it is not exact."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from merging.errors import MergeError

# Bits of one element, by the names that safetensors uses.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
FLOATS = ("BF16", "F16", "F32")  # what a merge computes on

MAX_HEADER_BYTES = 100_000_000  # the cap of the Rust reader
MAX_TENSORS = 100_000
MAX_COLONS = 16 * MAX_TENSORS  # each tensor has 4, names and metadata may have more
MAX_DIMENSIONS = 64  # numpy's

WAY_OUT = "Download it again, or ask its author."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor: its type, its shape, and its bytes as a half-open range of a file."""

    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    end: int

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.end - self.start


def parse_header(raw: bytes, file: str, size: int, where: str) -> dict[str, TensorInfo]:
    """Check a safetensors header as strictly as the Rust reader, and refuse duplicate keys besides.

    Offsets must cover the data of the file exactly: no hole, no overlap, nothing left over.
    Source: https://github.com/huggingface/safetensors#format
    """
    if raw.count(b":") > MAX_COLONS or is_bomb(raw, MAX_COLONS):
        raise MergeError(f"{where} has a header of more entries than {MAX_TENSORS:,} tensors need. {WAY_OUT}")
    entries = parse_json_header(raw, where)
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise MergeError(f"{where} has {len(entries):,} tensors; at most {MAX_TENSORS:,} can be merged.")
    data = 8 + len(raw)
    tensors = {name: parse_entry(name, entry, file, data, where) for name, entry in entries.items()}
    check_layout(tensors, data, size, where)
    return tensors


def is_bomb(raw: bytes, most: int) -> bool:
    """Whether JSON holds so many lists, mappings or entries that it would take far more memory than its text."""
    return raw.count(b"[") + raw.count(b"{") > most or raw.count(b",") > 8 * most


def parse_json_header(raw: bytes, where: str) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise MergeError(f"{where}: the header does not start with '{{'. It is not a safetensors file.")
    try:
        found = load_json(raw, where)
    except (ValueError, RecursionError) as e:
        raise MergeError(f"{where}: the header is not valid JSON ({e}). The file is broken. {WAY_OUT}") from None
    metadata = found.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise MergeError(f"{where}: __metadata__ must map text to text. {WAY_OUT}")
    return found


def load_json(raw: bytes, where: str) -> dict[str, Any]:
    """A JSON object, without what Python's reader takes beyond the standard: NaN, and half of an escaped character."""

    def refuse_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise MergeError(
                    f"{where}: {key!r} stands twice in the header. The file is broken or forged. {WAY_OUT}"
                )
            found[key] = value
        return found

    def refuse_constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    found: dict[str, Any] = json.loads(
        raw.decode("utf-8"), object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant
    )
    if b"\\u" in raw:
        json.dumps(found, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for half a character
    return found


def parse_entry(name: str, entry: Any, file: str, data: int, where: str) -> TensorInfo:
    """One entry of the header; `data` is where the tensors' bytes begin in the file."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise MergeError(f"{where}: {name!r} must have dtype, shape and data_offsets, and nothing else. {WAY_OUT}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise MergeError(f"{where}: {name!r} has the unknown dtype {str(dtype)[:40]!r}. {WAY_OUT}")
    if not is_naturals(shape) or not is_naturals(offsets) or len(offsets) != 2:
        raise MergeError(
            f"{where}: {name!r} has the shape {str(shape)[:80]} and the offsets {str(offsets)[:80]}; both must be "
            f"whole. {WAY_OUT}"
        )
    if len(shape) > MAX_DIMENSIONS:
        raise MergeError(f"{where}: {name!r} has {len(shape):,} dimensions; at most {MAX_DIMENSIONS} can be. {WAY_OUT}")
    start, end = offsets
    bits = prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or end - start != bits // 8:
        raise MergeError(
            f"{where}: {name!r} is {dtype} {tuple(shape)}, which is {bits // 8:,} bytes, "
            f"but its offsets span {end - start:,}. {WAY_OUT}"
        )
    return TensorInfo(dtype, tuple(shape), file, data + start, data + end)


def is_naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def check_layout(tensors: Mapping[str, TensorInfo], data: int, size: int, where: str) -> None:
    at = data
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != at:
            what = "overlaps the tensor before it" if info.start < at else "leaves a hole before it"
            raise MergeError(
                f"{where}: {name!r} {what} (byte {info.start:,}, expected {at:,}). The file is broken. {WAY_OUT}"
            )
        at = info.end
    if at != size:
        raise MergeError(
            f"{where} is {size:,} bytes long, but its header describes {at:,}. It was cut short or has been added to. "
            "Download it again."
        )


def format_header(tensors: Sequence[tuple[str, str, tuple[int, ...], int]]) -> bytes:
    """The head of a safetensors file whose tensors (name, dtype, shape, bytes) lie one after the other.

    Padded with spaces so that the data begins at a multiple of 8.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, dtype, shape, nbytes in tensors:
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
