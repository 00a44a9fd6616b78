"""What a method does to a few numbers, step by step: the last one is what the method itself computes, to the bit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from merging.diagnostics.patch import Planned
from merging.errors import MergeError
from merging.methods import METHODS
from merging.methods.arrays import Array, Measured
from merging.methods.chance import Chance
from merging.methods.parts import keep_between, keep_by_chance
from merging.methods.slerp import NEARLY_PARALLEL
from merging.methods.spec import Block, Settings
from merging.methods.task_vectors import Factors, scaled, shares
from merging.settings import read_parameters, resolve
from merging.totals import measure_alone

Flags: TypeAlias = NDArray[np.bool_]

TENSOR = "walkthrough"  # the name by which random choices are keyed
LARGEST = 4096  # entries, at most
MOST = 8  # models


@dataclass(frozen=True, slots=True)
class Line:
    """A row of numbers, one for each entry."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, in a sentence with the numbers that matter, and what comes of it."""

    title: str
    sentence: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Walkthrough:
    method: str
    steps: tuple[Step, ...]

    @property
    def result(self) -> tuple[float, ...]:
        """The merged numbers."""
        return self.steps[-1].lines[-1].values


@dataclass(frozen=True, slots=True)
class Given:
    """Numbers of a base and of models, as float32, and the settings of the method."""

    planned: Planned
    wide: Array  # [1 + n, m], the base first
    names: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        return self.planned.settings

    @property
    def block(self) -> Block:
        chance = Chance(self.planned.seed, TENSOR, 0)
        return Block(self.wide, True, chance, max(1, self.wide.shape[1]))

    @property
    def measured(self) -> Measured:
        return measure_alone(self.planned.method, self.block, (self.wide.shape[1],), self.settings)


def walk(
    method: str, base: Sequence[float], models: Sequence[Sequence[float]], parameters: Mapping[str, object],
    *, seed: int = 0, names: Sequence[str] = (),
) -> Walkthrough:  # fmt: skip
    """`parameters` are as in a recipe; a list has one value for each model. Raises MergeError in words."""
    if method not in WALKS:
        raise MergeError(f"{method} cannot be walked through; choose one of {', '.join(WALKS)}.")
    names = tuple(names) or tuple(f"model {i}" for i in range(1, len(models) + 1))
    wide = rows_of(base, models)
    planned = Planned(
        METHODS[method], settings_of(method, len(models), parameters), tuple(range(len(wide))), True, TENSOR, "element",
        seed,
    )  # fmt: skip
    given = Given(planned, wide, names)
    steps = [Step("The numbers", "An entry of the base, and the same entry of each fine-tune.",
                  lines(("base", *names), wide))]  # fmt: skip
    return Walkthrough(method, (*steps, *WALKS[method](given)))


def rows_of(base: Sequence[float], models: Sequence[Sequence[float]]) -> Array:
    if not 1 <= len(models) <= MOST:
        raise MergeError(f"{len(models)} models were given; a walkthrough takes 1 to {MOST}.")
    if not 1 <= len(base) <= LARGEST:
        raise MergeError(f"The base has {len(base)} numbers; a walkthrough takes 1 to {LARGEST:,}.")
    if wrong := [i for i, model in enumerate(models, 1) if len(model) != len(base)]:
        raise MergeError(
            f"The base has {len(base)} numbers, model {wrong[0]} has {len(models[wrong[0] - 1])}: give as many."
        )
    with np.errstate(over="ignore"):
        found: Array = np.array([base, *models], np.float64).astype(np.float32)
    if not np.isfinite(found).all():
        raise MergeError("A number is not finite, or larger than float32 holds. Give smaller numbers.")
    return found


def settings_of(method: str, models: int, parameters: Mapping[str, object]) -> Settings:
    """Checked as those of a recipe are."""
    declared, own = METHODS[method], {n: v for n, v in parameters.items() if isinstance(v, list | tuple)}
    if wrong := next((n for n, v in own.items() if len(v) != models), None):
        raise MergeError(f"{wrong} has {len(own[wrong])} values for {models} models: give one for each.")
    if declared.max_models is not None and models > declared.max_models:
        raise MergeError(f"{method} takes one model besides the base; {models} were given.")
    each = [read_parameters({n: v[i] for n, v in own.items()}, f"model {i + 1}", declared, per_model=True)
            for i in range(models)]  # fmt: skip
    shared = read_parameters({n: v for n, v in parameters.items() if n not in own}, "parameters", declared,
                             per_model=False)  # fmt: skip
    settings = resolve(declared, [("", one) for one in each], (shared,), TENSOR, 0.0)
    if fault := declared.fault(settings):
        raise MergeError(fault)
    return settings


def lines(labels: Sequence[str], rows: Array) -> tuple[Line, ...]:
    return tuple(Line(label, tuple(map(float, row))) for label, row in zip(labels, rows, strict=True))


def line(label: str, row: Array) -> tuple[Line, ...]:
    return lines((label,), row[None])


# The methods. Every step is rounded to float32, in the order in which the method does it.


def task_vectors(given: Given) -> Step:
    return Step("Task vectors", "What each fine-tune changed: its number minus that of the base.",
                lines(given.names, given.block.deltas))  # fmt: skip


def task_arithmetic(given: Given) -> Iterator[Step]:
    yield task_vectors(given)
    weights = weights_of(given, (1.0,) * len(given.names))
    yield from weigh_and_add(given, given.block.deltas, weights)


def weights_of(given: Given, factors: tuple[float, ...]) -> Array:
    s = given.settings
    return np.array(shares(s["weight"], factors, normalize=s["normalize"], lambda_=s["lambda_"]), np.float32)


def weigh_and_add(given: Given, changes: Array, weights: Array, said: Array | None = None) -> Iterator[Step]:
    """`said` is what is told of the weights, where these hold more than lambdas."""
    weighed = changes * weights[:, None]
    lambdas = weights if said is None else said
    told = ", ".join(f"{name} by {w:.3g}" for name, w in zip(given.names, lambdas, strict=True))
    yield Step("Times lambda", f"The changes of {told}; below 0 takes a skill away.", lines(given.names, weighed))
    total = added(weighed)
    yield Step("The sum", "What goes the same way adds up, what goes against each other cancels.", line("sum", total))
    yield onto_base(given, total)


def added(rows: Array) -> Array:
    total: Array = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def onto_base(given: Given, change: Array) -> Step:
    return Step("Onto the base", "The merged number is the base's and the merged change.",
                line("merged", change + given.wide[0]))  # fmt: skip


def ties(given: Given) -> Iterator[Step]:
    s, deltas = given.settings, given.block.deltas
    yield task_vectors(given)
    bands, factors = given.measured
    kept = np.asarray(keep_between(deltas, bands))
    yield Step("Trim", trimming(given, [low for low, _ in bands]), lines(given.names, kept))
    votes = np.array(scaled(s["weight"], factors), np.float32)
    ballot = added(kept * votes[:, None])
    sign = np.where(ballot >= 0, np.float32(1), np.float32(-1))
    yield Step("Elect a sign", "The sign of the weighted sum wins, + where that is zero.",
               (*line("weighted sum", ballot), *line("elected", sign)))  # fmt: skip
    agreeing = kept * votes[:, None] * sign
    agrees = agreeing > 0
    yield Step("Keep those that agree", losers(given, kept, agrees), lines(given.names, np.where(agrees, kept, 0)))
    total = added(np.where(agrees, agreeing, np.float32(0))) * sign
    yield from divided(given, total, agrees)


def trimming(given: Given, cuts: Sequence[float]) -> str:
    told = "; ".join(
        f"of {name} {density:.0%}, from {cut:.3g} on" if np.isfinite(cut) else f"of {name} nothing"
        for name, density, cut in zip(given.names, given.settings["density"], cuts, strict=True)
    )
    return f"Only the largest changes are kept: {told}."


def losers(given: Given, kept: Array, agrees: Flags) -> str:
    lost = int(((kept != 0) & ~agrees).sum())
    return f"{lost} of {int((kept != 0).sum())} kept changes go against the elected sign, and are dropped."


def divided(given: Given, total: Array, agrees: Flags) -> Iterator[Step]:
    s = given.settings
    if s["normalize"]:
        weights: Array = np.array(s["weight"], np.float32)[:, None]
        voters = added(np.where(agrees, weights, np.float32(0)))
        total = np.divide(total, np.where(voters != 0, voters, np.float32(1)), dtype=np.float32)
        yield Step("Average", "The sum of those that agree, divided by their weights: few voters lose nothing.",
                   (*line("weights that agree", voters), *line("mean", total)))  # fmt: skip
    else:
        yield Step("Sum", "The weighted sum of those that agree.", line("sum", total))
    change = total * np.float32(s["lambda_"])
    if s["lambda_"] != 1:
        yield Step("Times lambda", f"The merged change by {s['lambda_']:.3g}.", line("change", change))
    yield onto_base(given, change)


def dare_linear(given: Given) -> Iterator[Step]:
    s, block = given.settings, given.block
    yield task_vectors(given)
    kept = np.asarray(keep_by_chance(block.deltas, s["density"], block.chance))
    told = ", ".join(f"{int((row != 0).sum())} of {row.size} of {n}" for n, row in zip(given.names, kept, strict=True))
    yield Step("Drop at random", f"Each change is kept with a chance of its density: here {told}.",
               lines(given.names, kept))  # fmt: skip
    factors: Factors = given.measured
    if s["rescale"]:
        told = ", ".join(f"{n} by {f:.3g}" for n, f in zip(given.names, factors, strict=True))
        rescaled = kept * np.array(factors, np.float32)[:, None]
        yield Step("Scale up the rest", f"So that the magnitudes sum to what they did: {told}.",
                   lines(given.names, rescaled))  # fmt: skip
    lambdas = weights_of(given, (1.0,) * len(given.names))
    yield from weigh_and_add(given, kept, weights_of(given, factors), lambdas)  # in one step, as the method does


def slerp(given: Given) -> Iterator[Step]:
    base, model = given.wide[0], given.wide[1]
    products = given.wide.astype(np.float64) @ given.wide.astype(np.float64).T
    norms = np.sqrt(np.diag(products))
    cosine = products[0, 1] / (norms[0] * norms[1]) if norms.all() else 0.0
    straight = abs(cosine) > NEARLY_PARALLEL
    degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    way = (
        "nearly none: SLERP is a straight line here, as for most fine-tunes."
        if straight
        else "the way is along the arc."
    )
    yield Step("The angle", f"The cosine between the two is {cosine:.4f}, an angle of {degrees:.2f} degrees; {way}",
               lines(("base", given.names[0]), given.wide))  # fmt: skip
    of_base, of_model = given.measured
    scaled_base, scaled_model = base * np.float32(of_base), model * np.float32(of_model)
    yield Step("The shares", f"{of_base:.4f} of the base and {of_model:.4f} of {given.names[0]}, from t = "
               f"{given.settings['t']:.3g} and the angle.",
               lines(("base", given.names[0]), np.stack([scaled_base, scaled_model])))  # fmt: skip
    yield Step("The blend", "Their sum.", line("merged", scaled_base + scaled_model))


WALKS: Mapping[str, Callable[[Given], Iterator[Step]]] = {
    "task_arithmetic": task_arithmetic, "ties": ties, "dare_linear": dare_linear, "slerp": slerp,
}  # fmt: skip
