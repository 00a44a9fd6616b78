"""Scores computed plainly, in float64, one text at a time: what the batched scores must agree with."""

import math

import torch

from evaluation.marks import BINS
from evaluation.rows import ids_of, text_before


def log_probs(model, ids):
    """After each token: [tokens, vocabulary]."""
    with torch.inference_mode():
        return model.double()(torch.tensor([ids])).logits[0].log_softmax(-1)


def likelihoods(model, tokenizer, example, text):
    """The log of the probability of each token of a text, the whole rows, and the tokens."""
    ids, start = ids_of(tokenizer, text_before(tokenizer, example), text)
    found = log_probs(model, ids)
    each = [float(found[at - 1, ids[at]]) for at in range(start, len(ids))]
    return each, found[start - 1 :], ids[start:]


def nll(model, tokenizer, examples):
    each = [likelihoods(model, tokenizer, one, one.completion)[0] for one in examples]
    return -math.fsum(math.fsum(one) for one in each) / sum(map(len, each))


def greedy(model, tokenizer, example, ends, most=64):
    """Token by token, all read anew."""
    ids, start = ids_of(tokenizer, text_before(tokenizer, example), "x")
    written: list[int] = []
    while len(written) < most:
        following = int(log_probs(model, [*ids[:start], *written])[-1].argmax())
        if following in ends:
            break
        written.append(following)
    return tokenizer.decode(written)


def exact(model, tokenizer, examples, ends):
    return sum(greedy(model, tokenizer, one, ends).strip() == one.completion for one in examples) / len(examples)


def chosen(model, tokenizer, example, end=None):
    """The option with the largest likelihood, and how sure that is."""
    sums = []
    for text in example.options:
        each, rows, _ = likelihoods(model, tokenizer, example, text)
        sums.append(math.fsum(each) + (float(rows[-1, end]) if end is not None else 0))
    top = max(sums)
    return example.options[sums.index(top)], 1 / math.fsum(math.exp(one - top) for one in sums)


def token_confidences(model, tokenizer, examples):
    found = []
    for one in examples:
        _, rows, ids = likelihoods(model, tokenizer, one, one.completion)
        found += [(float(row.max().exp()), int(row.argmax()) == id) for row, id in zip(rows, ids, strict=False)]
    return found


def ece(confidences):
    """Bin by bin, as in Guo et al."""
    total = 0.0
    for number in range(BINS):
        inside = [one for one in confidences if min(int(one[0] * BINS), BINS - 1) == number]
        if inside:
            gap = sum(c for c, _ in inside) / len(inside) - sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(gap)
    return total
