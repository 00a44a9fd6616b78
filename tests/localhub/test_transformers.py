"""transformers loads a model from the local Hub by its id."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer

from space.localhub import LocalHub
from tests.hub_fixture import ADA_TOKEN


def test_config_and_tokenizer_of_a_private_repo(hub: LocalHub, repo_id: str) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1, "world": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    hub.store.create_repo(repo_id, private=True)
    sha = hub.store.commit(
        repo_id,
        {
            "config.json": json.dumps({"model_type": "llama", "hidden_size": 64, "vocab_size": 3}).encode(),
            "tokenizer.json": tokenizer.to_str().encode(),
            "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}).encode(),
        },
    )
    for revision in ("main", sha):
        config = AutoConfig.from_pretrained(repo_id, token=ADA_TOKEN, revision=revision)
        assert (config.model_type, config.hidden_size) == ("llama", 64)
        loaded = AutoTokenizer.from_pretrained(repo_id, token=ADA_TOKEN, revision=revision)
        assert loaded("hello world")["input_ids"] == [1, 2]
    assert not [seen for seen in hub.requests if seen.status >= 500]
