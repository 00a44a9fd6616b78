import logging
import threading
import time
from itertools import islice

import pytest
import torch

from evaluation.loading import ROOMY, load_model
from evaluation.prompt import NO_TEMPLATE
from merging.errors import MergeError
from space.chat import ChatOptions, Chats, Pane
from space.generate import generate
from space.models import TIGHT, Models
from tests.space.tiny import make_model

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    at = tmp_path_factory.mktemp("models")
    return [
        make_model(at / "one", seed=1),
        make_model(at / "two", seed=2),
        make_model(at / "plain", seed=1, template=None),
    ]


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    models = Models(10**9, 600, tmp_path_factory.mktemp("scratch"))
    yield Chats(models)
    models.close()


def pane(folder):
    return Pane(folder.name, lambda tell: [folder])


def ask(chats, folders, **options):
    return list(
        chats.ask([pane(f) for f in folders], [HELLO] * len(folders), ChatOptions(**{"max_new_tokens": 12, **options}))
    )


def quiet(chats):
    """Wait until no answer is being written any more."""
    end = time.monotonic() + 10
    while chats.turns.line and time.monotonic() < end:
        time.sleep(0.01)
    return not chats.turns.line


def test_an_answer_comes_in_pieces_and_ends(chats, folders):
    seen = ask(chats, folders[:1], max_new_tokens=200)
    texts = [replies[0].text for replies in seen]
    last = seen[-1][0]
    assert last.done
    assert (last.label, last.error, last.note) == ("one", "", "")
    assert last.tokens > 0
    assert last.tokens_per_second > 0
    assert all(last.text.startswith(text) for text in texts)
    assert any(text and not replies[0].done for text, replies in zip(texts, seen, strict=True)), "before its end"


def test_two_panes_answer_the_same_question_each_in_its_way(chats, folders):
    one, two = ask(chats, folders[:2])[-1]
    assert (one.label, two.label) == ("one", "two")
    assert one.text != two.text
    assert one.text == ask(chats, folders[:1])[-1][0].text


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_seed_gives_the_same_text_also_side_by_side(chats, folders, temperature):
    both = [ask(chats, [folders[0], folders[0]], temperature=temperature, seed=7)[-1] for _ in range(2)]
    assert len({reply.text for replies in both for reply in replies}) == 1


def test_another_seed_gives_another_text(chats, folders):
    assert len({ask(chats, folders[:1], temperature=1.0, seed=seed)[-1][0].text for seed in range(3)}) > 1


def test_draws_are_fair():
    from space.generate import Sample

    draw = Sample(ChatOptions(temperature=2.0, top_p=1.0))
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])) * 2.0
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[draw(torch.zeros(1, 0), logits).argmax()] += 1
    assert torch.allclose(counts / 4000, torch.tensor([0.7, 0.2, 0.1]), atol=0.03)


def test_a_model_without_template_completes_and_says_so(chats, folders):
    assert ask(chats, folders[2:])[-1][0].note == NO_TEMPLATE


def test_leaving_stops_the_answer(chats, folders, monkeypatch):
    before, voices = threading.active_count(), []

    def heard(speaker, prompt, options, voice, stop):
        voices.append(voice)
        put = voice.put

        def slowly(tokens):  # or it would be done before one can leave
            put(tokens)
            time.sleep(0.005)

        voice.put = slowly
        generate(speaker, prompt, options, voice, stop)

    monkeypatch.setattr("space.chat.generate", heard)
    replies = chats.ask([pane(folders[0])], [HELLO], ChatOptions(temperature=1.0, max_new_tokens=240))
    while not next(replies)[0].tokens:
        pass
    began = time.monotonic()
    replies.close()
    assert time.monotonic() - began < 0.2, "closing must not wait"
    assert quiet(chats)
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert 0 < len(voices[0].ids) < 240, "it was stopped, and did not come to its end"


def test_an_error_while_generating_ends_the_stream(folders, tmp_path, caplog):
    def load_broken(*asked):
        model, tokenizer = load_model(*asked)
        model.forward = lambda *args, **kwargs: 1 / 0
        return model, tokenizer

    broken = Chats(Models(10**9, 600, tmp_path, load=load_broken))
    with caplog.at_level(logging.ERROR):
        reply = ask(broken, folders[:1])[-1][0]
    assert reply.done
    assert reply.error == "Something went wrong on our side while this model answered."
    assert "ZeroDivisionError" in caplog.text
    broken.models.close()


def test_a_bug_outside_of_any_pane_ends_the_stream_too(chats, folders, caplog):
    replies = list(chats.ask([pane(folders[0])], [], ChatOptions()))[-1]
    assert replies[0].done
    assert "our side" in replies[0].error
    assert "chat failed" in caplog.text


def test_one_pane_that_fails_does_not_take_the_other_along(chats, folders):
    def gone(tell):
        raise MergeError("a/b is gated.")

    panes = [Pane("gone", gone), pane(folders[0])]
    bad, good = list(chats.ask(panes, [HELLO] * len(panes), ChatOptions(max_new_tokens=8)))[-1]
    assert (bad.error, bad.text, bad.done) == ("a/b is gated.", "", True)
    assert good.text
    assert not good.error


def test_a_conversation_longer_than_the_model_takes_is_said(chats, tmp_path):
    reply = ask(chats, [make_model(tmp_path / "short", context=6)])[-1][0]
    assert "this model takes 6" in reply.error


def test_an_answer_ends_where_the_model_does(chats, tmp_path):
    reply = ask(chats, [make_model(tmp_path / "short", context=16)], max_new_tokens=500)[-1][0]
    assert not reply.error
    assert reply.tokens <= 16


def test_models_that_fit_together_answer_at_once(chats, folders, monkeypatch):
    both = threading.Barrier(2, timeout=10)

    def meet(*given):
        both.wait()  # raises where the other one does not come
        generate(*given)

    monkeypatch.setattr("space.chat.generate", meet)
    assert all(reply.text and not reply.error for reply in ask(chats, folders[:2])[-1])


def test_models_that_do_not_fit_together_answer_in_turn(folders, tmp_path, monkeypatch):
    at_once: list[int] = []
    speaking = 0

    def count(*given):
        nonlocal speaking
        speaking += 1
        at_once.append(speaking)
        generate(*given)
        speaking -= 1

    monkeypatch.setattr("space.chat.generate", count)
    small = Chats(Models(200_000, 600, tmp_path))
    one, two = ask(small, folders[:2])[-1]
    assert one.text
    assert two.text
    assert at_once == [1, 1]
    assert len(small.models.kept) == 1
    small.models.close()


def test_a_question_waits_for_the_one_before_and_says_so(chats, folders):
    question = chats.ask([pane(folders[0])], [HELLO], ChatOptions(max_new_tokens=4))
    with chats.turns.turn(lambda ahead: None):  # somebody else's answer is being written
        assert any(reply.note == "Waiting: 1 question is ahead" for (reply,) in islice(question, 40))
    last = list(question)[-1][0]
    assert last.done
    assert last.note == ""
    assert last.text or last.tokens


def test_four_people_at_once_all_get_their_own_answers(chats, folders):
    alone = [ask(chats, [folders[n % 2]], temperature=1.0, seed=n)[-1][0].text for n in range(4)]
    together: dict[int, str] = {}

    def person(n):
        together[n] = ask(chats, [folders[n % 2]], temperature=1.0, seed=n)[-1][0].text

    threads = [threading.Thread(target=person, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(4)] == alone


def test_who_leaves_while_waiting_is_not_answered(chats, folders):
    first = chats.ask([pane(folders[0])], [HELLO], ChatOptions(temperature=1.0, max_new_tokens=240))
    while not next(first)[0].tokens:
        pass
    second = chats.ask([pane(folders[1])], [HELLO], ChatOptions())
    next(second)
    second.close()
    first.close()
    assert quiet(chats)


def test_a_model_that_lies_partly_on_disk_answers_the_same(chats, folders, tmp_path):
    small = Chats(Models(20_000, 600, tmp_path))
    assert ask(small, folders[:1])[-1][0].text == ask(chats, folders[:1])[-1][0].text
    assert "disk" in small.models.kept[folders[0]].model.hf_device_map.values()
    small.models.close()


class Scarce:
    """A machine on which some attempts to load or to answer run out of memory."""

    def __init__(self, scratch, *, loads=(), answers=()):
        self.loads, self.answers = list(loads), list(answers)
        self.shares = []
        self.chats = Chats(Models(10**9, 600, scratch, load=self.load))

    def load(self, folder, budget, scratch, share):
        self.shares.append(share)
        if self.loads and self.loads.pop(0):
            raise MemoryError
        model, tokenizer = load_model(folder, budget, scratch, share)
        forward = model.forward

        def scarce(*args, **kwargs):
            if self.answers and self.answers.pop(0):
                raise torch.OutOfMemoryError
            return forward(*args, **kwargs)

        model.forward = scarce
        return model, tokenizer


@pytest.mark.parametrize(
    ("loads", "answers", "shares"),
    [
        ([True], [], [ROOMY, ROOMY]),  # the second time it has the machine to itself
        ([False], [False, True], [ROOMY, ROOMY]),  # in the middle of its answer
        ([True, True], [], [ROOMY, ROOMY, TIGHT]),
        ([True], [True], [ROOMY, ROOMY, TIGHT]),
    ],
)
def test_who_runs_out_of_memory_answers_alone_then_mostly_from_disk(chats, folders, tmp_path, loads, answers, shares):
    scarce = Scarce(tmp_path, loads=loads, answers=answers)
    reply = ask(scarce.chats, folders[:1])[-1][0]
    assert (reply.error, reply.done) == ("", True)
    assert reply.text == ask(chats, folders[:1])[-1][0].text
    assert scarce.shares == shares
    assert scarce.chats.models.share == ROOMY
    scarce.chats.models.close()


def test_memory_that_is_never_enough_is_explained_and_freed_and_others_are_answered(folders, tmp_path):
    scarce = Scarce(tmp_path, loads=[True, False, True, True])
    short, other = ask(scarce.chats, folders[:2])[-1]
    assert "not enough memory here" in short.error and short.done
    assert other.text and not other.error
    assert not scarce.chats.models.kept
    assert not ask(scarce.chats, folders[:1])[-1][0].error
    scarce.chats.models.close()
