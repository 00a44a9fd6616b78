"""What all commands share: how they end, when they are stopped, and the recipe and models that they are given."""

import gc
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from merging.errors import MergeError

if TYPE_CHECKING:  # what needs torch is imported where it is used, so that --help and a typing mistake answer at once
    from merging.checkpoint import Checkpoint
    from merging.compatibility import Check
    from merging.hub import Hub
    from merging.recipe import ModelRef, Recipe

FINE, BLOCKED, UNUSABLE, STOPPED = 0, 1, 2, 130
FAILED = BLOCKED


class Unusable(MergeError):
    """The recipe cannot be used, or its models cannot be opened."""


def collect_from_now_on() -> None:
    """Look for garbage again, but not among what is there already."""
    gc.freeze()
    gc.enable()


def stop_when_told() -> None:
    """To be told to stop, or to lose the terminal, is like Ctrl-C; but what `nohup` has switched off stays off."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def check_allowed(allowed: Sequence[str]) -> None:
    from merging.findings import KINDS
    from merging.settings import nearest

    for finding in allowed:
        if finding not in KINDS:
            raise Unusable(f"--allow {finding}: there is no such finding. {nearest(finding, KINDS)}")


def refuse_blocked(found: "Check", allowed: Sequence[str]) -> None:
    """Stop at findings that block, but for those that were allowed by name and leave something to compute."""
    blocking = [f for f in found.findings if f.level == "block" and not (f.computable and f.id in allowed)]
    if not blocking:
        return
    way_out = f"To merge all the same, add {' '.join(f'--allow {f.id}' for f in blocking)}."
    if final := [f.id for f in blocking if not f.computable]:
        way_out = f"With {', '.join(final)} nothing can be computed: see above what to do."
    raise MergeError(f"The merge is blocked by {', '.join(f.id for f in blocking)}. {way_out}")


def read_recipe(path: Path) -> "Recipe":
    from merging.recipe import parse_recipe

    try:
        return parse_recipe(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise Unusable(f"The recipe {path} cannot be read: {e.strerror or e}.") from None
    except UnicodeDecodeError:
        raise Unusable(f"The recipe {path} is not text in UTF-8.") from None
    except MergeError as e:
        raise Unusable(f"{path}: {e}") from None


def open_models(recipe: "Recipe", opened: ExitStack, *, cached: bool) -> "dict[ModelRef, Checkpoint]":
    """Every model of the recipe, closed when `opened` is."""
    from merging.recipe import all_models

    found, hub = {}, HubWhenNeeded(cached)
    for ref in all_models(recipe):
        try:
            found[ref] = open_one(ref, hub, opened)
        except MergeError as e:
            raise Unusable(str(e)) from e
    return found


def open_one(ref: "ModelRef", hub: "HubWhenNeeded", opened: ExitStack) -> "Checkpoint":
    from merging.opening import is_folder, open_folder

    found = open_folder(ref) if is_folder(ref) else hub.open(ref)
    opened.callback(found.source.close)
    return found


class HubWhenNeeded:
    """Imports the Hub's client only for what is not a folder."""

    def __init__(self, cached: bool) -> None:
        self.cached = cached
        self.hub: Hub | None = None

    def open(self, ref: "ModelRef") -> "Checkpoint":
        from merging.opening import refuse_path

        refuse_path(ref)
        from merging.hub import Hub, local_token, open_model

        self.hub = self.hub or Hub(local_token(), cached=self.cached)
        return open_model(ref, self.hub)
