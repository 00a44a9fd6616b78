"""Which tensors of which models each output tensor is made of, where whole models are merged."""

from collections.abc import Sequence
from dataclasses import dataclass

from merging.agreement import agree_on_tensors
from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import TensorInfo
from merging.layers import COUNTS, layers_of
from merging.methods import METHODS
from merging.recipe import Recipe, Slice, parts_of
from merging.values import changes_with_depth

Stack = tuple[
    tuple[tuple[int, int], ...], ...
]  # for each output layer: models, by their place, and which of their layers
UNTOLD = f"Its config.json must say how many there are ({', '.join(COUNTS)}), and its tensors be numbered so."


@dataclass(frozen=True, slots=True)
class Made:
    """One output tensor, and what goes in."""

    name: str
    sources: tuple[int, ...]  # the models, by their place among all; the base first where the method has one
    names: tuple[str, ...]  # the tensor's name in each
    inputs: tuple[TensorInfo, ...]
    part: Slice  # whose parameters hold for it
    depth: float  # from 0 to 1 in that part, for gradients; outside of the layers 0, as in mergekit
    layer: int | None  # of the output


@dataclass(frozen=True, slots=True)
class Assembly:
    tensors: tuple[Made, ...]
    layers: int  # of the output; 0 where they cannot be told
    stack: Stack = ()  # empty for whole models


def depth_of(index: int, count: int) -> float:
    """As in mergekit, a single layer is at the end."""
    return index / (count - 1) if count > 1 else 1.0


def merge_whole(recipe: Recipe, opened: Sequence[Checkpoint]) -> Assembly:
    """Tensor by tensor, by name. `opened` is in the order of `all_models`."""
    layers, (part,) = layers_of(opened[0]), parts_of(recipe)
    tensors = agree_on_tensors(opened)
    if layers is None and (name := gradient_in(recipe)):
        raise MergeError(
            f"{name} is a gradient over the layers, but the layers of {opened[0].label} cannot be told. "
            f"{UNTOLD} Give one value, or values with filters."
        )
    if layers is None and "depth" in METHODS[recipe.method].inputs:
        raise MergeError(
            f"{recipe.method} treats every layer in its own way, but the layers of {opened[0].label} cannot be told. "
            f"{UNTOLD} Choose another method."
        )
    sources, made = tuple(range(len(opened))), []
    for tensor, inputs in tensors.items():
        found = layers.find(tensor) if layers else None
        depth = depth_of(found[0], layers.count) if layers and found else 0.0
        made.append(Made(tensor, sources, (tensor,) * len(inputs), inputs, part, depth, found[0] if found else None))
    return Assembly(tuple(made), layers.count if layers else 0)


def gradient_in(recipe: Recipe) -> str | None:
    given = (recipe.parameters, *(one.parameters for one in recipe.models))
    return next((name for p in given for name, value in p.items() if changes_with_depth(value)), None)
