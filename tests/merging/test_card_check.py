"""A model card is refused before anything is queued or made on the Hub."""

import pytest

from merging.card_check import LICENSES, check_card
from merging.errors import MergeError
from merging.hub.new_repo import complaints
from merging.strict_yaml import load_yaml
from space.localhub.front_matter import LICENSES as OF_THE_HUB
from space.localhub.front_matter import faults_of


@pytest.mark.parametrize(
    "head", ["license: mit", "license: other\nlicense_name: own", "language: en", "license: [mit, apache-2.0]"]
)
def test_a_good_card_passes(head: str):
    check_card(f"---\n{head}\n---\n\n# A merge\n")


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("# A merge\n", "is missing"),
        ("", "is missing"),
        ("---\n---\n", "is missing"),
        ("---\nlicense: mit\n# never closed\n", "is missing"),
        ("---\n- mit\n---\n", "must be lines like `license: mit`"),
        ("---\nlicense: mit\ntags: [a\n---\n", "line 4, column 1: expected ',' or ']'"),
        ("---\nlicense: mit: mit\n---\n", "line 2, column 13: mapping values are not allowed"),
        ("---\nlicense: mit\nlicense: mit\n---\n", "line 3: 'license' stands twice"),
        ("---\nlicense: apache2.0\n---\n", "Did you mean apache-2.0?"),
        ("---\nlicense: MIT\n---\n", "Did you mean mit?"),
        ("---\nlicense: [mit, 7]\n---\n", "the licence '7'"),
        ("---\nlicense: {a: b}\n---\n", "which the Hub does not know"),
    ],
)
def test_a_card_that_the_hub_would_refuse_is_refused_here(card: str, words: str):
    with pytest.raises(MergeError) as refused:
        check_card(card)
    assert words in str(refused.value) and len(str(refused.value)) < 220


def test_the_licences_are_those_of_the_hub():
    assert LICENSES == OF_THE_HUB


def test_the_licences_of_the_hub_are_not_listed():
    (said,) = faults_of({"license": "mine"})
    assert complaints(said) == "\"license\" must be one of those that the Hub knows, not 'mine'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("merge_method: a: b", "X is not valid YAML: line 1, column 16: mapping values are not allowed here."),
        ("a: [", "X is not valid YAML: line 1, column 5: "),
        ("a: 1\nb: \x07", "X is not valid YAML: line 2, column 4: this character is not allowed."),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, words: str):
    with pytest.raises(MergeError) as refused:
        load_yaml(text, "X")
    assert str(refused.value).startswith(words) and "unicode string" not in str(refused.value)
