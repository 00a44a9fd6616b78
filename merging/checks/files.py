"""Whether the configs can be used at all: one that is missing or holds nonsense says nothing about its model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from merging.checks.facts import Facts, Json
from merging.findings import Finding, block, warn

NUMBERS = ("rope_theta", "factor")  # what must be a number where it is given
NESTED = ("rope_parameters", "rope_scaling")


def check_files(models: Sequence[Facts]) -> Iterator[Finding]:
    """The first model gives the merge its config; what is wrong with that of another is a warning."""
    for model in models:
        make = block if model is models[0] else warn
        if not model.config:
            yield make(
                "no-config",
                f"{model.label} has no config.json.",
                {model.label: "missing"},
                why="Without it, nobody can tell how the weights are to be used, or whether the models fit.",
                remedy="Ask its author for config.json, or choose a model that has one.",
            )
        elif faults := [*config_faults(model.config)]:
            yield make(
                "broken-config",
                f"config.json of {model.label} cannot be used: {faults[0]}.",
                {model.label: "; ".join(faults)},
                why="The model cannot be loaded with it, and how it encodes positions cannot be compared.",
                remedy="Correct the value in config.json, or ask its author to.",
            )


def config_faults(config: Json) -> Iterator[str]:
    """`rope_parameters.factor is 'x', it must be a number`."""
    places: list[tuple[str, Json]] = [("", config)]
    for name in NESTED:
        found = config.get(name)
        if isinstance(found, Mapping):
            places.append((f"{name}.", found))
            places += [(f"{name}.{kind}.", inner) for kind, inner in found.items() if isinstance(inner, Mapping)]
        elif found is not None:
            yield f"{name} is {brief(found)}, it must be a mapping"
    for place, settings in places:
        for key in NUMBERS:
            value = settings.get(key)
            if value is not None and as_number(value) is None:
                yield f"{place}{key} is {brief(value)}, it must be a number"


def as_number(value: Any) -> float | None:
    """A JSON number as a float, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def brief(value: Any, limit: int = 40) -> str:
    """A value as Python writes it, cut short."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
