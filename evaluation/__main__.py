"""The command line: `python -m evaluation score | soup | search | path | harness`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.arguments import make_parser
from merging.command import (
    FAILED,
    FINE,
    STOPPED,
    UNUSABLE,
    HubWhenNeeded,
    Unusable,
    check_allowed,
    open_one,
    read_recipe,
    refuse_blocked,
    stop_when_told,
)
from merging.errors import MergeError

if TYPE_CHECKING:  # what takes long to import is imported where it is used
    from evaluation.bench import Bench
    from evaluation.held_out import HeldOut, Parts
    from evaluation.objective import Objective
    from evaluation.scores import Table
    from evaluation.subject import Subject
    from merging.checkpoint import Checkpoint
    from merging.compatibility import Check
    from merging.recipe import ModelRef, Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    given = make_parser().parse_args(arguments)
    stop_when_told()
    try:
        return RUNS[given.command](given)
    except MergeError as e:
        sys.stderr.write(f"{e}\n")
        return UNUSABLE if isinstance(e, Unusable) else FAILED
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"\nStopped. {given.left}\n")
        return STOPPED


def run_score(given: argparse.Namespace) -> int:
    from evaluation.subject import compared

    held_out = read_set(given.set, given)
    with ExitStack() as opened:
        subjects = [subject_of(text) for text in given.subjects]
        if given.compare:
            asked = [more for one in subjects for more in (compared(one) if one.kind == "merge" else [one])]
            subjects = list({(one.kind, one.label): one for one in asked}.values())
        bench = opened.enter_context(bench_for([one.recipe for one in subjects], given))
        table = scored(subjects, held_out, bench)
    show_table(table, given)
    if given.card:
        put_into_card(given.card, table)
    return FINE


def run_soup(given: argparse.Namespace) -> int:
    from evaluation import console
    from evaluation.soup import greedy_soup
    from evaluation.subject import Subject, beside, soup_of
    from merging.recipe import to_yaml

    parts, objective = parts_of(given), objective_of(given)
    models = candidates(given)
    with bench_for([soup_of(models)], given) as bench:
        steps = greedy_soup(models, parts.validation, bench.marks, objective)
        soup = console.follow(steps, console.tell_tried)
        table = scored([Subject("greedy soup", soup.recipe), *beside(soup_of(models))], parts.report, bench)
    if given.json:
        log = [asdict(one) | {"model": str(one.model), "members": list(map(str, one.members))} for one in soup.tried]
        tree = {"objective": str(objective), "value": soup.value, "uniform": soup.uniform, "tried": log}
        show_json(tree | {"recipe": to_yaml(soup.recipe)}, table)
    else:
        console.write(f"{len(soup.members)} of {len(models)} are in the soup; {objective} {soup.value:.4g} on what it "
                      f"was chosen by, the soup of all {soup.uniform:.4g}.\n{to_yaml(soup.recipe)}")  # fmt: skip
        console.print_table(table)
    write_recipe(soup.recipe, given.out)
    return FINE


def run_search(given: argparse.Namespace) -> int:
    from evaluation import console
    from evaluation.cache import home
    from evaluation.dials import dials_of
    from evaluation.search import Budget, Search
    from evaluation.search import run_search as run
    from evaluation.subject import Subject, beside
    from merging.recipe import to_yaml

    parts, objective, recipe = parts_of(given), objective_of(given), read_recipe(given.recipe)
    groups = [group.strip() for group in given.groups.split(",") if group.strip()]
    dials = dials_of(recipe, given.parameter, groups, given.low, given.high)
    search = Search(recipe, dials, objective, given.sampler, given.steps, given.seed)
    budget, kept = Budget(given.trials, 60 * given.minutes), given.trials_file or home() / "trials.sqlite"
    with bench_for([recipe], given) as bench:
        steps = run(search, parts.validation, bench.marks, kept, budget)
        found = console.follow(steps, console.teller_of_trials([dial.name for dial in dials]))
        best, start = Subject("best found", found.recipe), Subject("the recipe as given", recipe)
        table = scored([best, start, *beside(recipe)], parts.report, bench)
    if given.json:
        trials = [asdict(one) for one in found.trials]
        tree = {"objective": str(objective), "dials": [dial.name for dial in dials], "trials": trials}
        show_json(tree | {"best": found.best.number, "recipe": to_yaml(found.recipe)}, table)
    else:
        console.print_found(found)
        console.print_table(table)
    write_recipe(found.recipe, given.out)
    return FINE


def run_path(given: argparse.Namespace) -> int:
    from evaluation import console
    from evaluation.path import between, walk
    from evaluation.scores import table_of, table_tree
    from merging.findings import KINDS

    held_out = read_set(given.set, given)
    first, second = model_of(given.first), model_of(given.second)
    given.allow = list(KINDS)  # whether they belong together is what one wants to see
    with bench_for([between(first, second, 0.5)], given) as bench:
        path = console.follow(walk(first, second, held_out, bench.marks, given.points), console.tell_point)
    if given.json:
        barriers = [asdict(one) | {"is_clear": one.is_clear} for one in path.barriers]
        console.write_json({"shares": path.shares, "barriers": barriers, **table_tree(table_of(held_out, path.points))})
    else:
        console.print_path(path)
    return FINE


def run_harness(given: argparse.Namespace) -> int:
    from evaluation import console
    from evaluation.harness import refuse_without_harness, run_tasks

    refuse_without_harness()
    subjects, tasks = [subject_of(text) for text in given.subjects], given.tasks.split(",")
    given.anew, shown = True, console.new_table("Model", "Task", "Metric", "Value", "Standard error")
    with bench_for([one.recipe for one in subjects], given) as bench:
        for one in subjects:
            with bench.single(one) as reader:
                for score in run_tasks(reader, tasks, limit=given.limit, include=given.include):
                    error = "" if score.error is None else f"{score.error:.4f}"
                    shown.add_row(one.label, score.task, score.metric, f"{score.value:.4f}", error)
    console.print_whole(shown)
    return FINE


def read_set(file: Path, given: argparse.Namespace) -> "HeldOut":
    from evaluation.held_out import only, read_held_out

    return only(read_held_out(file), given.task)


def parts_of(given: argparse.Namespace) -> "Parts":
    from evaluation.held_out import apart, split

    whole = read_set(given.set, given)
    return apart(whole, read_set(given.report, given)) if given.report else split(whole)


def objective_of(given: argparse.Namespace) -> "Objective":
    from evaluation.objective import Objective

    return Objective(given.score, "worst" if given.worst else "mean")


def subject_of(text: str) -> "Subject":
    from evaluation.subject import Subject, model_alone

    if Path(text).suffix in (".yaml", ".yml") and not Path(text).is_dir():
        return Subject(text, read_recipe(Path(text)))
    return model_alone(model_of(text))


def model_of(text: str) -> "ModelRef":
    from merging.model_ref import read_model

    return read_model(text, "A model")


def candidates(given: argparse.Namespace) -> "list[ModelRef]":
    """The models that are named, or revisions of the one that is."""
    from merging.hub import Hub, local_token
    from merging.recipe import MAX_MODELS, ModelRef

    models = [model_of(text) for text in given.models]
    if not given.last:
        return models
    if len(models) != 1:
        raise Unusable("--last takes the last revisions of one model. Name only that one.")
    if not 2 <= given.last <= MAX_MODELS:
        raise Unusable(f"--last {given.last}: a soup is chosen from 2 to {MAX_MODELS} models.")
    found = Hub(local_token()).revisions(models[0], given.last)
    return [ModelRef(models[0].path, sha) for sha in found]


@contextmanager
def bench_for(recipes: "Sequence[Recipe]", given: argparse.Namespace) -> "Iterator[Bench]":
    """What all of these need, checked. Where there is one model alone, nothing has to belong together."""
    from evaluation.bench import Bench
    from evaluation.cache import Cache, home
    from merging.compatibility import check
    from merging.recipe import all_models

    check_allowed(given.allow)
    with ExitStack() as opened:
        hub, models = HubWhenNeeded(given.cache), {}
        for ref in dict.fromkeys(ref for recipe in recipes for ref in all_models(recipe)):
            models[ref] = opened_or_unusable(ref, hub, opened)
        for recipe in recipes:
            if len(all_models(recipe)) > 1:
                refuse_with_reasons(check(recipe, models), given.allow)
        memory = {"memory_bytes": given.memory} if given.memory else {}
        cache = None if given.anew else Cache(home() / "scores.sqlite")
        bench = Bench(models, cache, threads=given.threads, streaming=given.streaming, scratch=given.scratch, **memory)
        yield opened.enter_context(closing(bench))


def refuse_with_reasons(found: "Check", allowed: Sequence[str]) -> None:
    """Show what was found where that stops it."""
    from merging.console import print_check

    try:
        refuse_blocked(found, allowed)
    except MergeError:
        print_check(found, to_stderr=True)
        raise


def opened_or_unusable(ref: "ModelRef", hub: HubWhenNeeded, opened: ExitStack) -> "Checkpoint":
    try:
        return open_one(ref, hub, opened)
    except MergeError as e:
        raise Unusable(str(e)) from e


def scored(subjects: "Sequence[Subject]", held_out: "HeldOut", bench: "Bench") -> "Table":
    from evaluation import console
    from evaluation.scores import scores_of, table_of

    found = [scores_of(one.label, console.follow(bench.marks(one, held_out))) for one in subjects]
    return table_of(held_out, found)


def show_table(table: "Table", given: argparse.Namespace) -> None:
    from evaluation import console
    from evaluation.scores import table_tree
    from merging.console import shown

    with shown():
        if given.json:
            console.write_json(table_tree(table))
        else:
            console.print_table(table)


def show_json(tree: dict[str, Any], table: "Table") -> None:
    from evaluation import console
    from evaluation.scores import table_tree
    from merging.console import shown

    with shown():
        console.write_json(tree | {"report": table_tree(table)})


def write_recipe(recipe: "Recipe", out: Path | None) -> None:
    from merging.recipe import to_yaml

    if out is None:
        return
    try:
        out.write_text(to_yaml(recipe), encoding="utf-8")
    except OSError as e:
        raise MergeError(f"The recipe {out} cannot be written: {e.strerror or e}.") from None
    sys.stderr.write(f"Written to {out}.\n")


def put_into_card(folder: Path, table: "Table") -> None:
    """Into README.md of a merged folder, in the place of what stood there before."""
    from evaluation.scores import for_card
    from merging.card_check import check_card
    from merging.card_scores import with_scores
    from merging.report import CARD

    file = folder / CARD
    try:
        card = with_scores(file.read_text(encoding="utf-8"), for_card(table))
        check_card(card)
        file.write_text(card, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise MergeError(f"The card {file} cannot be changed: {e}. Give the folder of a merge.") from None
    sys.stderr.write(f"The scores are in {file}.\n")


RUNS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "score": run_score, "soup": run_soup, "search": run_search, "path": run_path, "harness": run_harness,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
