"""Which tensors of which models each output tensor is made of, where layers are stacked anew."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from merging.agreement import check_names, check_shapes, redundant_heads, refuse_quantised
from merging.assembly import UNTOLD, Assembly, Made, depth_of
from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import MAX_TENSORS, TensorInfo
from merging.layers import Layers, layers_of
from merging.methods import METHODS
from merging.recipe import Recipe, Slice, all_models, kernel_sources, parts_of

# What comes before the layers: embeddings, and towers that feed them. All else outside comes after: norm and head (of
# which LFM2 calls the norm embedding_norm, and GPT-NeoX the head embed_out).
BEFORE = re.compile(r"emb(?!ed_out|edding_norm)|wte|wpe|project_in|vision|visual|image|audio|multi_modal|connector")

Layer = tuple[tuple[int, int], ...]  # for each source: the model, by its place, and which of its layers
Tensors = Mapping[str, TensorInfo]


def stack_slices(recipe: Recipe, opened: Sequence[Checkpoint]) -> Assembly:
    """Layers in their new order, between the embeddings of the first slice and the norm and head of the last.

    `opened` is in the order of `all_models`. Raises MergeError where layers do not fit together.
    """
    for checkpoint in opened:
        refuse_quantised(checkpoint)
    models = Models(opened, tuple(told_layers(checkpoint) for checkpoint in opened))
    check_ranges(recipe, models)
    parts = [Part(part, sources_of(part, recipe)) for part in parts_of(recipe)]
    dropped = redundant_heads([opened[i] for i in ends(recipe)])
    made, stack = [*outside(parts[0], models, dropped, before=True)], list[Layer]()
    for part in parts:
        for index, layer in enumerate(part.layers):
            made += layer_of(part, layer, models, len(stack), depth_of(index, len(part.layers)))
            stack.append(layer)
        if len(made) > MAX_TENSORS:
            raise MergeError(f"The slices have more than {MAX_TENSORS:,} tensors. Stack fewer layers.")
    made += outside(parts[-1], models, dropped, before=False)
    return Assembly(tuple(made), len(stack), tuple(stack))


@dataclass(frozen=True, slots=True)
class Models:
    """The checkpoints, and which of their tensors lie in which layer."""

    opened: Sequence[Checkpoint]
    layers: tuple[Layers, ...]
    sorted: dict[int, tuple[list[Tensors], Tensors]] = field(default_factory=dict)  # model -> its layers, the rest

    def inside(self, model: int, layer: int) -> Tensors:
        """The tensors of a layer, by their names in there."""
        return self.tensors(model)[0][layer]

    def around(self, model: int) -> Tensors:
        return self.tensors(model)[1]

    def tensors(self, model: int) -> tuple[list[Tensors], Tensors]:
        if model not in self.sorted:
            layers = self.layers[model]
            inside: list[dict[str, TensorInfo]] = [{} for _ in range(layers.count)]
            around: dict[str, TensorInfo] = {}
            for name, info in in_file_order(self.opened[model].tensors):
                if found := layers.find(name):
                    inside[found[0]][found[1]] = info
                else:
                    around[name] = info
            self.sorted[model] = [*inside], around
        return self.sorted[model]


@dataclass(frozen=True, slots=True)
class Part:
    """A slice, and its layers."""

    slice: Slice
    layers: tuple[Layer, ...]


def in_file_order(tensors: Tensors) -> list[tuple[str, TensorInfo]]:
    return sorted(tensors.items(), key=lambda item: (item[1].file, item[1].start, item[0]))


def told_layers(checkpoint: Checkpoint) -> Layers:
    if (found := layers_of(checkpoint)) is None:
        raise MergeError(f"The layers of {checkpoint.label} cannot be told, so they cannot be stacked. {UNTOLD}")
    return found


def check_ranges(recipe: Recipe, models: Models) -> None:
    """Every range ends within its model, and the models name their layers alike."""
    refs = all_models(recipe)
    for number, part in enumerate(recipe.slices):
        for i, one in enumerate(part.sources):
            count, (first, end) = models.layers[refs.index(one.model)].count, one.layers or (0, 0)
            if end > count:
                raise MergeError(
                    f"slices[{number}].sources[{i}].layer_range is [{first}, {end}], but {one.model} has {count} "
                    f"layers: the last number can be {count} at most."
                )
    for layers, checkpoint in zip(models.layers, models.opened, strict=True):
        if layers.stack != models.layers[0].stack:
            raise MergeError(
                f"{models.opened[0].label} calls its layers {models.layers[0].stack}.N, {checkpoint.label} "
                f"{layers.stack}.N. Stack models of one architecture."
            )


def sources_of(part: Slice, recipe: Recipe) -> tuple[Layer, ...]:
    """The layers of a slice, as a kernel sees them: the base first where the method has one."""
    refs, sources = all_models(recipe), kernel_sources(part, METHODS[recipe.method])
    ranges = [[(refs.index(one.model), layer) for layer in range(*(one.layers or (0, 0)))] for one in sources]
    return tuple(zip(*ranges, strict=True))


def ends(recipe: Recipe) -> tuple[int, ...]:
    """The models that give the stack its embeddings, norm and head, by their places."""
    refs, parts = all_models(recipe), parts_of(recipe)
    sources = (one for part in (parts[0], parts[-1]) for one in part.sources)
    return tuple(dict.fromkeys(refs.index(one.model) for one in sources))


def layer_of(part: Part, layer: Layer, models: Models, number: int, depth: float) -> Iterator[Made]:
    """The tensors of one output layer."""
    found = [models.inside(*source) for source in layer]
    labels = [f"layer {n} of {models.opened[model].label}" for model, n in layer]
    check_equal(found, labels)
    stacks = [models.layers[model] for model, _ in layer]
    for rest in found[0]:
        yield Made(
            name=models.layers[0].name(number, rest),
            sources=tuple(model for model, _ in layer),
            names=tuple(own.name(n, rest) for own, (_, n) in zip(stacks, layer, strict=True)),
            inputs=tuple(tensors[rest] for tensors in found),
            part=part.slice,
            depth=depth,
            layer=number,
        )


def outside(part: Part, models: Models, dropped: Collection[str], *, before: bool) -> Iterator[Made]:
    """The tensors before or after all layers, of the sources of a slice."""
    sources = tuple(model for model, _ in part.layers[0])
    found = [
        {n: info for n, info in models.around(i).items() if bool(BEFORE.search(n)) == before and n not in dropped}
        for i in sources
    ]
    check_equal(found, [models.opened[i].label for i in sources])
    for name in found[0]:
        inputs = tuple(tensors[name] for tensors in found)
        yield Made(name, sources, (name,) * len(sources), inputs, part.slice, 0.0, None)


def check_equal(found: Sequence[Tensors], labels: Sequence[str]) -> None:
    for tensors, label in zip(found[1:], labels[1:], strict=True):
        check_names(found[0], labels[0], tensors, label)
        check_shapes(found[0], labels[0], tensors, label)
