"""The command line: `python -m merging check | diagnose | merge | verify | methods`."""

import argparse
import gc
import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from merging.arguments import fraction, natural, positive, size
from merging.command import (
    BLOCKED,
    FAILED,
    FINE,
    STOPPED,
    UNUSABLE,
    HubWhenNeeded,
    Unusable,
    check_allowed,
    collect_from_now_on,
    open_models,
    open_one,
    read_recipe,
    refuse_blocked,
    stop_when_told,
)
from merging.errors import Kept, MergeError
from merging.home import home_folder

if TYPE_CHECKING:  # what needs torch is imported where it is used, so that --help and a typing mistake answer at once
    from merging.checkpoint import Checkpoint
    from merging.compatibility import Check
    from merging.engine import Options
    from merging.hub import Delivery, Hub
    from merging.progress import Progress
    from merging.recipe import ModelRef, Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    given = make_parser().parse_args(arguments)
    stop_when_told()
    gc.disable()  # what starting and checking make stays: to look through it again and again is a third of their time
    try:
        return int(given.run(given))
    except MergeError as e:
        sys.stderr.write(f"{e}\n")
        return UNUSABLE if isinstance(e, Unusable) else FAILED
    except KeyboardInterrupt as stop:
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"\nStopped. {str(stop) or 'Nothing was left behind.'}\n")
        return STOPPED
    finally:
        collect_from_now_on()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m merging", description="Merge fine-tuned language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_check(commands.add_parser("check", help="say whether the models of a recipe belong together, and the cost"))
    add_diagnose(commands.add_parser("diagnose", help="compare what the models of a recipe changed, number by number"))
    add_merge(commands.add_parser("merge", help="check a recipe, and merge its models into a folder or a Hub repo"))
    add_verify(commands.add_parser("verify", help="read a published merge again, and compare it with its report"))
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


def add_diagnose(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit status: 0 done, 1 it cannot be done, 2 unusable recipe, 130 stopped."
    add = parser.add_argument
    add("recipe", type=Path, help="a YAML file in mergekit's language")
    add("--json", action="store_true", help="for programs")
    add("--tensor", metavar="NAME", help="only how the changes of this tensor are spread, before the method and after "
        "it, from up to a million of its entries")  # fmt: skip
    add("--csv", type=Path, metavar="FILE", help="write every number, of every tensor, into this file")
    add("--plots", type=Path, metavar="FOLDER", help="write pictures (PNG) into this folder")
    add("--sample", action="store_true", help="read at most 64 MB of each model, the same entries every time")
    add("--keep", type=fraction, metavar="0.2", help="the share of changes that trimming keeps (default: the recipe's "
        "density, or 0.2)")  # fmt: skip
    add("--memory", type=size, default=size("1GB"), help="for the blocks of tensors in work (default: 1GB)")
    add("--threads", type=positive, help="default: as many as there are cores")
    add_cache(parser)
    parser.set_defaults(run=run_diagnose)


def add_merge(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit status: 0 merged, 1 blocked or failed, 2 unusable recipe, 130 stopped."
    add = parser.add_argument
    add("recipe", type=Path, help="a YAML file in mergekit's language")
    add("out", type=Path, nargs="?", help="the folder to make; it must not exist")
    add("--publish", metavar="OWNER/NAME", help="push each shard to this new Hub repo when it is finished; without OUT "
        "nothing else is kept")  # fmt: skip
    add("--public", action="store_true", help="let everyone see the repo (default: it is private)")
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


def add_verify(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit status: 0 it is what its report says, 1 it is not, or cannot be read."
    parser.add_argument("repo", metavar="OWNER/NAME", help="a model that was published with Alloy")
    words = "read whole shards up to this share of the bytes, by chance, and headers of the others (default: 1, all)"
    parser.add_argument("--share", type=fraction, default=1.0, metavar="0.1", help=words)
    parser.set_defaults(run=run_verify)


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


def run_diagnose(given: argparse.Namespace) -> int:
    from merging import console
    from merging.diagnostics import diagnose, to_csv, to_json
    from merging.engine import Options

    with ExitStack() as opened:
        recipe = read_recipe(given.recipe)
        models = open_models(recipe, opened, cached=given.cache)
        collect_from_now_on()
        if given.tensor is not None:
            return show_tensor(given, recipe, models)
        options = Options(given.memory, threads=given.threads)
        with closing(diagnose(recipe, models, options, sample=given.sample, keep=given.keep)) as steps:
            found = console.follow_to_the_end(steps)
    if given.csv:
        console.write_text(given.csv, to_csv(found))
    if given.plots:
        console.write_plots(found, given.plots)
    with console.shown():
        if given.json:
            sys.stdout.write(to_json(found) + "\n")
        else:
            console.print_diagnosis(found)
    return FINE


def show_tensor(given: argparse.Namespace, recipe: "Recipe", models: "Mapping[ModelRef, Checkpoint]") -> int:
    from merging import console
    from merging.diagnostics.entries import histogram, read_entries
    from merging.diagnostics.export import histogram_csv

    found = histogram(read_entries(recipe, models, given.tensor), recipe.method)
    if given.csv:
        console.write_text(given.csv, histogram_csv(found))
    if given.plots:
        console.write_plot(found, given.plots)
    with console.shown():
        if given.json:
            sys.stdout.write(json.dumps(asdict(found), indent=2, ensure_ascii=False) + "\n")
        else:
            console.print_histogram(found)
    return FINE


def run_merge(given: argparse.Namespace) -> int:
    from merging import console
    from merging.compatibility import check
    from merging.engine import Options
    from merging.perseverance import persevere

    out = place_of(given)
    options = Options(given.memory, given.shard_size, given.threads, given.device)
    check_allowed(given.allow)
    with ExitStack() as opened:
        recipe = read_recipe(given.recipe)
        recipe = as_begun(recipe if given.seed is None else replace(recipe, seed=given.seed), out)
        hub = publishing_hub(given)
        models = open_models(recipe, opened, cached=given.cache)
        found = check(recipe, models, options, out=out, leaves="never" if given.out else "always")
        console.print_check(found, to_stderr=True)
        refuse_blocked(found, given.allow)
        collect_from_now_on()
        attempts = Attempts(given, recipe, models, options, found, out, hub)
        try:
            with closing(persevere(attempts.each())) as steps:
                console.follow(steps)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(attempts.left()) from None
    if given.out:
        sys.stderr.write(f"Merged into {given.out}.\n")
    if attempts.url:
        sys.stderr.write(f"Published at {attempts.url}.\n")
    return FINE


def as_begun(recipe: "Recipe", out: Path) -> "Recipe":
    """At the commits of an earlier run that was stopped: branches may have moved since."""
    from merging.naming import with_models
    from merging.recipe import all_models, to_yaml
    from merging.staging import asked_before

    commits = asked_before(out, to_yaml(recipe))
    if not commits:
        return recipe
    sys.stderr.write("An earlier run of this recipe was stopped: its models are read at the commits of that time.\n")
    return with_models(recipe, {r: replace(r, revision=commits.get(str(r), r.revision)) for r in all_models(recipe)})


def place_of(given: argparse.Namespace) -> Path:
    """The folder to make, or the one beside which shards wait for their way to the Hub."""
    from merging.writer import check_place

    if given.public and not given.publish:
        raise Unusable("--public says who may see a published repo. Say which with --publish owner/name.")
    if given.out:
        check_place(given.out)
        return Path(given.out)
    if not given.publish:
        raise Unusable("Say where the merge goes: a folder, or --publish owner/name.")
    folder = home_folder() / "publishing"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "merge"


def publishing_hub(given: argparse.Namespace) -> "Hub | None":
    """The Hub of the person at this machine, who may publish there; None where nothing is published."""
    if not given.publish:
        return None
    from merging.hub import Hub, local_token

    hub = Hub(local_token())
    hub.check_owner(given.publish)
    return hub


@dataclass
class Attempts:
    """One merge, as often as faults that pass make it necessary."""

    given: argparse.Namespace
    recipe: "Recipe"
    models: "dict[ModelRef, Checkpoint]"
    options: "Options"
    found: "Check"
    out: Path
    hub: "Hub | None"
    delivery: "Delivery | None" = None
    kept: bool = False  # what was finished, by the last attempt

    def left(self) -> str:
        """What a stop leaves, in words; empty where that is nothing."""
        if self.kept:
            return "What was finished is kept: the same command goes on from there."
        return self.delivery.left if self.delivery else ""

    @property
    def url(self) -> str:
        return self.delivery.url if self.delivery else ""

    def each(self) -> "Iterator[Generator[Progress, None, None]]":
        yield self.merge(self.models)
        while True:
            yield self.again()

    def again(self) -> "Generator[Progress, None, None]":
        """With the models opened anew: of the old ones nothing more can be read. The commits stay the same."""
        from merging.naming import commit_of

        pins = {ref: commit_of(ref, model) or ref for ref, model in self.models.items()}
        with ExitStack() as opened:
            models = {ref: open_one(pin, HubWhenNeeded(self.given.cache), opened) for ref, pin in pins.items()}
            yield from self.merge(models)

    def merge(self, models: "dict[ModelRef, Checkpoint]") -> "Generator[Progress, None, None]":
        from merging.engine import merge

        if self.hub:
            message = f"Merge with Alloy ({self.recipe.method})"
            keeps = self.given.out is not None
            self.delivery = self.hub.deliver(
                self.given.publish, private=not self.given.public, message=message, keeps_files=keeps
            )
        self.kept = False
        try:
            yield from merge(
                self.recipe, models, self.out, self.options, findings=self.found.findings, delivery=self.delivery
            )
        except Kept:
            self.kept = True
            raise


def run_verify(given: argparse.Namespace) -> int:
    from merging import console
    from merging.hub import Hub, local_token, verify
    from merging.recipe import ModelRef

    collect_from_now_on()
    with closing(Hub(local_token()).open_repo(ModelRef(given.repo))) as repo:
        result = console.follow_verification(verify(repo, share=given.share))
    with console.shown():
        console.print_verification(result)
    if result.faults:
        raise MergeError(f"{given.repo} is not what its report says.")
    sys.stderr.write(f"{given.repo} is what its report says: {result.whole} of {result.of} shards read whole, "
                     f"{result.read_bytes:,} bytes.\n")  # fmt: skip
    return FINE


if __name__ == "__main__":
    sys.exit(main())
