"""What the lambdas of a recipe add up to."""

from collections.abc import Iterator, Mapping

from merging.findings import Finding, ok, warn
from merging.methods import METHODS
from merging.recipe import Recipe, merged_inputs, settings_for, takes_base

FAR = 2.0  # the sum of all lambdas beyond which a merge leaves the neighbourhood of its parents
CANCELLED = 0.05  # the share of its parts that a sum must keep, or dividing by it blows everything up
RATIO = 1e-6  # weights of nuslerp that sum to less share alike
CONSENSUS = ("ties", "dare_ties")  # normalize divides each entry by the weights of the models that won its vote

Numbers = Mapping[str, float]


def check_lambdas(recipe: Recipe) -> Iterator[Finding]:
    """Facts about plain numbers; a recipe that was parsed is within the ranges of its method already."""
    method = METHODS[recipe.method]
    if method.param("weight") is None:
        return
    settings = settings_for(recipe, "")
    numbers = dict(zip((str(i.model) for i in merged_inputs(recipe)), settings["weight"], strict=True))
    if takes_base(recipe):
        yield from weighted_base(recipe)
    normalize = settings.get("normalize", settings.get("normalize_weights", True))
    yield sum_up(numbers, recipe.method, normalize=normalize, has_base=takes_base(recipe))


def weighted_base(recipe: Recipe) -> Iterator[Finding]:
    """The base may be listed among the models, but what it is weighed with counts for nothing."""
    for one in recipe.models:
        if one.model == recipe.base and "weight" in one.parameters:
            yield warn(
                "lambdas",
                f"The lambda of the base {one.model} has no effect.",
                {str(one.model): f"lambda {one.parameters['weight']:g}"},
                why=f"{recipe.method} adds what the other models changed of the base; the base itself is always whole.",
                remedy="Remove it from models, or list it without a weight.",
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
