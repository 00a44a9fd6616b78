"""What a model's name in a recipe leads to: a folder here, or else a repo of the Hub."""

from pathlib import Path

from merging.checkpoint import Checkpoint, Folder, open_checkpoint
from merging.errors import MergeError
from merging.recipe import ModelRef


def is_folder(ref: ModelRef) -> bool:
    return Path(ref.path).is_dir()


def open_folder(ref: ModelRef) -> Checkpoint:
    if ref.revision:
        raise MergeError(
            f"{ref.path} is a folder here, and folders have no revisions. Leave out @{ref.revision}; or, to take the "
            "model from the Hub, start where there is no such folder."
        )
    return open_checkpoint(Folder(Path(ref.path)))


def refuse_path(ref: ModelRef) -> None:
    """A path is not a repo ID, so it is never sent to the Hub."""
    if ref.path.startswith(("/", ".", "~")):
        raise no_folder(ref)


def no_folder(ref: ModelRef, *, hub_is_used: bool = True) -> MergeError:
    other = ", or a Hub repo as owner/name." if hub_is_used else "; the Hub is not used here."
    return MergeError(f"There is no folder {ref.path}. Give the folder of a model{other}")
