import threading

import pytest
import torch

from evaluation.loading import load_model
from evaluation.prompt import make_prompt
from merging.errors import MergeError
from merging.recipe import parse_recipe
from space.chat import ChatOptions, Chats, Pane
from space.ensemble import ensemble
from space.generate import Voice, generate
from space.models import Loaded, Models
from space.panes import ENSEMBLE, WEIGHTED, ensembles
from tests.space.conftest import recipe
from tests.space.tiny import make_model

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    at = tmp_path_factory.mktemp("models")
    return [make_model(at / str(seed), seed=seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def loaded(folders):
    return [Loaded(*load_model(folder, 10**9, folder), 0) for folder in folders]


def slow_greedy(loaded, shares, count):
    """Everything read anew for each token, in float64: no cache, no trick."""
    ids = make_prompt(loaded[0].tokenizer, HELLO, "").ids
    start = ids.shape[1]
    for _ in range(count):
        with torch.inference_mode():
            each = [one.model(ids).logits[0, -1].double().softmax(-1) for one in loaded]
        mean = sum(share * probs for share, probs in zip(shares, each, strict=True))
        ids = torch.cat([ids, mean.argmax().reshape(1, 1)], 1)
    return ids[0, start:].tolist()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 2.0, 5.0)])
def test_each_token_is_the_likeliest_of_the_mean_of_all_distributions(loaded, weights):
    voice = Voice("all")
    speaker = ensemble(loaded, weights)
    prompt = make_prompt(speaker.tokenizer, HELLO, "")
    voice.begin(speaker.tokenizer, "")
    generate(speaker, prompt, ChatOptions(max_new_tokens=12), voice, threading.Event())
    shares = [weight / sum(weights) for weight in weights]
    assert voice.ids == slow_greedy(loaded, shares, len(voice.ids))
    assert len(voice.ids) == 12


def test_in_chat_an_ensemble_of_one_twice_says_what_that_one_says(folders, tmp_path):
    chats = Chats(Models(10**9, 600, tmp_path))
    panes = [
        Pane("twice", lambda tell: [folders[0]] * 2, lambda models: ensemble(models, (1.0, 1.0))),
        Pane("once", lambda tell: [folders[0]]),
    ]
    twice, once = list(chats.ask(panes, [HELLO] * 2, ChatOptions(max_new_tokens=16, temperature=1.0, seed=3)))[-1]
    assert not twice.error and twice.text == once.text and once.text
    chats.models.close()


def test_parents_of_two_tokenizers_are_refused_with_the_reason(loaded):
    class Other:
        def get_vocab(self):
            return {"x": 0}

    stranger = Loaded(loaded[1].model, Other(), 0)
    with pytest.raises(MergeError, match="do not share a tokenizer"):
        ensemble([loaded[0], stranger], (1.0, 1.0))


def test_an_ensemble_is_offered_of_two_parents_and_with_the_weights_where_they_differ():
    def offered(text):
        return [(one.label, one.weights) for one in ensembles(parse_recipe(text))]

    two = recipe("a/x", "a/y")
    assert offered(two) == [(ENSEMBLE, (1.0, 1.0))]
    assert offered(two.replace("1.0", "0.5", 1)) == [(ENSEMBLE, (1.0, 1.0)), (WEIGHTED, (0.5, 1.0))]
    assert offered(two.replace("1.0", "-1.0", 1)) == [(ENSEMBLE, (1.0, 1.0))]  # a mean has no negative share
    assert offered(recipe("a/x")) == []
