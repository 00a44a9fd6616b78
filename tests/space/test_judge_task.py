"""What an evaluation makes of a question, with scores out of a few numbers: no model is read."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evaluation.held_out import parse_held_out
from evaluation.subject import ENSEMBLED, beside, soup_of
from merging.recipe import ModelRef, parse_recipe, settings_for
from space.judge import Ask
from space.judge_shelf import Shelf
from space.judge_task import RUNS, Sitting, Teller, named
from tests.evaluation.made_up import Fake, mark

SET = parse_held_out("\n".join(f"{task}: {n}\t{n}\t{task}" for task in ("add", "reverse") for n in range(8)), "set")
SHA = "@" + "a" * 40
TYPED = """
merge_method: task_arithmetic
base_model: o/base
models:
  - {model: o/x, parameters: {weight: 1.0}}
  - {model: o/y, parameters: {weight: 1.0}}
"""


@dataclass
class Quiet:
    """A report that nobody reads."""

    folder: Path
    secret: str | None = None
    told: list[int] = field(default_factory=list)

    def progress(self, done_bytes: int, total_bytes: int, detail: str = "") -> None:
        self.told.append(done_bytes)

    def check(self) -> None: ...

    def log(self, line: str) -> None: ...

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class Bench:
    marks: Any

    def in_memory(self, recipe: Any) -> None: ...


def worth(subject):
    """Of a merge: how far its weights lie from what is best; of all else, one and two."""
    if subject.kind != "merge" or subject.recipe.method == "linear":
        return [mark(1.0, "add"), mark(2.0, "reverse")]
    x, y = settings_for(subject.recipe, "w")["weight"]
    return [mark((x - 0.3) ** 2, "add"), mark((y - 0.8) ** 2, "reverse")]


def sat(tmp_path, what, text=TYPED, of=worth, **more):
    """The answer to a question, and the teller that told it."""
    typed = parse_recipe(text)
    exact = parse_recipe(text.replace("o/base", f"o/base{SHA}").replace("o/x", f"o/x{SHA}").replace("o/y", f"o/y{SHA}"))
    teller = Teller(Quiet(tmp_path), {"what": what})
    names = dict(zip(named(exact), named(typed), strict=True))
    shelf = Shelf(tmp_path, "ada")
    shelf.touch()
    ask = Ask(what, **more)
    bench: Any = Bench(Fake(of))
    RUNS[what](Sitting(ask, SET, exact, typed, ("o/x", "o/y"), bench, teller, shelf, names))
    return teller.answer, teller


def labels(found):
    return [row["label"] for row in found["rows"]]


BESIDE = ["o/base", "o/x", "o/y", "Uniform soup", "Ensemble"]


def test_all_that_a_search_and_a_soup_are_compared_with(tmp_path):
    answer, teller = sat(tmp_path, "search", trials=3)
    assert labels(answer["report"]) == ["Best found", "The recipe as it was", *BESIDE]
    assert teller.done == teller.parts == 3 + 7
    soup = (
        "merge_method: linear\nmodels: [{model: o/x, parameters: {weight: 1}}, {model: o/y, parameters: {weight: 1}}]"
    )
    answer, teller = sat(tmp_path, "soup", soup)
    assert labels(answer["report"]) == ["Greedy soup", *BESIDE[1:]]
    assert [row["colour"] for row in answer["report"]["rows"]] == ["merged", "c1", "c2", "other", "ensemble"]
    assert teller.done == teller.parts == 4 + 5
    answer, teller = sat(tmp_path, "score")
    assert labels(answer["scores"]) == ["The merge", *BESIDE] and teller.done == teller.parts == 6


def test_a_search_of_another_number_than_the_weights(tmp_path):
    def of(subject):
        density = (
            settings_for(subject.recipe, "w").get("density", (0.5,)) if subject.recipe.method == "ties" else (1.0,)
        )
        return [mark(density[0], "add"), mark(1.0, "reverse")]

    text = TYPED.replace("task_arithmetic", "ties")
    answer, _ = sat(tmp_path, "search", text, of, trials=3, sampler="grid", parameter="density", high=1.0)
    assert answer["dials"] == ["density of o/x", "density of o/y"] and len(answer["trials"]) == 3
    found = parse_recipe(answer["recipe"])
    assert settings_for(found, "w")["density"] == tuple(answer["trials"][answer["best"]]["values"])
    assert settings_for(found, "w")["weight"] == (1.0, 1.0)


@pytest.mark.parametrize(("count", "last"), [(1, "o/m0"), (ENSEMBLED, "ensemble"), (ENSEMBLED + 1, "uniform soup")])
def test_of_many_models_no_ensemble_is_made(count, last):
    assert beside(soup_of([ModelRef(f"o/m{i}") for i in range(count)]))[-1].label == last
