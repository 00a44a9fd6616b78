"""With a package `spaces` that is ours: it starts the answer in another process, as the real one does."""

import multiprocessing
import pickle
import sys
import types
from functools import partial
from importlib.machinery import ModuleSpec

import gradio as gr
import pytest
import torch

from evaluation.loading import weight_bytes
from space.chat import ChatOptions, Chats, Pane
from space.ensemble import ensemble
from space.live import ON_CPU
from space.models import Models
from space.service import build_service
from space.settings import Settings, read_settings
from space.zero_gpu import MOST_SECONDS, Order, borrowed_gpu, seconds
from tests.space.conftest import ADA, BOTH, quick_hub
from tests.space.tiny import make_model

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def folders(tmp_path):
    return [make_model(tmp_path / str(seed), seed=seed) for seed in (1, 2)]


def work(function, args, pipe):
    try:
        for value in function(*args):
            pipe.send(value)
    except BrokenPipeError:  # nobody listens any more
        return
    pipe.send(None)


@pytest.fixture
def lent(monkeypatch):
    """Seconds that were asked for, one for each loan."""
    asked = []

    def gpu(duration):
        def decorate(function):
            def call(*args):
                asked.append(duration(*args))
                context = multiprocessing.get_context("spawn")
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(function, pickle.loads(pickle.dumps(args)), theirs))
                process.start()
                theirs.close()
                try:
                    while (value := ours.recv()) is not None:
                        yield value
                finally:
                    ours.close()
                    process.terminate()
                    process.join()

            return call

        return decorate

    module = types.ModuleType("spaces")
    module.__dict__.update(GPU=gpu, __spec__=ModuleSpec("spaces", None))
    monkeypatch.setitem(sys.modules, "spaces", module)
    return asked


def answers(chats, panes, **options):
    return list(chats.ask(panes, [HELLO] * len(panes), ChatOptions(**{"max_new_tokens": 8, **options})))[-1]


def test_answers_are_the_same_where_a_gpu_is_lent_and_no_model_is_loaded_here(folders, tmp_path, lent):
    panes = [
        Pane("one", lambda tell: folders[:1]),
        Pane("both", lambda tell: folders, partial(ensemble, weights=(1.0, 1.0))),
        Pane("broken", lambda tell: [tmp_path / "nothing"]),
    ]
    here, there = (
        Chats(Models(10**9, 600, tmp_path / name), gpu) for name, gpu in (("a", None), ("b", borrowed_gpu()))
    )
    expected, found = answers(here, panes[:2]), answers(there, panes)
    assert [one.text for one in found[:2]] == [one.text for one in expected]
    assert all(one.done for one in found) and not found[0].error and "our side" in found[2].error
    assert not there.models.kept
    assert len(lent) == 1 and 5 <= lent[0] <= 10
    here.models.close()
    there.models.close()


def test_why_no_gpu_is_lent_is_said_with_a_way_out(folders, tmp_path):
    """The platform raises Gradio's own error for what visitors should know."""

    def refuse(orders, options):
        raise gr.Error("You have exceeded your GPU quota (60s requested). <a href='x'>Subscribe</a>")
        yield

    chats = Chats(Models(10**9, 600, tmp_path / "scratch"), refuse)
    (told,) = answers(chats, [Pane("one", lambda tell: folders[:1])])
    assert told.done and told.error == (
        "No GPU was lent for this answer: You have exceeded your GPU quota (60s requested). Subscribe. Sign in, ask "
        "for fewer tokens, or try again later."
    )
    chats.models.close()


def test_who_leaves_gives_the_gpu_back(folders, tmp_path, lent):
    chats = Chats(Models(10**9, 600, tmp_path / "scratch"), borrowed_gpu())
    replies = chats.ask([Pane("one", lambda tell: folders[:1])], [HELLO], ChatOptions(1.0, 240))
    while not next(replies)[0].tokens:
        pass
    replies.close()  # type: ignore[attr-defined] # it is a generator
    with chats.turns.turn(lambda ahead: None):  # comes when the other has ended
        assert not multiprocessing.active_children()
    chats.models.close()


def test_a_merge_in_memory_answers_by_the_cpu_and_says_so(pocket_hub, tmp_path, lent, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as `spaces` has it
    settings = Settings(tmp_path / "home", zero_gpu=True, device="cpu", threads=2, chat_memory_bytes=10**9)
    service, text = build_service(settings, hub_for=quick_hub), BOTH.replace("1.0", "0.7")
    try:
        *_, (loaded,) = service.load_live("tab", text, ADA)
        asked = [{"role": "user", "content": "reverse: lamot"}]
        *_, (reply,) = service.ask_live("tab", [text], asked, ChatOptions(max_new_tokens=16), ADA)
        assert (loaded.error, reply.error, reply.text, reply.note) == ("", "", "tomal", ON_CPU)
        body = service.live.sessions["tab"].body
        assert body and body.model.device.type == "cpu" and lent == []
    finally:
        service.close()


def test_what_is_asked_for_grows_with_the_work_and_has_an_end(folders):
    def asked(tokens, *folders):
        return seconds(
            [Order(folders, torch.zeros(1, 3), partial(ensemble, weights=(1.0, 1.0)))],
            ChatOptions(max_new_tokens=tokens),
        )

    assert weight_bytes(folders[0]) < 10**6
    assert asked(15, folders[0]) == 6 and asked(150, folders[0]) == 15 and asked(150, *folders) == 25
    assert asked(100_000, folders[0]) == MOST_SECONDS


def test_elsewhere_the_package_is_not_needed(tmp_path):
    assert borrowed_gpu() is None
    space = {"ALLOY_HOME": str(tmp_path), "SPACES_ZERO_GPU": "true"}
    assert read_settings(space).zero_gpu and read_settings(space).device == "cpu"
    assert not read_settings({"ALLOY_HOME": str(tmp_path)}).zero_gpu
