"""The last states of a model's weights on the Hub: candidates for a soup."""

import pytest
from huggingface_hub import HfApi

from merging.errors import MergeError
from merging.hub import Hub
from merging.recipe import ModelRef
from space.demo.zoo import folder_of
from tests.hub_fixture import ADA_TOKEN


@pytest.fixture
def history(server, repo_id):
    """Three fine-tunes of one base as three commits, with a change of the card alone in between."""
    api = HfApi(token=ADA_TOKEN)
    api.create_repo(repo_id)
    commits = []
    for name in ("vowels", "reverse", "add"):
        commits.append(api.upload_folder(repo_id=repo_id, folder_path=folder_of(f"pocket-{name}")).oid)
        api.upload_file(repo_id=repo_id, path_or_fileobj=f"# {name}".encode(), path_in_repo="NOTES.md")
    return ModelRef(repo_id), commits


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
