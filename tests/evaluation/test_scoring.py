"""Every score against a plain computation in float64, one text at a time; padding and batches change nothing."""

import math

import pytest
import torch

from evaluation import rows as rows_module
from evaluation.examine import at_once
from evaluation.held_out import Example
from evaluation.marks import columns
from evaluation.reader import Single, ensemble_of
from evaluation.rows import ids_of, rows_of
from evaluation.scores import scores_of
from evaluation.scoring import Scoring, read, score
from evaluation.statistics import MEASURES
from merging.errors import MergeError
from space.demo.zoo import folder_of
from tests.evaluation import plain
from tests.evaluation.conftest import few, single
from tests.space.tiny import make_model


def of(measure, marks):
    return float(MEASURES[measure].of(columns(marks).sum(0)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """No template, random weights, hardly ever right."""
    return single(make_model(tmp_path_factory.mktemp("tiny") / "model", template=None))


@pytest.fixture(scope="module")
def wide():
    return single(folder_of("pocket-add"), "float64")


@pytest.mark.parametrize("task", ["add", "reverse"])
def test_likelihoods_exact_matches_and_calibration(wide, task):
    examples = few(6, task).examples
    marks = at_once(score(wide, examples))
    assert of("nll", marks) == pytest.approx(plain.nll(wide.model, wide.tokenizer, examples), rel=1e-5)
    assert of("perplexity", marks) == pytest.approx(math.exp(of("nll", marks)))
    assert of("exact", marks) == plain.exact(wide.model, wide.tokenizer, examples, wide.ends)
    confidences = plain.token_confidences(wide.model, wide.tokenizer, examples)
    assert of("ece", marks) == pytest.approx(plain.ece(confidences), abs=1e-5)


def test_options_are_chosen_as_whole_answers(wide):
    examples = few(12, "bigger").examples
    marks = at_once(score(wide, examples))
    (end,) = wide.ends
    choices = [plain.chosen(wide.model, wide.tokenizer, one, end) for one in examples]
    rights = [choice == one.completion for (choice, _), one in zip(choices, examples, strict=True)]
    assert [mark.right for mark in marks] == rights
    confidences = [(sure, right) for (_, sure), right in zip(choices, rights, strict=True)]
    assert of("ece", marks) == pytest.approx(plain.ece(confidences), abs=1e-5)
    assert scores_of("m", marks).on("bigger").ece_of == "options"


def test_without_a_template_a_text_goes_on(tiny):
    examples = [Example((("user", "abc"),), "de"), Example((("user", "a longer one"),), " f", (" f", " g"))]
    marks = at_once(score(tiny, examples))
    assert of("nll", marks) == pytest.approx(plain.nll(tiny.model, tiny.tokenizer, examples), rel=1e-5)
    tiny.model.float()
    choice, _ = plain.chosen(tiny.model, tiny.tokenizer, examples[1])
    assert marks[1].right == (choice == " f") and marks[0].right is None
    tiny.model.float()
    begins = plain.greedy(tiny.model, tiny.tokenizer, examples[0], (), 3)
    tiny.model.float()
    assert at_once(score(tiny, [Example((("user", "abc"),), begins)]))[0].exact


def test_padding_and_batches_change_nothing(add, monkeypatch):
    examples = few(4).examples
    together = at_once(score(add, examples))
    monkeypatch.setattr(rows_module, "TOKENS", 1)
    alone = at_once(score(add, examples))
    assert [mark.nll for mark in alone] == pytest.approx([mark.nll for mark in together], abs=1e-4)
    assert [(m.exact, m.right, m.tokens) for m in alone] == [(m.exact, m.right, m.tokens) for m in together]


def test_what_stands_beside_a_row_is_not_seen(add):
    examples = few(1, "add", "bigger").examples
    rows = rows_of(add.tokenizer, examples, add.context)
    long = max(rows, key=lambda row: len(row.ids))
    for row in rows:
        (mine,), (beside, _) = read(add, [row]), read(add, [row, long])
        assert mine.log_likelihood == pytest.approx(beside.log_likelihood, abs=1e-4)
        assert mine.likeliest == beside.likeliest


def test_the_text_begins_where_the_tokens_change(add, tiny):
    for tokenizer in (add.tokenizer, tiny.tokenizer):
        ids, start = ids_of(tokenizer, "reverse: cat", "tac")
        assert tokenizer.decode(ids[start:]) == "tac"


def test_greedy_decoding_in_other_tokens_is_the_same_text(add):
    """A model that writes a word in one token where the completion has it in letters."""

    class Speller:
        chat_template = None

        def __call__(self, text, **kwargs):
            return {"input_ids": [ord(c) for c in text]}

        def decode(self, ids):
            return "".join("cat" if id == 1 else chr(id) for id in ids)

    class Fixed:
        tokenizer, context, vocabulary = Speller(), 99, 256
        ends: frozenset[int] = frozenset()

        def __init__(self, following):
            self.following = following

        def log_probs(self, ids, mask, places):
            found = torch.full((len(ids), len(places), 256), -9.0)
            for row, text in enumerate(ids.tolist()):
                for column, place in enumerate(places):
                    found[row, column, self.following.get(text[place], 0)] = -0.1
            return found

    examples = [Example((("user", "?"),), "cats")]
    assert at_once(score(Fixed({ord("?"): 1, 1: ord("s")}), examples))[0].exact
    assert not at_once(score(Fixed({ord("?"): 1, 1: ord("z")}), examples))[0].exact


def test_an_ensemble_is_the_mean_of_the_distributions(add):
    other, examples = single(folder_of("pocket-reverse")), few(3, "add").examples
    marks = at_once(score(ensemble_of([add, other], (1.0, 3.0)), examples))
    total = 0.0
    for one in examples:
        (mine, _, _), (his, _, _) = (plain.likelihoods(m.model, m.tokenizer, one, one.completion) for m in (add, other))
        total -= sum(math.log(0.25 * math.exp(a) + 0.75 * math.exp(b)) for a, b in zip(mine, his, strict=True))
    add.model.float()
    assert sum(mark.nll for mark in marks) == pytest.approx(total, rel=1e-4)


def test_what_is_too_long_or_no_number_is_told(add):
    with pytest.raises(MergeError, match="tokens long, and this model takes 256"):
        at_once(score(add, [Example((("user", "a" * 300),), "b")]))

    class Broken(Single):
        def log_probs(self, ids, mask, places):
            return super().log_probs(ids, mask, places) * torch.nan

    with pytest.raises(MergeError, match="not finite"):
        at_once(score(Broken(add.model, add.tokenizer), few(1, "add").examples))


def test_it_says_how_far_it_is(add):
    steps = list(score(add, few(2, "add").examples, "add"))
    assert steps[0] == Scoring(0, 2, "add") and steps[-1] == Scoring(2, 2, "add")
