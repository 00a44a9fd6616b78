"""The header parser against hostile files: it refuses at least what the Rust reader refuses."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from merging.errors import MergeError
from merging.header import DTYPE_BITS, format_header, parse_header


def file_of(header, data=b""):
    """A safetensors file with this header (text, or a tree) and data."""
    text = header if isinstance(header, bytes | str) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw + data


def ours(file):
    length = struct.unpack("<Q", file[:8])[0]
    return parse_header(file[8 : 8 + length], "f", len(file), "m/f")


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


FINE = {
    "one": file_of({"a": entry()}, bytes(8)),
    "none": file_of({}),
    "metadata only": file_of({"__metadata__": {"format": "pt"}}),
    "scalar": file_of({"a": entry(shape=(), offsets=(0, 4))}, bytes(4)),
    "empty": file_of({"a": entry(shape=(0, 4), offsets=(0, 0))}),
    "empty between": file_of(
        {"a": entry(), "e": entry(shape=(0,), offsets=(8, 8)), "b": entry(offsets=(8, 16))}, bytes(16)
    ),
    "in any order": file_of({"b": entry(offsets=(8, 16)), "a": entry()}, bytes(16)),
    "padded": file_of(json.dumps({"a": entry()}) + "   ", bytes(8)),
    "names": file_of({"ü.名前": entry()}, bytes(8)),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_reads_what_is_fine(name):
    assert ours(FINE[name]).keys() == {n for n, _ in deserialize(FINE[name])}


HOSTILE = {
    "not json": file_of("{a"),
    "not an object": file_of("[]"),
    "leading space": file_of(' {"a": 1}'),
    "empty header": file_of(""),
    "not utf-8": file_of(b'{"\xff": 1}'),
    "NaN": file_of('{"a": NaN}'),
    "deep": file_of('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "trailing text": file_of('{} {"a": 1}'),
    "lone surrogate": file_of('{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', bytes(8)),
    "byte order mark": file_of("\ufeff{}"),
    "null entry": file_of({"a": None}),
    "missing key": file_of({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "unknown dtype": file_of({"a": entry("F33")}, bytes(8)),
    "dtype of another type": file_of({"a": entry(7)}, bytes(8)),
    "negative shape": file_of({"a": entry(shape=(-2,))}, bytes(8)),
    "fractional shape": file_of({"a": entry(shape=(2.0,))}, bytes(8)),
    "true shape": file_of({"a": entry("U8", shape=(True,), offsets=(0, 1))}, bytes(1)),
    "text shape": file_of({"a": entry(shape=("2",))}, bytes(8)),
    "shape is no list": file_of('{"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}', bytes(8)),
    "huge shape": file_of({"a": entry(shape=(2**40, 2**40))}, bytes(8)),
    "shape beyond 64 bits": file_of({"a": entry(shape=(2**64,))}, bytes(8)),
    "one offset": file_of({"a": entry(offsets=(0,))}, bytes(8)),
    "three offsets": file_of({"a": entry(offsets=(0, 8, 8))}, bytes(8)),
    "offsets backwards": file_of({"a": entry(offsets=(8, 0))}, bytes(8)),
    "negative offset": file_of({"a": entry(offsets=(-8, 0))}, bytes(8)),
    "offsets beyond the file": file_of({"a": entry(offsets=(0, 8))}, bytes(4)),
    "wrong size": file_of({"a": entry(shape=(3,))}, bytes(8)),
    "overlap": file_of({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "the same bytes twice": file_of({"a": entry(), "b": entry()}, bytes(8)),
    "hole": file_of({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
    "hole at the start": file_of({"a": entry(offsets=(4, 12))}, bytes(12)),
    "left over": file_of({"a": entry()}, bytes(9)),
    "half a byte": file_of({"a": entry("F4", (1,), (0, 0))}),
    "metadata of numbers": file_of({"__metadata__": {"n": 1}}),
    "metadata is a list": file_of({"__metadata__": []}),
    "metadata is null inside": file_of({"__metadata__": {"a": None}}),
}
OURS_ONLY = {  # the Rust reader takes the last of two, and lets unknown fields be
    "the same name twice": file_of('{"a": %s, "a": %s}' % ((json.dumps(entry()),) * 2), bytes(8)),
    "the same field twice": file_of(
        '{"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', bytes(8)
    ),
    "unknown field": file_of({"a": entry() | {"x": 1}}, bytes(8)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*HOSTILE, *OURS_ONLY])
def test_refuses(name):
    with pytest.raises(MergeError, match="m/f") as refused:
        ours((HOSTILE | OURS_ONLY)[name])
    assert len(str(refused.value)) < 600
    assert "again" in str(refused.value) or "It is not a safetensors file" in str(refused.value)


def rust_refuses(file):
    try:
        deserialize(file)
    except SafetensorError:
        return True
    return False


@pytest.mark.parametrize("name", HOSTILE)
def test_the_rust_reader_refuses_it_too(name):
    if name in ("metadata is null inside",):
        pytest.skip("a null is taken for no value there")
    assert rust_refuses(HOSTILE[name])


SEEDS = [FINE["one"], FINE["in any order"], FINE["empty between"], save({})]


@given(st.data())
@how(max_examples=400, deadline=None)
def test_what_we_read_the_rust_reader_reads(data):
    """Files with a few bytes changed: differential, and nothing but a MergeError comes out."""
    seed = data.draw(st.sampled_from(SEEDS))
    end = 8 + struct.unpack("<Q", seed[:8])[0]
    header = bytearray(seed[8:end])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(header)))
        change = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"[", b"0", b"9", b",", b"-", b" ", b"e"])
        )
        header[at : at + data.draw(st.integers(0, 2))] = change
    file = file_of(bytes(header), seed[end:])
    try:
        found = ours(file)
    except MergeError:
        return
    assert {(n, tuple(v["shape"]), v["dtype"]) for n, v in deserialize(file)} == {
        (n, i.shape, i.dtype) for n, i in found.items()
    }


def test_refuses_more_tensors_than_any_model_has():
    many = {f"t{i}": entry("U8", (0,), (0, 0)) for i in range(100_001)}
    with pytest.raises(MergeError, match="at most 100,000"):
        ours(file_of(many))


def test_knows_the_types_of_the_rust_reader():
    for dtype, bits in DTYPE_BITS.items():
        file = file_of({"a": entry(dtype, (8,), (0, bits))}, bytes(bits))
        assert ours(file)["a"].nbytes == bits and not rust_refuses(file), dtype


def test_what_we_write_is_read_back(tmp_path):
    tensors = [
        ("b.weight", "BF16", (2, 3), 12),
        ("ü", "F32", (), 4),
        ("none", "F16", (0, 4), 0),
        ('"\\', "I64", (1,), 8),
    ]
    header = format_header(tensors)
    assert len(header) % 8 == 0
    path = tmp_path / "x.safetensors"
    path.write_bytes(header + bytes(24))
    with safe_open(path, "pt") as f:
        assert f.metadata() == {"format": "pt"}
        assert {n: (f.get_slice(n).get_dtype(), tuple(f.get_slice(n).get_shape())) for n in f.keys()} == {  # noqa: SIM118
            name: (dtype, shape) for name, dtype, shape, _ in tensors
        }
    assert [i.start for i in ours(header + bytes(24)).values()] == [len(header) + at for at in (0, 12, 16, 16)]


def test_a_bomb_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr("merging.header.MAX_COLONS", 1000)
    many = b",".join(b'"%d":1' % n for n in range(1001))
    for inside in (many, b'"a":[' + b",".join([b"[]"] * 1001) + b"]", b'"a":[' + b",".join([b"0"] * 9000) + b"]"):
        raw = b"{" + inside + b"}"
        with pytest.raises(MergeError, match="a header of more entries than"):
            parse_header(raw, "f", 8 + len(raw), "acme/f")


def test_a_shape_without_end_is_refused_in_few_words():
    raw = json.dumps({"a": {"dtype": "U8", "shape": [0] * 5000, "data_offsets": [0, 0]}}).encode()
    with pytest.raises(MergeError, match="'a' has 5,000 dimensions; at most 64") as told:
        parse_header(raw, "f", 8 + len(raw), "acme/f")
    assert len(str(told.value)) < 200
