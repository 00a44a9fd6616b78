"""The command line: `python -m merging check | merge | methods`."""

import argparse
import json
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
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
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Unusable(MergeError):
    """The recipe cannot be used, or its models cannot be opened."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = make_parser().parse_args(arguments)
    stop_when_told()
    try:
        return int(given.run(given))
    except MergeError as e:
        sys.stderr.write(f"{e}\n")
        return UNUSABLE if isinstance(e, Unusable) else FAILED
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write("\nStopped. Nothing was left behind.\n")
        return STOPPED


def stop_when_told() -> None:
    """To be told to stop, or to lose the terminal, is like Ctrl-C; but what `nohup` has switched off stays off."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m merging", description="Merge fine-tuned language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_check(commands.add_parser("check", help="say whether the models of a recipe belong together, and the cost"))
    add_merge(commands.add_parser("merge", help="check a recipe, and merge its models into a folder"))
    methods = commands.add_parser("methods", help="list the merge methods and their parameters")
    methods.add_argument("--json", action="store_true", help="for programs")
    methods.set_defaults(run=run_methods)
    return parser


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit status: 0 fine (perhaps with warnings), 1 blocked, 2 unusable recipe."
    parser.add_argument("recipe", type=Path, help="a YAML file in mergekit's language")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_cache(parser)
    parser.set_defaults(run=run_check)


def add_merge(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit status: 0 merged, 1 blocked or failed, 2 unusable recipe, 130 stopped."
    add = parser.add_argument
    add("recipe", type=Path, help="a YAML file in mergekit's language")
    add("out", type=Path, help="the folder to make; it must not exist")
    add("--allow", action="append", default=[], metavar="FINDING", help="merge although this finding blocks")
    add("--memory", type=size, default=size("1GB"), help="for the blocks of tensors in work (default: 1GB)")
    add("--shard-size", type=size, default=size("5GB"), help="of one output file, at most (default: 5GB)")
    add("--threads", type=positive, help="default: as many as there are cores")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add("--seed", type=natural, help="for methods that choose at random, instead of the recipe's")
    add_cache(parser)
    parser.set_defaults(run=run_merge)


def add_cache(parser: argparse.ArgumentParser) -> None:
    words = "read files in place that the Hugging Face cache here holds already, instead of streaming them from the Hub"
    parser.add_argument("--cache", action="store_true", help=words)


def size(text: str) -> int:
    """Bytes from 500MB, 1.5GB or 2GiB."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?) ?([kmgt]?)(i?)b?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{short(text)} is not a size; write it like 500MB or 1.5GB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** POWERS[found[2]])


def natural(text: str, least: int = 0) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{short(text)} is not a whole number from {least} on")
    return int(text)


def short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def positive(text: str) -> int:
    return natural(text, least=1)


def run_methods(given: argparse.Namespace) -> int:
    from merging import console
    from merging.methods import METHODS

    with console.shown():
        console.print_methods(list(METHODS.values()), as_json=given.json)
    return FINE


def run_check(given: argparse.Namespace) -> int:
    from merging import console
    from merging.compatibility import check

    with ExitStack() as opened:
        recipe = read_recipe(given.recipe)
        found = check(recipe, open_models(recipe, opened, cached=given.cache))
    with console.shown():
        if given.json:
            sys.stdout.write(json.dumps(console.check_tree(found), indent=2, ensure_ascii=False) + "\n")
        else:
            console.print_check(found)
    return BLOCKED if found.blocked else FINE


def run_merge(given: argparse.Namespace) -> int:
    from merging import console
    from merging.compatibility import check
    from merging.engine import Options, merge
    from merging.writer import check_place

    check_place(given.out)
    options = Options(given.memory, given.shard_size, given.threads, given.device)
    check_allowed(given.allow)
    with ExitStack() as opened:
        recipe = read_recipe(given.recipe)
        recipe = recipe if given.seed is None else replace(recipe, seed=given.seed)
        models = open_models(recipe, opened, cached=given.cache)
        found = check(recipe, models, options, out=given.out)
        console.print_check(found, to_stderr=True)
        refuse_blocked(found, given.allow)
        progress = opened.enter_context(closing(merge(recipe, models, given.out, options, findings=found.findings)))
        console.follow(progress)
    sys.stderr.write(f"Merged into {given.out}.\n")
    return FINE


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
    from merging.opening import is_folder, open_folder
    from merging.recipe import all_models

    found, hub = {}, HubWhenNeeded(cached)
    for ref in all_models(recipe):
        try:
            found[ref] = open_folder(ref) if is_folder(ref) else hub.open(ref)
        except MergeError as e:
            raise Unusable(str(e)) from e
        opened.callback(found[ref].source.close)
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


if __name__ == "__main__":
    sys.exit(main())
