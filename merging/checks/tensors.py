"""Whether every tensor has its counterpart in every model."""

from collections.abc import Iterator, Sequence

from merging.agreement import COPIED, redundant_heads, ties_embeddings
from merging.checks.facts import Facts
from merging.findings import Finding, block, counted, listed, ok, warn
from merging.header import FLOATS
from merging.recipe import Recipe

NAMED = 3  # tensors named in a finding
ADAPTER = (".lora_A.", ".lora_B.", "lora_magnitude_vector", ".lora_embedding_")
PACKED = ("weight", "qweight", "weight_packed")  # what is whole numbers under such a name is codes
TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def check_tensors(models: Sequence[Facts], recipe: Recipe) -> Iterator[Finding]:
    found = [*tying(models)] or [*names(models), *shapes(models)]
    yield from found
    yield from check_types(models, recipe)
    if not found and len(models) > 1:
        count = len(models[0].checkpoint.tensors)
        yield ok("tensors", f"All {count:,} tensors have their counterparts, in the same shapes.")


def check_types(models: Sequence[Facts], recipe: Recipe) -> Iterator[Finding]:
    yield from dtypes(models, recipe)
    yield from codes(models)


def tying(models: Sequence[Facts]) -> Iterator[Finding]:
    """Whether all models take their input embeddings for the output head, or none does."""
    tied = {m.label: ties_embeddings(m.checkpoint) for m in models}
    if len(set(tied.values())) > 1:
        yield block(
            "tied-embeddings",
            "Some models use their input embeddings as output head, others have a head of their own.",
            {label: "shared" if yes else "a head of its own" for label, yes in tied.items()},
            why="The head of the one is the embedding table of the other; they cannot be merged entry by entry.",
            remedy="Choose models that agree, or save one of them again in the way of the others.",
            computable=False,
        )


def names(models: Sequence[Facts]) -> Iterator[Finding]:
    first, *rest = models
    dropped = redundant_heads([m.checkpoint for m in models])
    wanted = first.checkpoint.tensors.keys() - dropped
    for other in rest:
        there = other.checkpoint.tensors.keys() - dropped
        if missing := sorted(wanted - there):
            yield missing_tensors(first, other, missing)
        if extra := sorted(there - wanted):
            yield extra_tensors(first, other, extra)


def missing_tensors(first: Facts, other: Facts, missing: Sequence[str]) -> Finding:
    remedy = "Merge models with the same tensors; usually these are fine-tunes of one base."
    if any(mark in name for name in other.checkpoint.tensors for mark in ADAPTER):
        remedy = f"{other.label} is an adapter (LoRA). Merge it into its base first (PEFT's merge_and_unload)."
    return block(
        "missing-tensors",
        f"{other.label} lacks {len(missing):,} of the {len(first.checkpoint.tensors):,} tensors of {first.label}.",
        {first.label: "has them", other.label: f"lacks {some(missing)}"},
        why="A tensor without a counterpart cannot be merged, and Alloy never leaves one out silently.",
        remedy=remedy,
        computable=False,
    )


def extra_tensors(first: Facts, other: Facts, extra: Sequence[str]) -> Finding:
    return block(
        "extra-tensors",
        f"{other.label} has {counted(len(extra), 'tensor')} that {first.label} lacks.",
        {first.label: f"lacks {some(extra)}", other.label: "has them"},
        why="A tensor without a counterpart cannot be merged, and Alloy never leaves one out silently.",
        remedy="Merge models with the same tensors; usually these are fine-tunes of one base.",
        computable=False,
    )


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def shapes(models: Sequence[Facts]) -> Iterator[Finding]:
    first, *rest = models
    for other in rest:
        theirs = other.checkpoint.tensors
        wrong = [n for n, info in first.checkpoint.tensors.items() if n in theirs and theirs[n].shape != info.shape]
        if wrong:
            name = wrong[0]
            shape = {m.label: m.checkpoint.tensors[name].shape for m in (first, other)}
            yield block(
                "different-shapes",
                f"{other.label} has {counted(len(wrong), 'tensor')} in another shape than {first.label}.",
                {label: f"{name} is {list(s)}" for label, s in shape.items()},
                why="Entries are merged one by one; where the shapes differ they have no counterpart. Cutting to the "
                "common part would drop words or heads.",
                remedy="Merge models of one size. Where only the embeddings differ, one of them had tokens added.",
                computable=False,
            )


def dtypes(models: Sequence[Facts], recipe: Recipe) -> Iterator[Finding]:
    stored = {m.label: sorted({i.dtype for i in m.checkpoint.tensors.values() if i.dtype in FLOATS}) for m in models}
    if len({tuple(found) for found in stored.values()}) < 2:
        return
    asked = recipe.out_dtype or recipe.dtype
    written = f"written as {asked}, as the recipe says" if asked else "written as float32 wherever the types differ"
    yield warn(
        "mixed-dtypes",
        "The models are stored in different types.",
        {label: ", ".join(TORCH_NAMES[d] for d in found) or "no floats" for label, found in stored.items()},
        why=f"The merge is computed in float32 and {written}.",
        remedy="Nothing needs to be done." if asked else "Set dtype in the recipe if you want another type.",
    )


def codes(models: Sequence[Facts]) -> Iterator[Finding]:
    """Weights in a type that can only hold the codes of a quantisation."""
    named = {m.label: some(coded) for m in models if (coded := coded_tensors(m))}
    if named:
        yield block(
            "quantised",
            f"{listed(named)} {'keeps' if len(named) == 1 else 'keep'} weights in a quantised type.",
            named,
            why="Quantised weights are codes, not numbers: the mean of two codes is not the code of the mean.",
            remedy="Use the model in its original type. Quantise the merge afterwards.",
            computable=False,
        )


def coded_tensors(model: Facts) -> list[str]:
    """None where the config says it already. Whole numbers under other names are buffers, which are copied."""
    if model.config.get("quantization_config"):
        return []
    tensors = model.checkpoint.tensors.items()
    return [
        name for name, info in tensors
        if info.dtype.startswith(("F8", "F6", "F4")) or (info.dtype in COPIED and name.endswith(PACKED))
    ]  # fmt: skip
