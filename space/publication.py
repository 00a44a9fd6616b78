"""Where a merge may be published, and what it is called by default."""

import re

from merging.card_check import check_card
from merging.errors import MergeError
from merging.hub import Hub, UnknownRepo, check_repo_id
from merging.recipe import Recipe, all_models
from space.viewer import Viewer

__all__ = ["check_card", "check_target", "suggested_name"]

MAX_NAME = 96  # the Hub's limit


def suggested_name(recipe: Recipe) -> str:
    """The words of the merged models' names, none twice, and the method: pocket-reverse-add-ties."""
    refs = [ref for ref in all_models(recipe) if ref != recipe.base] or all_models(recipe)
    models = [ref.path.rpartition("/")[2] for ref in refs]
    words = dict.fromkeys(word for name in models for word in re.split(r"[^A-Za-z0-9.]+", name) if word.strip("."))
    method = recipe.method.replace("_", "-")
    return "-".join(words)[: MAX_NAME - len(method) - 1].strip("-.") + f"-{method}"


def check_target(repo_id: str, viewer: Viewer, hub: Hub) -> None:
    """Raise MergeError unless this viewer may make this repo: named well, theirs or their organisation's, and new."""
    check_repo_id(repo_id)
    owner, slash, _ = repo_id.partition("/")
    account = viewer.account
    if account is None:
        raise MergeError("Sign in to publish.")
    if not slash:
        raise MergeError(f"{repo_id!r} has no owner. Write {account.name}/{repo_id}.")
    if owner not in (account.name, *account.orgs):
        allowed = ", ".join((account.name, *account.orgs))
        raise MergeError(f"You cannot publish under {owner}. You may publish under {allowed}.")
    if exists(hub, repo_id):
        raise MergeError(f"{repo_id} exists already, and is not overwritten. Choose another name.")


def exists(hub: Hub, repo_id: str) -> bool:
    try:
        hub.client.ask(repo_id, lambda: hub.client.api.model_info(repo_id))
    except UnknownRepo:
        return False
    return True
