"""Recipe: what to merge and how, as frozen values. Parsed from mergekit's YAML; refused with the place of the fault."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Setting = bool | int | float  # a parameter's value; issue B adds gradients and filters here


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A local folder, or a Hub repo at a revision: `org/name[@revision]`."""

    path: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.path}@{self.revision}" if self.revision else self.path


@dataclass(frozen=True, slots=True)
class Input:
    """One model of the recipe's list, with the parameters given to it alone."""

    model: ModelRef
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`models` keeps the order of the file, and may list the base as well."""

    method: str
    models: tuple[Input, ...]
    base: ModelRef | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    dtype: str | None = None  # bfloat16, float16, float32; None: the widest of the inputs, tensor by tensor
    out_dtype: str | None = None
    seed: int = 0  # ours, not mergekit's: a merge must be reproducible from its recipe


def parse_recipe(text: str) -> Recipe:
    """Read a YAML recipe, and check it against what its method declares.

    Raises MergeError with the place: `models[1].parameters.weight is 3, it must be between -2 and 2.`
    """
    raise NotImplementedError


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML that `parse_recipe` reads back to an equal value."""
    raise NotImplementedError


def all_models(recipe: Recipe) -> tuple[ModelRef, ...]:
    """Every model that will be read: the base first when there is one, none twice."""
    raise NotImplementedError
