"""The last states of a model's weights on the Hub: candidates for a soup."""

import pytest

from merging.errors import MergeError
from merging.hub import Hub
from merging.recipe import ModelRef
from tests.hub_fixture import ADA_TOKEN


def test_commits_that_changed_the_weights_count(history):
    ref, commits = history
    hub = Hub(ADA_TOKEN)
    found = hub.revisions(ref, 3)
    names = [hub.open_repo(ModelRef(ref.path, sha)).sha256("model-00001-of-00002.safetensors") for sha in found]
    first = [hub.open_repo(ModelRef(ref.path, sha)).sha256("model-00001-of-00002.safetensors") for sha in commits]
    assert names == first[::-1] and len(set(found)) == 3
    assert hub.revisions(ref, 1) == found[:1]


def test_more_than_there_are(history):
    with pytest.raises(MergeError, match=r"3 revisions of its weights in its last .* commits; 4 were asked for"):
        Hub(ADA_TOKEN).revisions(history[0], 4)
