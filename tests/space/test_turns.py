import threading

import pytest

from space.turns import Turns


def test_everybody_gets_their_turn_in_order_and_knows_who_is_ahead():
    turns, order, seen = Turns(), [], []

    def take(name, heard):
        def note(ahead):
            seen.append((name, ahead))
            heard.set()

        with turns.turn(note, every=0.01):
            order.append(name)

    with turns.turn(lambda ahead: None):
        threads = []
        for name in "abc":
            heard = threading.Event()
            threads.append(threading.Thread(target=take, args=(name, heard)))
            threads[-1].start()
            assert heard.wait(5)
    for thread in threads:
        thread.join(5)
    assert order == ["a", "b", "c"]
    assert {("a", 1), ("b", 2), ("c", 3)} <= set(seen)


def test_who_leaves_the_line_is_not_waited_for():
    turns = Turns()

    def leave(ahead):
        raise TimeoutError

    with turns.turn(lambda ahead: None), pytest.raises(TimeoutError), turns.turn(leave, every=0.01):
        pass
    with turns.turn(leave):
        assert len(turns.line) == 1
