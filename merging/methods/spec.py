"""What a merge method is, and how one is declared."""

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from merging.methods.arrays import Array, Found, Measured
from merging.methods.chance import Chance

Shape = tuple[int, ...]
Setting = bool | int | float  # a parameter's value as a recipe gives it
Settings = Mapping[str, Any]  # keyword arguments of a kernel: a tuple (one value per model) or one value


@dataclass(frozen=True, slots=True)
class Range:
    """The values a number may take, and its slider: where that ends earlier, and its step."""

    low: float
    high: float
    step: float = 0.01
    above: bool = False  # True: `low` itself is excluded
    start: float | None = None  # what a new control shows where the parameter has no default
    widest: tuple[float, float] | None = None  # what a recipe may give, where that is more than the slider shows

    def __contains__(self, value: float) -> bool:
        low, high = self.limits
        return (low < value if self.above else low <= value) and value <= high

    @property
    def limits(self) -> tuple[float, float]:
        return self.widest or (self.low, self.high)

    def is_on_slider(self, value: float) -> bool:
        return value in self and self.low <= value <= self.high


WIDEST = (-100.0, 100.0)  # mergekit takes any weight; beyond this it is a slip
Weights = Annotated[tuple[float, ...], Range(-2, 2, start=1.0, widest=WIDEST)]  # a tuple: one value per model
Fraction = Annotated[float, Range(0, 1, start=0.5)]
Fractions = Annotated[tuple[float, ...], Range(0, 1, start=0.5)]


@dataclass(frozen=True, slots=True)
class Param:
    """One setting of a method, read from its signature. Form, YAML check, card and tests all come from this."""

    name: str
    type: type  # float, int or bool
    default: Setting | None  # None: must be given
    per_model: bool
    range: Range | None
    help: str  # one sentence


@dataclass(frozen=True)
class Block:
    """The same stretch of one tensor from every model, as float32: what kernels and measures look at.

    `wide` is [n, m], the base first where the merge has one. None of it may be changed.
    """

    wide: Array
    has_base: bool
    chance: Chance
    row: int = 1  # elements along the tensor's last dimension; a method by rows gets whole ones
    depth: float | None = None  # of its layer: 0 for the first, 1 for the last; None outside the layers
    is_matrix: bool = False  # all of a tensor of two dimensions, for a method on matrices

    @property
    def base(self) -> Array | None:
        """[m]; None where the method takes no base or the recipe has none."""
        base: Array = self.wide[0]
        return base if self.has_base else None

    @property
    def models(self) -> Array:
        """[n, m], without the base."""
        return self.wide[1:] if self.has_base else self.wide

    @cached_property
    def deltas(self) -> Array:
        """What each model changed: [n, m]."""
        assert self.has_base, "without a base there are no deltas"
        deltas: Array = self.models - self.wide[0]
        return deltas


# Looks at some grains of a tensor; a block that is as stored may hold several. Returns counts (int64), or one row of
# sums for each grain (float64); the engine adds these up over the tensor, and sends the total to the measure.
Pass = Callable[[Iterator[Block]], Found]
Measure = Callable[[Shape, Settings], Generator[Pass, Any, Measured]]
Granularity = Literal["element", "row", "tensor", "matrix"]  # what a kernel must see at once; see `method`
TABLES = ("embed", "lm_head", "wte")  # in the names of tensors whose one side is the vocabulary


def no_passes(settings: Settings) -> int:
    return 0


def no_fault(settings: Settings) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Method:
    """A kernel with all that is known of it. See `method` for what a kernel may ask for."""

    name: str  # mergekit's
    title: str
    summary: str  # first sentence of the docstring
    paper: str
    needs_base: bool
    takes_base: bool  # or may do without
    min_models: int  # besides the base
    max_models: int | None
    params: tuple[Param, ...]
    random: bool  # whether the seed matters
    fn: Callable[..., Array]
    inputs: tuple[str, ...]  # fields of Block that the kernel takes, in order
    measure: Measure | None  # what it must know of the whole tensor first
    passes: Callable[[Settings], int]  # how often the measure goes over the tensor, at most
    spared: Callable[[Settings], int]  # how many of these bfloat16 models hardly ever need
    fault: Callable[[Settings], str | None]  # what is wrong with a combination of settings, as a sentence
    without_effect: tuple[str, ...]  # parameters mergekit takes here that change nothing; accepted so that recipes port
    granularity: Callable[[Settings], Granularity]

    def granularity_of(self, settings: Settings, name: str, shape: Shape) -> Granularity:
        """What the kernel must see at once of one tensor."""
        found = self.granularity(settings)
        is_matrix = len(shape) == 2 and 0 not in shape and not any(table in name for table in TABLES)
        return "element" if found == "matrix" and not is_matrix else found

    def param(self, name: str) -> Param | None:
        return next((p for p in self.params if p.name == name), None)


METHODS: dict[str, Method] = {}
FIELDS = ("base", "models", "deltas", "chance", "row", "depth", "is_matrix")


def method(  # noqa: PLR0913 - a declaration
    title: str,
    *,
    paper: str = "",
    models: tuple[int, int | None] = (1, None),
    measure: Measure | None = None,
    passes: Callable[[Settings], int] = no_passes,
    spared: Callable[[Settings], int] = no_passes,
    fault: Callable[[Settings], str | None] = no_fault,
    without_effect: tuple[str, ...] = (),
    granularity: Granularity | Callable[[Settings], Granularity] = "element",
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Register a kernel. Its signature is the whole declaration.

    Positional arguments named as in FIELDS are fields of Block; one more, after them, takes what `measure` found. A
    base annotated `Array | None` may be left out of the recipe. Keyword-only arguments are the settings, with type,
    range, help and default; one without a default must be given in the recipe. `models` is how many the method takes
    besides the base. A kernel returns float32 [m] and is pure. By default it treats every element alike, so that
    blocks may be cut anywhere; with the granularity "row" or "tensor" it gets whole rows, or all of the tensor. With
    "matrix" it gets all of a tensor of two dimensions, and may find any part of others and of tables (embeddings and
    heads): `is_matrix` tells. The granularity may depend on the settings.
    """

    def register(fn: Callable[..., Array]) -> Callable[..., Array]:
        positional = [p.name for p in inspect.signature(fn).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        inputs = tuple(name for name in positional if name in FIELDS)
        takes_base = "base" in inputs or "deltas" in inputs
        if fn.__name__ in METHODS or len(positional) - len(inputs) != (measure is not None):
            raise TypeError(f"the merge method {fn.__name__} is declared twice, or takes no measure or too many")
        METHODS[fn.__name__] = Method(
            name=fn.__name__, title=title, summary=(inspect.getdoc(fn) or "").split(".")[0] + ".", paper=paper,
            needs_base=takes_base and not base_is_optional(fn), takes_base=takes_base,
            min_models=models[0], max_models=models[1], params=tuple(read_params(fn)),
            random="chance" in inputs, fn=fn, inputs=inputs, measure=measure, passes=passes, spared=spared, fault=fault,
            without_effect=without_effect,
            granularity=granularity if callable(granularity) else lambda settings: granularity,
        )  # fmt: skip
        return fn

    return register


def base_is_optional(fn: Callable[..., Array]) -> bool:
    return type(None) in get_args(get_type_hints(fn).get("base"))


def read_params(fn: Callable[..., Array]) -> list[Param]:
    hints = get_type_hints(fn, include_extras=True)
    keywords = (p for p in inspect.signature(fn).parameters.values() if p.kind is p.KEYWORD_ONLY)
    return [read_param(p, hints[p.name]) for p in keywords]


def read_param(p: inspect.Parameter, hint: Any) -> Param:
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    per_model = get_origin(kind) is tuple
    default = None if p.default is p.empty else p.default[0] if per_model else p.default
    return Param(
        name=p.name.rstrip("_"),  # lambda_ is mergekit's lambda
        type=get_args(kind)[0] if per_model else kind,
        default=default,
        per_model=per_model,
        range=next((n for n in notes if isinstance(n, Range)), None),
        help=next((n for n in notes if isinstance(n, str)), ""),
    )


def compute(method: Method, block: Block, measured: Measured, settings: Settings) -> Array:
    """Run a kernel on one block."""
    fields = [getattr(block, name) for name in method.inputs]
    return method.fn(*fields, *([measured] if method.measure else []), **settings)
