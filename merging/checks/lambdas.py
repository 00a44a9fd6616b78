"""What the lambdas of a recipe add up to."""

from collections.abc import Iterator

from merging.findings import Finding, ok, warn
from merging.methods import METHODS
from merging.recipe import Recipe, Setting

FAR = 2.0  # the sum of all lambdas beyond which a merge leaves the neighbourhood of its parents


def check_lambdas(recipe: Recipe) -> Iterator[Finding]:
    """Facts about plain numbers; a recipe that was parsed is within the ranges of its method already."""
    method = METHODS.get(recipe.method)
    if method is None or not any(p.name == "weight" for p in method.params):
        return
    given = {str(i.model): i.parameters.get("weight", recipe.parameters.get("weight")) for i in recipe.models}
    numbers = {label: float(w) for label, w in given.items() if isinstance(w, int | float) and not isinstance(w, bool)}
    if len(numbers) == len(recipe.models):
        yield sum_up(numbers, needs_base=method.needs_base, normalize=recipe.parameters.get("normalize"))


def sum_up(numbers: dict[str, float], *, needs_base: bool, normalize: Setting | None) -> Finding:
    values = {label: f"lambda {number:g}" for label, number in numbers.items()}
    total = sum(numbers.values())
    if not any(numbers.values()):
        return warn(
            "lambdas",
            "All lambdas are zero.",
            values,
            why="Nothing of any model is taken" + (": the merge equals the base." if needs_base else "."),
            remedy="Give at least one model a lambda that is not zero.",
        )
    if needs_base and sum(map(abs, numbers.values())) > FAR:
        return warn(
            "lambdas",
            f"The lambdas add up to {sum(map(abs, numbers.values())):g}, signs aside.",
            values,
            why="The further a merge lies from the base than its parents do, the more it forgets.",
            remedy="Start with lambdas that add up to about 1, and go up while the merge still answers well.",
        )
    if not needs_base and normalize is False and abs(total - 1) > 0.05:
        return warn(
            "lambdas",
            f"The lambdas add up to {total:g}, and are not normalised.",
            values,
            why="All weights are then scaled by that sum, which most models do not survive.",
            remedy="Let them add up to 1, or set normalize to true.",
        )
    return ok("lambdas", f"The lambdas add up to {total:g}.", values)
