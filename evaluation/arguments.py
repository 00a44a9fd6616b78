"""What can be asked of `python -m evaluation`, command by command."""

import argparse
from pathlib import Path

from merging.arguments import natural, positive, size

SCORES = ("nll", "perplexity", "exact", "accuracy", "ece")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description="Score models and merges on a held-out set."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_score(commands.add_parser("score", help="score models and merges on a set, side by side"))
    add_soup(commands.add_parser("soup", help="the mean of those models that make it better, chosen one by one"))
    add_search(commands.add_parser("search", help="look for the best values of a recipe"))
    add_path(commands.add_parser("path", help="the loss on the straight line between two models"))
    add_harness(commands.add_parser("harness", help="tasks of lm-evaluation-harness by name, where it is installed"))
    for command in commands.choices.values():
        command.description = "Exit status: 0 done, 1 blocked or failed, 2 unusable recipe, 130 stopped."
    return parser


def add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, help="JSON lines with prompt and completion, or messages")
    parser.add_argument(
        "subjects", nargs="+", metavar="RECIPE_OR_MODEL", help="a YAML file, a folder or org/name[@revision]"
    )
    parser.add_argument("--compare", action="store_true", help="beside each recipe its parents, their uniform soup and "
                        "(of up to 8) their ensemble")  # fmt: skip
    parser.add_argument("--card", type=Path, metavar="FOLDER", help="put the table into the card of this merge")
    add_common(parser)
    parser.set_defaults(command="score", left="What was scored is kept.")


def add_soup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, help="JSON lines with prompt and completion, or messages")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a folder or org/name[@revision]; 2 to 100 of them")
    parser.add_argument(
        "--last", type=positive, metavar="N", help="the last N revisions of the one model that is named, 2 to 100"
    )
    parser.add_argument("--out", type=Path, metavar="RECIPE", help="write the soup as a recipe to this file")
    add_choice(parser)
    add_common(parser)
    parser.set_defaults(command="soup", left="What was scored is kept: the same command is soon there again.")


def add_search(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("set", type=Path, help="JSON lines with prompt and completion, or messages")
    add("recipe", type=Path, help="a YAML file in mergekit's language")
    add("--sampler", choices=("grid", "tpe", "cma-es"), default="tpe", help="how to look (default: tpe)")
    add("--trials", type=positive, default=50, help="at most, earlier ones included (default: 50)")
    add("--minutes", type=minutes, default=float("inf"), help="at most")
    add("--parameter", default="", help="what to search (default: the weights, or what the method has for an amount)")
    add("--groups", default="", metavar="attention,mlp", help="a value of its own for each of these layer groups")
    add("--low", type=float, default=0.0, help="default: 0")
    add("--high", type=float, default=1.2, help="default: 1.2")
    add("--steps", type=positive, default=5, help="of a grid, for each value (default: 5)")
    add("--seed", type=natural, default=0, help="of the sampler")
    add("--trials-file", type=Path, metavar="FILE", help="where trials are kept (default: in ALLOY_HOME)")
    add("--out", type=Path, metavar="RECIPE", help="write the recipe with the best values to this file")
    add_choice(parser)
    add_common(parser)
    parser.set_defaults(command="search", left="What was tried is kept: the same command goes on from there.")


def add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, help="JSON lines with prompt and completion, or messages")
    parser.add_argument("first", metavar="MODEL", help="where the path begins, such as the base")
    parser.add_argument("second", metavar="MODEL", help="where it ends")
    parser.add_argument("--points", type=positive, default=7, help="both ends included (default: 7)")
    add_common(parser)
    parser.set_defaults(command="path", left="What was scored is kept: the same command is soon there again.")


def add_harness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", metavar="TASK,TASK", help="as lm-evaluation-harness calls them")
    parser.add_argument("subjects", nargs="+", metavar="RECIPE_OR_MODEL", help="a YAML file, a folder or owner/name")
    parser.add_argument("--limit", type=positive, help="examples of each task, at most")
    parser.add_argument("--include", metavar="FOLDER", help="with tasks of one's own")
    add_making(parser)
    parser.set_defaults(command="harness", left="Nothing was left behind.")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """By what something is chosen, and where it is reported."""
    parser.add_argument("--score", choices=SCORES, default="nll", help="what is to be good (default: nll)")
    parser.add_argument("--worst", action="store_true", help="of the worst task, instead of the mean over the tasks")
    parser.add_argument("--report", type=Path, metavar="SET", help="report on this set (default: half of the first, "
                        "which is then not chosen by)")  # fmt: skip


def add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="for programs")
    add("--task", action="append", default=[], help="only this task of the set; may be given again")
    add("--anew", action="store_true", help="use no scores that were kept")
    add_making(parser)


def add_making(parser: argparse.ArgumentParser) -> None:
    """How what is scored is made."""
    add = parser.add_argument
    add("--memory", type=size, help="for models and merges (default: some more than half of what is free)")
    add("--threads", type=positive, help="for merging (default: as many as there are cores)")
    add(
        "--streaming",
        action="store_true",
        help="write every merge to disk, and leave there what does not fit in memory",
    )
    add("--scratch", type=Path, help="where merges on disk go (default: where temporary files are)")
    add("--allow", action="append", default=[], metavar="FINDING", help="go on although this finding blocks")
    add("--cache", action="store_true", help="read files in place that the Hugging Face cache here holds already")


def minutes(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not found > 0:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of minutes above 0")
    return found
