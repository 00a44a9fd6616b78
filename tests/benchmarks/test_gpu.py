"""What takes figures of a GPU, on torch's CPU and on small blocks."""

from benchmarks.gpu import main
from merging.methods import METHODS


def test_every_method_is_measured(capsys):
    assert main(["--device", "cpu", "--elements", "8192", "--seconds", "0"]) == 0
    said = capsys.readouterr().out
    assert all(f"| {name} |" in said for name in METHODS) and "| ties | 4 |" in said and "| slerp | 2 |" in said
