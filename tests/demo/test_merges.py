import torch

from space.demo.merges import average, dare, slerp, task_arithmetic, ties

BASE = {"w": torch.tensor([1.0, 1.0, 1.0, 1.0])}
FIRST = {"w": torch.tensor([3.0, 1.0, 0.0, 1.5])}  # changes 2, 0, -1, 0.5
SECOND = {"w": torch.tensor([2.0, 0.0, 4.0, 1.0])}  # changes 1, -1, 3, 0


def test_task_arithmetic_adds_the_changes():
    assert task_arithmetic(BASE, [FIRST, SECOND], 0.5)["w"].tolist() == [2.5, 0.5, 2.0, 1.25]


def test_average():
    assert average([FIRST, SECOND])["w"].tolist() == [2.5, 0.5, 2.0, 1.25]


def test_ties_trims_votes_and_averages_those_that_agree():
    # Half kept: (2, 0, -1, 0) and, the threshold 1 being met twice more, (1, -1, 3, 0). Signs: +, -, +.
    assert ties(BASE, [FIRST, SECOND], 1.0, 0.5)["w"].tolist() == [2.5, 0.0, 4.0, 1.0]


def test_dare_keeps_everything_or_a_magnified_part():
    assert dare(BASE, [FIRST], 1.0, 1.0)["w"].tolist() == FIRST["w"].tolist()
    changes = dare({"w": torch.zeros(1000)}, [{"w": torch.ones(1000)}], 1.0, 0.25)["w"]
    assert set(changes.tolist()) == {0.0, 4.0}
    assert 200 < int((changes > 0).sum()) < 300


def test_slerp_stays_on_the_arc():
    right, up = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
    torch.testing.assert_close(slerp(right, up, 0.5)["w"], torch.tensor([0.5, 0.5]).sqrt())
    torch.testing.assert_close(slerp(right, right, 0.3)["w"], right["w"])
