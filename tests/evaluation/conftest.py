"""The demo's models, and a few examples of each of their tasks."""

from pathlib import Path

import pytest
import transformers
from huggingface_hub import HfApi

from evaluation.held_out import HeldOut, read_held_out
from evaluation.loading import load_tokenizer
from evaluation.reader import Single
from merging.opening import open_folder
from merging.recipe import ModelRef
from space.demo.held_out import FILE
from space.demo.zoo import folder_of
from tests.hub_fixture import ADA_TOKEN


def ref(name: str) -> ModelRef:
    return ModelRef(str(folder_of(f"pocket-{name}")))


def opened(*names: str):
    return {ref(name): open_folder(ref(name)) for name in names}


def few(count: int, *tasks: str) -> HeldOut:
    """Some examples of each task of the demo's set."""
    whole = read_held_out(FILE)
    found = [[one for one in whole.examples if one.task == task][:count] for task in tasks or whole.tasks]
    return HeldOut("few", tuple(one for some in found for one in some))


def single(folder: Path, dtype: str = "float32") -> Single:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return Single(model, load_tokenizer(folder))


@pytest.fixture(scope="module")
def add() -> Single:
    return single(folder_of("pocket-add"))


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
