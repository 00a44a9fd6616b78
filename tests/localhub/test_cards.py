"""Cards: read, checked as the Hub checks them, and pushed by the real client."""

import pytest
from huggingface_hub import HfApi, ModelCard, metadata_update

from space.localhub import LocalHub
from space.localhub.front_matter import InvalidCard, front_matter
from tests.hub_fixture import ADA_TOKEN

GOOD = "---\nlicense: mit\nbase_model:\n- acme/one\ntags: [merge]\n---\n# A card\n"


def test_a_good_card_is_accepted_and_pushed(hub: LocalHub, repo_id: str) -> None:
    hub.store.create_repo(repo_id)
    card = ModelCard(GOOD)
    card.validate()
    card.push_to_hub(repo_id, token=ADA_TOKEN)
    assert ModelCard.load(repo_id, token=ADA_TOKEN).data.license == "mit"
    metadata_update(repo_id, {"language": "en"}, token=ADA_TOKEN)
    assert ModelCard.load(repo_id, token=ADA_TOKEN).data.language == "en"


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ("license: [", "not YAML"),
        ("- a", "mapping"),
        ("license: my-own", "must be one of"),
        ("license: 7", '"license" must be'),
        ("tags: merge", '"tags" must be'),
        ("tags: [1]", '"tags" must be'),
        ("base_model: {a: b}", '"base_model" must be'),
        ("pipeline_tag: [a]", '"pipeline_tag" must be'),
        ("model-index: 3", '"model-index" must be'),
    ],
)
def test_a_bad_card_is_refused_with_the_reason(ada: HfApi, head: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata in") as caught:
        ada._validate_yaml(f"---\n{head}\n---\n")
    assert complaint in str(caught.value)


def test_a_card_without_metadata_is_warned_about(ada: HfApi) -> None:
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        ada._validate_yaml("# Nothing here")


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        ("", None),
        ("# no\n---\na: 1\n---\n", None),
        ("---\n---\n", None),
        ("---\na: 1\n---", {"a": 1}),
        ("---\r\na: 1\r\n---\r\nx", {"a": 1}),
        ("---\na: 2026-11-22\nb: .nan\n---\n", {"a": "2026-11-22", "b": None}),
        ("---\na: |\n  ---\n  x\n---\n", {"a": "---\nx\n"}),
    ],
)
def test_front_matter(readme: str, expected: object) -> None:
    assert front_matter(readme) == expected


def test_a_card_that_holds_itself_is_invalid() -> None:
    with pytest.raises(InvalidCard):
        front_matter("---\na: &x [*x]\n---\n")
