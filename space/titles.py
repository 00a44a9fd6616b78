"""What tells jobs of the same models apart in a list."""

from merging.errors import MergeError
from merging.recipe import parse_recipe
from space.jobs import Job


def lambdas(job: Job) -> list[str]:
    """The lambdas of a merge, where its recipe has one number for each model."""
    try:
        recipe = parse_recipe(job.payload["recipe"])
    except (KeyError, MergeError):  # no merge, or one of an older version
        return []
    given = [one.parameters.get("weight") for one in recipe.models if one.model != recipe.base]
    shown = [f"{value:g}" for value in given if isinstance(value, int | float)]
    return [f"λ {', '.join(shown)}"] if shown else []
