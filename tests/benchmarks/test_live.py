import pytest

from benchmarks.live import MOVES, compare
from benchmarks.llama import Shape
from merging.cuda import Gpu
from merging.device import Cpu


@pytest.mark.parametrize("device", [Cpu(), Gpu("cpu")], ids=["cpu", "as on a gpu"])
def test_every_move_is_measured_beside_a_pass_over_the_memory(device, tmp_path):
    found = compare(Shape(256, 1, vocab=1000), tmp_path, repeat=1, threads=2, device=device).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[2:]]
    assert [row[0] for row in rows] == list(MOVES)
    assert all(float(cell.removesuffix(" s")) >= 0 for row in rows for cell in row[1:])
