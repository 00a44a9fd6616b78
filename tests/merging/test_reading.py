"""How the ranges that a merge reads become requests: few and large, in the order of reading, each byte once."""

import random

import pytest

from merging.reading import STRETCH, Range, Stretch, cut, read_whole

MB = 2**20


def laid_out(sizes: list[int], file: str = "f", at: int = 1000) -> list[Range]:
    """Tensors of these sizes, one after the other."""
    found = []
    for size in sizes:
        found.append(Range(file, at, at := at + size))
    return found


def pairs(stretches: list[Stretch]) -> list[tuple[int, int]]:
    return [(s.start, s.end) for s in stretches]


def test_thousands_of_small_tensors_take_one_request_for_8_mb():
    """A mixture of experts: 48 layers of 128 experts with 3 matrices, in 4 shards."""
    ranges = [r for shard in range(4) for r in laid_out([200_000] * 12 * 128 * 3, f"shard-{shard}")]
    total = sum(r.end - r.start for r in ranges)
    stretches = cut(ranges, 4 * STRETCH)
    assert len(stretches) <= total / (8 * MB)
    assert sum(s.nbytes for s in stretches) == sum(s.wanted for s in stretches) == total
    assert max(s.nbytes for s in stretches) <= STRETCH
    whole, in_order = read_whole(stretches, {f"shard-{n}": ranges[-1].end for n in range(4)})
    assert set(whole) == in_order == {f"shard-{n}" for n in range(4)} and set(whole.values()) == {1000}


def test_a_large_tensor_is_cut_evenly():
    assert pairs(cut(laid_out([STRETCH + 2]), 4 * STRETCH)) == [
        (1000, 1001 + STRETCH // 2),
        (1001 + STRETCH // 2, 1002 + STRETCH),
    ]


def test_what_is_read_soon_after_is_put_in_the_order_of_the_file():
    ranges = laid_out([1 * MB] * 8)
    mixed = random.Random(1).sample(ranges, len(ranges))
    assert cut(mixed, 64 * MB) == cut(ranges, 64 * MB) == [Stretch("f", 1000, 1000 + 8 * MB, 8 * MB)]


def test_a_small_gap_is_read_over_and_a_large_one_is_not():
    a, b = Range("f", 0, MB), Range("f", MB + 1000, 2 * MB)
    assert cut([a, b], 64 * MB) == [Stretch("f", 0, 2 * MB, 2 * MB - 1000)]
    far = Range("f", 40 * MB, 41 * MB)
    assert pairs(cut([a, far], 64 * MB)) == [(0, MB), (40 * MB, 41 * MB)]


def test_what_is_read_again_has_the_same_requests_each_time():
    a, b, c = laid_out([MB, 20 * MB, MB])
    first, *rest = cut([a, b, b, c], 64 * MB)
    assert (first.start, first.end) == (a.start, a.end)
    assert rest[:2] == rest[2:4] and all(s.again for s in rest[:4])
    assert read_whole([first, *rest], {"f": c.end}) == ({"f": a.start}, frozenset("f"))


@pytest.mark.parametrize("memory", [0, 1, MB, 10 * MB, 10**9])
@pytest.mark.parametrize("seed", range(5))
def test_any_order_asks_for_every_byte_as_often_as_it_is_read(seed: int, memory: int):
    chance = random.Random(seed)
    ranges = [
        r
        for file in "fgh"
        for r in laid_out([chance.choice([0, 1, 1000, 500_000, 3 * MB]) for _ in range(12)], file)
        for _ in range(chance.choice([1, 1, 1, 2]))
    ]
    chance.shuffle(ranges)
    asked: dict[str, list[int]] = {}
    for s in cut(ranges, memory):
        asked.setdefault(s.file, []).append(s.wanted)
        assert 0 < s.wanted <= s.nbytes
    for file, found in asked.items():
        assert sum(found) == sum(r.end - r.start for r in ranges if r.file == file)


def test_a_file_that_is_read_in_part_or_back_and_forth_is_told_apart():
    a, b, c = (Stretch("f", n * 100, n * 100 + 100, 100) for n in range(3))
    assert read_whole([a, b], {"f": 300}) == ({}, frozenset("f"))
    assert read_whole([a, c], {"f": 300}) == ({}, frozenset())
    assert read_whole([b, a, c], {"f": 300}) == ({"f": 0}, frozenset())
    assert read_whole([b, c], {"f": 300}) == ({"f": 100}, frozenset("f"))
