"""Whether checkpoints can be merged tensor by tensor: same names, same shapes, types that can be computed on."""

from collections.abc import Mapping, Sequence

from merging.checkpoint import Checkpoint
from merging.errors import MergeError
from merging.header import DTYPE_BITS, FLOATS, TensorInfo
from merging.heads import HEAD, heads_of, original
from merging.recipe import DTYPES, Recipe

COPIED = ("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64")  # buffers: equal everywhere, then copied
SHOWN = 5  # names in a message


def agree_on_tensors(checkpoints: Sequence[Checkpoint]) -> dict[str, tuple[TensorInfo, ...]]:
    """Name -> its entry in each checkpoint, in an order in which files can be read. MergeError where they differ."""
    for checkpoint in checkpoints:
        refuse_quantised(checkpoint)
    dropped = redundant_heads(checkpoints)
    donor, *others = ({n: i for n, i in c.tensors.items() if n not in dropped} for c in checkpoints)
    for other, checkpoint in zip(others, checkpoints[1:], strict=True):
        check_names(donor, checkpoints[0].label, other, checkpoint.label)
        check_shapes(donor, checkpoints[0].label, other, checkpoint.label)
    if not donor:
        raise MergeError(f"{checkpoints[0].label} has no tensors: there is nothing to merge.")
    return {name: (donor[name], *(other[name] for other in others)) for name in reading_order([donor, *others])}


def reading_order(models: Sequence[Mapping[str, TensorInfo]]) -> list[str]:
    """The names in the order of the first one's files; or, where another one's would be read back and forth, by name.

    Within a file safetensors puts the widest types first, then goes by name. So that order goes through every file
    from its front to its end, however the models are cut into shards.
    """
    donor = models[0]
    as_stored = sorted(donor, key=lambda n: (donor[n].file, donor[n].start, n))
    by_name = sorted(donor, key=lambda n: (-DTYPE_BITS[donor[n].dtype], n))
    return next((order for order in (as_stored, by_name) if all(goes_on(m, order) for m in models)), as_stored)


def goes_on(tensors: Mapping[str, TensorInfo], order: Sequence[str]) -> bool:
    """Whether every file is read from front to end."""
    at: dict[str, int] = {}
    for info in (tensors[name] for name in order):
        if info.start < at.get(info.file, 0):
            return False
        at[info.file] = info.end
    return True


def refuse_quantised(checkpoint: Checkpoint) -> None:
    if quantisation := checkpoint.config.get("quantization_config"):
        kind = quantisation.get("quant_method", "unknown") if isinstance(quantisation, dict) else quantisation
        raise MergeError(
            f"{checkpoint.label} is quantised ({str(kind)[:40]}): its numbers are codes, which cannot be averaged. "
            "Give the model it was quantised from."
        )


def redundant_heads(checkpoints: Sequence[Checkpoint]) -> frozenset[str]:
    """The output heads that are stored although every model takes its input embeddings for it.

    A stored head that is not a copy of the embeddings is what transformers uses, whatever the config says: then it is
    merged like any other tensor.
    """
    tied = {c.label: ties_embeddings(c) for c in checkpoints}
    if len(set(tied.values())) > 1:
        yes, no = next(n for n in tied if tied[n]), next(n for n in tied if not tied[n])
        raise MergeError(
            f"{yes} shares its embeddings with its output head (tie_word_embeddings), {no} does not. "
            "They cannot be merged as they are: save both the same way, or choose models that agree."
        )
    heads = [(c, head) for c in checkpoints for head in heads_of(c)]
    if not all(tied.values()) or any(original(c, head) is None for c, head in heads):
        return frozenset()
    return frozenset(head for _, head in heads)


def ties_embeddings(checkpoint: Checkpoint) -> bool:
    """What the config says; where it says nothing, whether the head is missing."""
    nested = checkpoint.config.get("text_config")
    for config in (checkpoint.config, nested if isinstance(nested, dict) else {}):
        if isinstance(said := config.get("tie_word_embeddings"), bool):
            return said
    return HEAD not in checkpoint.tensors


def check_names(a: Mapping[str, TensorInfo], in_a: str, b: Mapping[str, TensorInfo], in_b: str) -> None:
    missing, extra = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
    if not missing and not extra:
        return
    parts = [f"{in_b} lacks {some(missing)}" if missing else "", f"{in_b} has {some(extra)} besides" if extra else ""]
    way_out = "Merge models of one architecture that were fine-tuned from the same base."
    if all(name.endswith(HEAD) for name in (*missing, *extra)):
        way_out = "The one has an output head that is not its embeddings: choose models that agree in this."
    raise MergeError(f"{in_a} and {in_b} do not have the same tensors: {'; '.join(p for p in parts if p)}. {way_out}")


def check_shapes(a: Mapping[str, TensorInfo], in_a: str, b: Mapping[str, TensorInfo], in_b: str) -> None:
    different = [n for n in a if a[n].shape != b[n].shape]
    if not different:
        return
    told = "; ".join(f"{n!r} is {a[n].shape} in {in_a} but {b[n].shape} in {in_b}" for n in different[:SHOWN])
    more = f"; and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
    way_out = "Merge models of the same size"
    if any("embed" in n or "lm_head" in n or "wte" in n for n in different):
        way_out = "The vocabularies differ: merge models with the same tokenizer and the same embedding size"
    raise MergeError(f"{told}{more}. {way_out}.")


def some(names: Sequence[str]) -> str:
    listed = ", ".join(repr(n) for n in names[:SHOWN])
    return listed if len(names) <= SHOWN else f"{listed} and {len(names) - SHOWN} more tensors"


def output_dtype(recipe: Recipe, name: str, inputs: Sequence[TensorInfo], checkpoints: Sequence[Checkpoint]) -> str:
    """What a tensor is written as: what the recipe says, else the narrowest type that holds all inputs."""
    found = {info.dtype for info in inputs}
    for info, checkpoint in zip(inputs, checkpoints, strict=True):
        if info.dtype not in FLOATS and info.dtype not in COPIED:
            raise MergeError(f"{name!r} is {info.dtype} in {checkpoint.label}. {why_not(info.dtype)}")
    if found.isdisjoint(COPIED):
        asked = recipe.out_dtype or recipe.dtype
        return DTYPES[asked] if asked else found.pop() if len(found) == 1 else "F32"
    if len(found) > 1:
        told = ", ".join(f"{i.dtype} in {c.label}" for i, c in zip(inputs, checkpoints, strict=True))
        raise MergeError(f"{name!r} is {told}. Whole numbers are copied, so the type must be the same in all models.")
    return found.pop()


def why_not(dtype: str) -> str:
    if dtype in ("F64", "C64"):
        return "Only bfloat16, float16 and float32 are merged: convert the model to one of them."
    return "That is a quantised type, which cannot be averaged: give the model it was quantised from."
