"""A merge in memory: the bits and the words of the merge that is written, for the tab that asked for it."""

import threading
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.body import build_body
from evaluation.loading import load_model
from merging.cuda import Gpu
from merging.device import Cpu
from merging.errors import MergeError, NoMemory
from merging.live import LiveMerge, need_of
from merging.recipe import parse_recipe, to_yaml
from space.demo.hub import MODELS
from space.film import frames, lambdas
from space.generate import generate
from space.live import GONE, NO_MEMORY
from space.pages.try_it import takes
from space.reply import ChatOptions
from tests.space.conftest import ADA, BOB, BOTH, recipe

GREEDY = ChatOptions(max_new_tokens=16)
REVERSE = [{"role": "user", "content": "reverse: lamot"}]


@pytest.fixture
def service(one_service):
    return one_service


@pytest.fixture
def tab(service, new_tab):
    """A tab of Ada's in which two skills are merged in memory."""
    assert loaded(service, new_tab)[-1][0].error == "" and service.live.made(new_tab, ADA.owner)
    return new_tab


def loaded(service, tab, text=BOTH, viewer=ADA):
    return list(service.load_live(tab, text, viewer))


def weights(reverse, add, **more):
    found = BOTH.replace("weight: 1.0", f"weight: {reverse}", 1).replace("weight: 1.0", f"weight: {add}", 1)
    return found + "".join(f"{name}: {value}\n" for name, value in more.items())


def answers(service, tab, *recipes, viewer=ADA):
    replies = list(service.ask_live(tab, recipes, REVERSE, GREEDY, viewer))[-1]
    return [reply.error or reply.text for reply in replies]


def out_of_memory_once(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the first answer from now on was asked, which finds no memory."""
    starved: list[Any] = []

    def scarce(*given: Any) -> None:
        if not starved:
            starved.append(given)
            raise torch.OutOfMemoryError
        generate(*given)

    monkeypatch.setattr("space.live.generate", scarce)
    return starved


def test_a_skill_comes_and_goes_with_its_lambda(service, tab):
    with_it, without = weights(0.7, 0.7), weights(0, 0.7)
    assert answers(service, tab, with_it) == ["tomal"]
    assert answers(service, tab, without) != ["tomal"]
    assert answers(service, tab, with_it) == ["tomal"]


def test_the_model_is_that_of_the_merge_that_is_written(service, tab, tmp_path):
    """Bit by bit, and what it computes as well, after moves to other lambdas and another type."""
    session = service.live.sessions[tab]
    for text in (weights(0.3, 0.4), weights(0.7, 0.2, dtype="float32"), weights(0.7, 0.7)):
        list(service.live.remerge(tab, ADA.owner, text))
        assert service.live.made(tab, ADA.owner)[0] == to_yaml(parse_recipe(text))
        job = service.queue.wait(service.merge(text, ADA).id, 60)
        model, tokenizer = load_model(service.model_folder(job.id), 10**9, tmp_path)
        live = session.body.model
        assert {n: t.dtype for n, t in live.state_dict().items()} == {n: t.dtype for n, t in model.state_dict().items()}
        assert [n for n, t in live.state_dict().items() if not torch.equal(t, model.state_dict()[n])] == []
        ids = tokenizer("reverse: lamot", return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert torch.equal(live(ids).logits, model(ids).logits)
        assert live.generation_config.eos_token_id == model.generation_config.eos_token_id is not None
        service.forget(job.id, ADA)


def test_a_filmstrip_is_the_same_question_to_several_merges(service, tab):
    strip = [to_yaml(one) for one in frames(parse_recipe(weights(0.7, 0.7)), "alloy/pocket-reverse")]
    found = answers(service, tab, *strip)
    assert found[0] != "tomal" and found[-1] == "tomal" and len(found) == 5
    assert found == [answers(service, tab, one)[0] for one in strip]


def test_the_frames_of_a_filmstrip_have_the_same_seed(service, tab):
    """What is drawn differs by the weights and the seed alone."""

    def film(seed):
        hot, asked = ChatOptions(3.0, 16, seed, top_p=1.0), [weights(0.7, 0.7), weights(0, 0.7), weights(0.7, 0.7)]
        return [one.text for one in list(service.ask_live(tab, asked, REVERSE, hot, ADA))[-1]]

    first, other = film(7), film(8)
    assert first[0] == first[2] != first[1] and other[0] == other[2]
    assert first != other and first == film(7)


def test_the_newest_recipe_wins(service, tab):
    """While another one has the accelerator, two moves come: only the last is made."""
    held, free = threading.Event(), threading.Event()

    def hold():
        with service.chats.turns.turn(lambda ahead: None):
            held.set()
            free.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(30)
    before = service.live.made(tab, ADA.owner)
    older = service.live.remerge(tab, ADA.owner, weights(0.1, 0.1))
    wait_for(lambda: "Waiting" in next(older)[0].note)
    newer = service.live.remerge(tab, ADA.owner, weights(0.2, 0.2))
    wait_for(lambda: "Waiting" in next(newer)[0].note)
    assert service.live.made(tab, ADA.owner) == before
    free.set()
    assert [reply.error for said in (list(older), list(newer)) for reply in said[-1]] == ["", ""]
    other.join()
    assert service.live.made(tab, ADA.owner)[0] == to_yaml(parse_recipe(weights(0.2, 0.2)))
    assert service.live.sessions[tab].wanted == 2


def wait_for(what):
    for _ in range(1000):
        if what():
            return
    raise AssertionError("it never came")


def test_a_move_waits_for_the_answer_that_is_being_written(service, tab, monkeypatch):
    speaks, goes_on, merges = threading.Event(), threading.Event(), counted_merges(monkeypatch)

    def slowly(*given):
        speaks.set()
        assert goes_on.wait(30)
        generate(*given)

    list(service.live.remerge(tab, ADA.owner, weights(0.7, 0.7)))
    merges.clear()
    monkeypatch.setattr("space.live.generate", slowly)
    asked = service.ask_live(tab, [weights(0.7, 0.7)], REVERSE, GREEDY, ADA)
    while not speaks.is_set():
        next(asked)
    move = service.live.remerge(tab, ADA.owner, weights(0, 0.7))
    wait_for(lambda: "Waiting" in next(move)[0].note)
    assert merges == [] and "weight: 0.7" in service.live.made(tab, ADA.owner)[0]
    goes_on.set()
    assert list(asked)[-1][0].text == "tomal"
    assert list(move)[-1][0].error == "" and len(merges) == 1
    assert service.live.made(tab, ADA.owner)[0] == to_yaml(parse_recipe(weights(0, 0.7)))


def test_of_many_quick_moves_one_is_made(service, tab, monkeypatch):
    monkeypatch.setattr("space.live.SETTLE_SECONDS", 1.0)  # so that ten are quick on any machine
    merges = counted_merges(monkeypatch)
    moves = [service.live.remerge(tab, ADA.owner, weights(number / 10, 0.5)) for number in range(1, 11)]
    for move in moves:
        next(move)
    assert [list(move)[-1][0].error for move in moves] == [""] * 10
    assert len(merges) == 1 and service.live.made(tab, ADA.owner)[0] == to_yaml(parse_recipe(weights(1.0, 0.5)))


def counted_merges(monkeypatch):
    """The recipes that merges are made of from now on."""
    merge, made = LiveMerge.merge, []

    def counting(self, recipe, *given):
        made.append(recipe)
        merge(self, recipe, *given)

    monkeypatch.setattr(LiveMerge, "merge", counting)
    return made


def test_what_cannot_be_live_is_said_and_the_last_merge_stays(service, tab):
    text = recipe("alloy/pocket-reverse", "alloy/pocket-add", method="tsv").replace(
        "    parameters: {weight: 1.0}\n", ""
    )
    said = list(service.live.remerge(tab, ADA.owner, text))[-1][0]
    assert "too slow to follow a slider. Merge it" in said.error
    said = list(service.live.remerge(tab, ADA.owner, recipe("alloy/pocket-vowels")))[-1][0]
    assert "alloy/pocket-vowels is not in memory" in said.error
    assert answers(service, tab, weights(0.7, 0.7)) == ["tomal"]


def test_a_tab_is_its_owners(service, tab):
    assert service.live.made(tab, BOB.owner) is None
    assert answers(service, tab, BOTH, viewer=BOB) == [GONE]
    assert list(service.live.remerge(tab, BOB.owner, BOTH))[-1][0].error == GONE
    assert answers(service, "another tab", BOTH) == [GONE]


def test_two_people_have_a_merge_each_at_once(service, tab):
    theirs = "their tab"
    assert loaded(service, theirs, recipe("alloy/pocket-add"), BOB)[-1][0].error == ""
    assert set(service.live.sessions) == {tab, theirs}
    assert answers(service, tab, weights(0.7, 0.7)) == ["tomal"]
    add = [{"role": "user", "content": "add: 17+25"}]
    (reply,) = list(service.ask_live(theirs, [recipe("alloy/pocket-add")], add, GREEDY, BOB))[-1]
    assert reply.text == "42" and answers(service, tab, weights(0.7, 0.7)) == ["tomal"]
    held = service.chats.models.reserved_bytes
    service.live.close_tab(theirs)
    assert set(service.live.sessions) == {tab} and 0 < service.chats.models.reserved_bytes < held


def test_a_person_has_one_merge_in_memory(service, tab):
    other = "another tab"
    loaded(service, other)
    assert list(service.live.sessions) == [other]
    assert answers(service, tab, BOTH) == [GONE]
    service.live.close_tab(other)


def test_models_that_do_not_belong_together_are_refused(service, new_tab):
    said = loaded(service, new_tab, recipe("alloy/pocket-reverse", "alloy/pocket-stranger"))
    assert said[-1][0].error.startswith("These models cannot be merged")
    assert service.live.sessions == {} and service.chats.models.reserved_bytes == 0


def test_what_does_not_fit_is_said_before_it_is_read_with_what_would(service, new_tab, monkeypatch):
    found = service.check(BOTH, ADA)
    need = service.may_try(BOTH, found, ADA).memory_bytes
    monkeypatch.setattr(service.live, "memory", lambda: need + service.settings.spare_memory_bytes - 1)
    monkeypatch.setattr(service.live, "disk", lambda: 0)
    with pytest.raises(MergeError, match="Try it with 1 of the models, or merge it"):
        service.may_try(BOTH, found, ADA)
    assert "Try it with 1 of the models" in loaded(service, new_tab)[-1][0].error
    monkeypatch.setattr(service.live, "memory", lambda: 0)
    with pytest.raises(MergeError, match=r"0 bytes can be had here\. Merge it: that needs 1\.00 GB at most"):
        service.may_try(BOTH, found, ADA)
    assert service.live.sessions == {} and not list(service.live.scratch.glob("*"))


def test_models_that_do_not_fit_are_kept_on_disk_and_the_merge_is_the_same(service, new_tab, monkeypatch):
    found = service.check(BOTH, ADA)
    need = need_of(found.plan, service.settings.cores)
    room = need.without_models + service.settings.spare_memory_bytes
    monkeypatch.setattr(service.live, "memory", lambda: room)
    fit = service.may_try(BOTH, found, ADA)
    assert (fit.memory_bytes, fit.disk_bytes) == (need.without_models, need.models) and 0 < fit.seconds < 1
    assert "kept on disk while you try: " in takes(fit)
    assert loaded(service, new_tab)[-1][0].error == ""
    session = service.live.sessions[new_tab]
    assert session.live.held.on_disk and session.nbytes == need.without_models == service.chats.models.reserved_bytes
    assert answers(service, new_tab, weights(0.7, 0.7), weights(0, 0.7))[0] == "tomal"
    service.live.close_tab(new_tab)
    monkeypatch.setattr(service.live, "memory", lambda: room - 1)
    with pytest.raises(MergeError, match="Trying it takes"):
        service.may_try(BOTH, found, ADA)
    monkeypatch.setattr(service.live, "memory", lambda: room)
    monkeypatch.setattr("merging.live.DISK_SPEED", 1e4)  # too slow to follow a slider
    with pytest.raises(MergeError, match="Trying it takes"):
        service.may_try(BOTH, found, ADA)


def test_a_tab_that_is_closed_while_it_loads_leaves_nothing(service, new_tab):
    with closing(service.load_live(new_tab, BOTH, ADA)) as loading:
        next(loading)
        wait_for(lambda: service.live.loads.get(new_tab) or next(loading))
        service.live.close_tab(new_tab)
        assert list(loading)[-1][0].done
    assert service.live.sessions == {} and service.chats.models.reserved_bytes == 0


def test_an_idle_merge_leaves_memory(service, new_tab):
    loaded(service, new_tab)
    clock, now = service.live.clock, service.live.sessions[new_tab].used
    try:
        service.live.clock = lambda: now + service.settings.idle_seconds - 1
        service.live.drop_idle()
        assert new_tab in service.live.sessions
        service.live.clock = lambda: now + service.settings.idle_seconds
        service.live.drop_idle()
        assert service.live.sessions == {} and service.chats.models.reserved_bytes == 0
    finally:
        service.live.clock = clock


def test_frames_move_one_lambda_or_all_or_the_place_between_two():
    both = parse_recipe(weights(0.8, -0.4))
    assert [lambdas(one) for one in frames(both)][:2] == [
        "pocket-reverse 0, pocket-add 0", "pocket-reverse 0.2, pocket-add -0.1",
    ]  # fmt: skip
    assert [lambdas(one) for one in frames(both, "alloy/pocket-add")][3] == "pocket-reverse 0.8, pocket-add -0.3"
    with pytest.raises(MergeError, match="no model alloy/nobody"):
        frames(both, "alloy/nobody")
    slerp = parse_recipe(
        "merge_method: slerp\nbase_model: a/b\nmodels: [{model: a/b}, {model: c/d}]\nparameters: {t: 1}"
    )
    assert [one.parameters["t"] for one in frames(slerp)] == [0, 0.25, 0.5, 0.75, 1]
    karcher = parse_recipe("merge_method: karcher\nmodels: [{model: a/b}, {model: c/d}]")
    with pytest.raises(MergeError, match="no lambda to move"):
        frames(karcher)
    with pytest.raises(MergeError, match="not one number"):
        frames(parse_recipe(weights("[0, 1]", 1)))


def test_where_memory_runs_out_all_that_can_leaves_and_the_answer_comes(service, tab, monkeypatch):
    ties = recipe("alloy/pocket-reverse", "alloy/pocket-add", method="ties") + "parameters: {density: 0.5}\n"
    expected, models = answers(service, tab, ties), service.chats.models
    with models.borrowed(MODELS / "alloy" / "pocket-add"):
        pass
    recall = service.live.sessions[tab].live.recall
    assert models.idle_bytes() and recall.totals
    starved = out_of_memory_once(monkeypatch)
    assert answers(service, tab, ties) == expected and starved
    assert not models.kept and not service.live.sessions[tab].live.recall.totals


def test_what_does_not_fit_a_gpu_answers_by_the_cpu(service, new_tab, monkeypatch):
    places = []

    def build(plan, checkpoints, folder, device, **more):
        places.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError
        return build_body(plan, checkpoints, folder, device, **more)

    monkeypatch.setattr("space.live.own_device", lambda settings: "cuda")
    monkeypatch.setattr("space.live.build_body", build)
    assert loaded(service, new_tab)[-1][0].error == ""
    assert answers(service, new_tab, weights(0.7, 0.7)) == ["tomal"] and places == ["cuda", "cpu"]


def test_where_a_gpu_has_room_the_merge_is_made_in_the_memory_that_it_computes_with(service, new_tab, monkeypatch):
    """Torch's CPU stands in for it. Where its memory runs out after all, the models leave it."""
    monkeypatch.setattr("space.live.roomy_gpu", lambda settings, plan: Gpu("cpu"))
    assert loaded(service, new_tab)[-1][0].error == ""
    session = service.live.sessions[new_tab]
    body, mine = session.body, {tensor.data_ptr() for tensor in session.body.model.state_dict().values()}
    assert body.copies == () and {one.data_ptr() for one in body.memory.values()} <= mine
    assert answers(service, new_tab, weights(0.7, 0.7), weights(0, 0.7))[0] == "tomal"
    starved = out_of_memory_once(monkeypatch)
    session.device = "cuda"  # as that of a real one is called
    assert answers(service, new_tab, weights(0.7, 0.7)) == ["tomal"] and starved
    assert session.device == session.live.held.device.name == "cpu" and isinstance(session.live.held.memory, np.ndarray)


@pytest.mark.parametrize("scarce", ["merge", "reading"])
def test_where_a_gpu_runs_out_in_the_merge_or_while_reading_the_machine_does_it(service, new_tab, monkeypatch, scarce):
    """What torch raises there has become an error of ours by then."""
    starved: list[Any] = []

    class Small(Gpu):
        def own(self, nbytes):
            if scarce == "reading":
                starved.append(nbytes)
                raise NoMemory("cuda:0 has no room.")
            return super().own(nbytes)

        def widen(self, *given, **more):
            if not starved:
                starved.append(given)
                raise NoMemory("cuda:0 has too little free memory.")
            return super().widen(*given, **more)

    monkeypatch.setattr("space.live.roomy_gpu", lambda settings, plan: Small("cpu"))
    assert loaded(service, new_tab)[-1][0].error == "" and starved
    session = service.live.sessions[new_tab]
    assert isinstance(session.live.held.device, Cpu) and isinstance(session.live.held.memory, np.ndarray)
    assert answers(service, new_tab, weights(0.7, 0.7)) == ["tomal"]


def test_what_cannot_be_tried_is_said_before_its_weights_are_read(service, new_tab, monkeypatch):
    def refuse(*given, **more):
        raise MergeError("It cannot chat.")

    def never(*given):
        raise AssertionError("the weights were read")

    monkeypatch.setattr("space.live.build_body", refuse)
    monkeypatch.setattr("space.live.load", never)
    assert loaded(service, new_tab)[-1][0].error == "It cannot chat."
    assert service.chats.models.reserved_bytes == 0 and not list(service.live.scratch.glob("*"))


def test_a_recipe_that_is_refused_leaves_the_merge_that_there_was(service, tab):
    strangers = recipe("alloy/pocket-reverse", "alloy/pocket-stranger")
    assert "cannot be merged" in loaded(service, tab, strangers)[-1][0].error
    assert answers(service, tab, weights(0.7, 0.7)) == ["tomal"]


def test_a_merge_in_another_tab_makes_way_and_so_does_not_count(service, tab, monkeypatch):
    found, session = service.check(BOTH, ADA), service.live.sessions[tab]
    monkeypatch.setattr(service.live, "memory", lambda: service.settings.spare_memory_bytes)
    assert service.may_try(BOTH, found, ADA).memory_bytes == session.nbytes
    with pytest.raises(MergeError, match="0 bytes can be had here"):
        service.may_try(BOTH, found, BOB)


def test_an_answer_without_memory_says_so(service, tab, monkeypatch):
    def starve(*given):
        raise MemoryError

    monkeypatch.setattr("space.live.generate", starve)
    assert answers(service, tab, weights(0.7, 0.7)) == [NO_MEMORY]
    monkeypatch.undo()
    assert answers(service, tab, weights(0.7, 0.7)) == ["tomal"]
