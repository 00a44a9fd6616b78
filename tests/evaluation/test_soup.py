"""A greedy soup is never worse than its best candidate on the set it was chosen by; its bits are the engine's."""

import hashlib
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.bench import Bench
from evaluation.examine import at_once
from evaluation.held_out import Example, HeldOut
from evaluation.objective import Objective
from evaluation.soup import Tried, greedy_soup
from evaluation.subject import soup_of
from merging.engine import merge
from merging.errors import MergeError
from merging.recipe import ModelRef, to_yaml
from tests.evaluation.conftest import few, opened, ref
from tests.evaluation.made_up import Fake, mark

SET = HeldOut("set", (Example((("user", "a"),), "b"),))
MODELS = [ModelRef(f"m{i}") for i in range(5)]


def by_chance(seed, tasks=("a", "b")):
    """Numbers that follow from the members alone, whatever their order, as the soup's do."""

    def of(subject):
        told = json.dumps([seed, sorted(map(str, subject.models))]).encode()
        numbers = [byte / 25 for byte in hashlib.sha256(told).digest()]
        return [mark(numbers[i], task, exact=numbers[i] < 5) for i, task in enumerate(tasks)]

    return Fake(of)


@given(st.integers(0, 10**6), st.integers(2, 5), st.sampled_from(["nll", "exact"]), st.sampled_from(["mean", "worst"]))
def test_it_is_never_worse_than_its_best_candidate(seed, count, score, over):
    examine, objective = by_chance(seed), Objective(score, over)
    steps = greedy_soup(MODELS[:count], SET, examine, objective)
    tried: list[Tried] = []
    try:
        while True:
            step = next(steps)
            assert isinstance(step, Tried)
            tried.append(step)
    except StopIteration as done:
        soup = done.value
    assert list(soup.tried) == tried and {one.model for one in tried} == set(MODELS[:count])
    sign = 1 if objective.measure.more_is_better else -1
    assert all(sign * soup.value >= sign * one.alone for one in tried)
    assert tried[0].members == (tried[0].model,)
    for before, one in pairwise(tried):
        assert one.before is not None and one.added == (sign * one.together >= sign * one.before)
        assert one.members == ((*before.members, one.model) if one.added else before.members)
    assert soup.members == tried[-1].members
    assert all(held_out is SET for _, held_out in examine.asked)


def test_the_log_says_why_with_numbers():
    values = {("m0",): 1.0, ("m1",): 2.0, ("m2",): 3.0, ("m0", "m1"): 0.5, ("m0", "m1", "m2"): 0.75}
    examine = Fake(lambda subject: [mark(values[tuple(map(str, subject.models))])])
    soup = at_once(greedy_soup([MODELS[2], MODELS[0], MODELS[1]], SET, examine_all(examine), Objective()))
    assert [one.why for one in soup.tried] == [
        "the best alone, at 1",
        "added: with it 0.5, not worse than 1 without it",
        "refused: with it 0.75, worse than 0.5 without it",
    ]
    assert soup.recipe == soup_of([MODELS[0], MODELS[1]]) and soup.uniform == 9.0


def examine_all(examine):
    """The soup of all, in the order in which they were given, is another."""

    def asked(subject, held_out):
        if [str(model) for model in subject.models] == ["m2", "m0", "m1"]:
            return (mark(9.0),)
        return (yield from examine(subject, held_out))

    return asked


@pytest.mark.parametrize("models", [MODELS[:1], [MODELS[0], MODELS[0]]])
def test_a_soup_is_of_several_different_models(models):
    with pytest.raises(MergeError, match="2 to 100 different models"):
        at_once(greedy_soup(models, SET, by_chance(0), Objective()))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def test_a_soup_of_the_zoo_streams_through_the_disk_and_has_the_engines_bits(scratch, monkeypatch):
    """One soup at a time lies on disk, and nothing is left there; reading it offloaded gives the same scores."""
    models, most, made = [ref("reverse-add"), ref("add"), ref("vowels")], [], {}
    written = Bench.written

    def watched(bench, recipe, out):
        folder = written(bench, recipe, out)
        most.append(len(list(scratch.iterdir())))
        made[to_yaml(recipe)] = bits(folder)
        return folder

    monkeypatch.setattr(Bench, "written", watched)
    checkpoints = opened("reverse-add", "add", "vowels")
    bench = Bench(checkpoints, memory_bytes=10**9, streaming=True, scratch=scratch)
    held_out = few(10, "reverse", "add")
    soup = at_once(greedy_soup(models, held_out, bench.marks, Objective("exact")))
    assert soup.members[0] == ref("reverse-add") and ref("vowels") not in soup.members
    assert soup.value >= max(one.alone for one in soup.tried)
    assert set(most) == {1} and list(scratch.iterdir()) == []
    recipe = soup_of([soup.members[0], soup.tried[1].model])
    for _ in merge(recipe, checkpoints, scratch / "merged"):
        pass
    assert made[to_yaml(recipe)] == bits(scratch / "merged")

    live = Bench(checkpoints, memory_bytes=10**9)
    again = at_once(greedy_soup(models, held_out, live.marks, Objective("exact")))
    live.close()
    assert [(one.model, one.added, one.together) for one in again.tried] == [
        (one.model, one.added, one.together) for one in soup.tried
    ]
    assert isinstance(soup.tried[0], Tried)


def bits(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}
