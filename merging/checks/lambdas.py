"""What the lambdas of a recipe add up to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from merging.findings import Finding, counted, ok, warn
from merging.methods import METHODS
from merging.methods.spec import Settings
from merging.plan import Plan
from merging.recipe import Recipe, has_base, merged_inputs, parts_of, settings_for
from merging.values import in_words, is_plain, plain_tree

FAR = 2.0  # the sum of all lambdas beyond which a merge leaves the neighbourhood of its parents
CANCELLED = 0.05  # the share of its parts that a sum must keep, or dividing by it blows everything up
RATIO = 1e-6  # weights of nuslerp that sum to less share alike
# normalize divides each entry by the weights of the models that won its vote
CONSENSUS = ("ties", "dare_ties", "breadcrumbs_ties", "della")
SUMS = ("lines",)  # cannot be normalised

Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Combination:
    """How the models go into a tensor."""

    numbers: tuple[tuple[str, float], ...]  # the lambda of each model
    normalize: bool
    has_base: bool


def check_lambdas(recipe: Recipe, plan: Plan | None = None) -> Iterator[Finding]:
    """Facts about plain numbers; a recipe that was parsed is within the ranges of its method already."""
    method = METHODS[recipe.method]
    if method.param("weight") is None:
        return
    if method.takes_base:
        yield from weighted_base(recipe)
    found = combinations(recipe, plan)
    told = {
        one: sum_up(dict(one.numbers), recipe.method, normalize=one.normalize, has_base=one.has_base) for one in found
    }
    if len(told) == 1:
        yield from told.values()
    elif told:
        yield several(found, told)


def combinations(recipe: Recipe, plan: Plan | None) -> dict[Combination, list[str]]:
    """The different lambdas that tensors are merged with, and their names; without a plan, those that need none."""
    if plan is None:
        labels = [str(i.model) for i in merged_inputs(recipe)]
        beside = has_base(parts_of(recipe)[0], METHODS[recipe.method])
        return (
            {combination(recipe.method, labels, settings_for(recipe, ""), beside): [""]} if is_uniform(recipe) else {}
        )
    found: dict[Combination, list[str]] = {}
    for step in (s for shard in plan.shards for s in shard.steps if s.is_merged):
        labels = [str(plan.models[i]) for i in step.sources[-len(step.settings["weight"]) :]]
        found.setdefault(combination(recipe.method, labels, step.settings, step.has_base), []).append(step.name)
    return found


def combination(method: str, labels: Sequence[str], settings: Settings, has_base: bool) -> Combination:
    """A model that goes in with several of its layers has a number behind its name."""
    told = [f"{label} ({n})" if (n := labels[: i + 1].count(label)) > 1 else label for i, label in enumerate(labels)]
    normalize = settings.get("normalize", settings.get("normalize_weights", method not in SUMS))
    return Combination(tuple(zip(told, settings["weight"], strict=True)), normalize, has_base)


def is_uniform(recipe: Recipe) -> bool:
    levels = (recipe.parameters, *(one.parameters for one in recipe.models))
    return not recipe.slices and all(is_plain(value) for given in levels for value in given.values())


def several(found: Mapping[Combination, list[str]], told: Mapping[Combination, Finding]) -> Finding:
    """One finding for lambdas that change from tensor to tensor: of the worst of them."""
    worst = next((one for one, finding in told.items() if finding.level != "ok"), None)
    if worst is not None:
        return replace(told[worst], title=f"{told[worst].title[:-1]}, in {counted(len(found[worst]), 'tensor')} "
                       f"({found[worst][0]}).")  # fmt: skip
    ranges: dict[str, list[float]] = {}
    for one in found:
        for label, number in one.numbers:
            ranges.setdefault(label, []).append(number)
    said = {label: f"lambda {min(numbers):.3g} to {max(numbers):.3g}" for label, numbers in ranges.items()}
    return ok("lambdas", f"The lambdas change from tensor to tensor: there are {len(found):,} combinations.", said)


def weighted_base(recipe: Recipe) -> Iterator[Finding]:
    """The base may be listed among the models, but what it is weighed with counts for nothing."""
    weighted = [one for part in parts_of(recipe) for one in part.sources
                if one.model == part.base and "weight" in one.parameters]  # fmt: skip
    for one in weighted[:1]:
        yield warn(
            "lambdas",
            f"The lambda of the base {one.model} has no effect.",
            {str(one.model): f"lambda {in_words(plain_tree(one.parameters['weight']))}"},
            why=f"{recipe.method} adds what the other models changed of the base; the base itself is always whole.",
            remedy="Remove its weight from the recipe.",
        )


def sum_up(numbers: Numbers, method: str, *, normalize: bool, has_base: bool) -> Finding:
    total, size = sum(numbers.values()), sum(map(abs, numbers.values()))
    if method == "nuslerp" and abs(total) < RATIO:
        return ok("lambdas", "The lambdas add up to 0: both models count alike.", values(numbers))
    if size == 0:
        return all_zero(numbers, has_base=has_base)
    if normalize and method in CONSENSUS and min(numbers.values()) < 0:
        return added_instead(numbers)
    if normalize and method not in CONSENSUS and abs(total) < CANCELLED * size:
        return cancelled(numbers, total, method)
    if not normalize and has_base and size > FAR:
        return far_from_base(numbers, size)
    if not normalize and not has_base and abs(total - 1) > 0.05:
        return scaled(numbers, total)
    return ok("lambdas", f"The lambdas add up to {total:g}.", values(numbers))


def values(numbers: Numbers) -> dict[str, str]:
    return {label: f"lambda {number:g}" for label, number in numbers.items()}


def all_zero(numbers: Numbers, *, has_base: bool) -> Finding:
    return warn(
        "lambdas",
        "All lambdas are zero.",
        values(numbers),
        why="Nothing of any model is taken" + (": the merge equals the base." if has_base else "."),
        remedy="Give at least one model a lambda that is not zero.",
    )


def added_instead(numbers: Numbers) -> Finding:
    return warn(
        "lambdas",
        "A negative lambda is normalised.",
        values(numbers),
        why="Each change is divided by the lambdas of the models that agree on it. Divided by a negative lambda, what "
        "was to be taken away is added.",
        remedy="Set `normalize: false` to take a skill away.",
    )


def cancelled(numbers: Numbers, total: float, method: str) -> Finding:
    switch = next((p.name for p in METHODS[method].params if p.name.startswith("normalize")), None)
    return warn(
        "lambdas",
        f"The lambdas almost cancel: they add up to {total:g}.",
        values(numbers),
        why=f"Normalised, every model is multiplied by its lambda divided by {total:g}, which no model survives.",
        remedy=f"Set `{switch}: false`, or choose lambdas that do not cancel."
        if switch
        else "Choose lambdas that do not cancel.",
    )


def far_from_base(numbers: Numbers, size: float) -> Finding:
    return warn(
        "lambdas",
        f"The lambdas add up to {size:g}, signs aside.",
        values(numbers),
        why="The further a merge lies from the base than its parents do, the more it forgets.",
        remedy="Start with lambdas that add up to about 1, and go up while the merge still answers well.",
    )


def scaled(numbers: Numbers, total: float) -> Finding:
    return warn(
        "lambdas",
        f"The lambdas add up to {total:g}, and are not normalised.",
        values(numbers),
        why="All weights are then scaled by that sum, which most models do not survive.",
        remedy="Let them add up to 1, or have them normalised.",
    )
