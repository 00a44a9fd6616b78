"""Decide what a merge will write and cost, from headers and a recipe; reads no weights but a look at stored heads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from merging.agreement import output_dtype
from merging.assembly import Assembly, Made, Stack, merge_whole
from merging.budget import Budget, make_budget
from merging.checkpoint import Checkpoint
from merging.donor import copied_files
from merging.errors import MergeError
from merging.header import DTYPE_BITS, FLOATS, TensorInfo, format_header
from merging.layer_config import stacked_config
from merging.methods import METHODS, Method
from merging.methods.spec import Granularity, Settings
from merging.recipe import ModelRef, Recipe, all_models, has_base, merged_sources, settings_in
from merging.stacking import stack_slices

REPORT_BYTES_PER_TENSOR = 1000  # of merge_report.json, roughly
REPORT_BYTES = 100_000  # the rest of it, card and recipe


@dataclass(frozen=True, slots=True)
class Step:
    """One output tensor: where it goes, and what it is made of."""

    name: str
    dtype: str  # safetensors name of the output type
    shape: tuple[int, ...]
    start: int  # absolute byte offsets in the shard file
    end: int
    inputs: tuple[TensorInfo, ...]
    has_base: bool  # the first input is the base
    sources: tuple[int, ...]  # which of Plan.models each input is of; a model may come again, or not at all
    names: tuple[str, ...]  # what each input is called in its model
    settings: Settings  # of this tensor, as the method's kernel takes them; empty where it is copied
    granularity: Granularity  # what must be in memory at once to merge it
    depth: float  # from 0 to 1 in the whole model or its slice: where it lies on gradients
    layer: int | None  # of the output; None outside of the layers
    layers: int  # how many the output has; 0 where they cannot be told

    @property
    def is_merged(self) -> bool:
        """False for tensors of integers or bools, which must be equal everywhere and are copied."""
        return self.dtype in FLOATS

    @property
    def numel(self) -> int:
        return self.inputs[0].numel

    @property
    def read_bytes(self) -> int:
        """Of all inputs, read once."""
        return sum(i.nbytes for i in self.inputs)


@dataclass(frozen=True, slots=True)
class Shard:
    """One output file: an independent unit of work, its header known before any tensor is computed."""

    file: str
    header: bytes
    steps: tuple[Step, ...]
    nbytes: int  # of the whole file


@dataclass(frozen=True, slots=True)
class Plan:
    """Immutable and serialisable: it serves the preview, the progress bar, the writer and the resume."""

    models: tuple[ModelRef, ...]  # base first when there is one
    shards: tuple[Shard, ...]
    read_bytes: int  # what the run reads, measures included
    write_bytes: int
    peak_memory_bytes: int  # what the process may hold at once, given its budget
    disk_bytes: int  # free space that the output needs
    budget: Budget  # how memory is divided
    stack: Stack = ()  # where the layers come from, if they were stacked anew

    @property
    def again_bytes(self) -> int:
        """What is read once more: of tensors that do not stay in memory between the passes over them."""
        return self.read_bytes - sum(step.read_bytes for shard in self.shards for step in shard.steps)

    @property
    def passing_bytes(self) -> int:
        """Free space that it needs where each shard leaves when it has been sent: two of them, and the rest."""
        return self.disk_bytes - self.write_bytes + sum(sorted(shard.nbytes for shard in self.shards)[-2:])


def make_plan(
    recipe: Recipe,
    checkpoints: Mapping[ModelRef, Checkpoint],
    *,
    shard_bytes: int,
    memory_bytes: int,
    threads: int,
    gpu: bool = False,
) -> Plan:
    """Raise MergeError where names or shapes differ, naming the models, the tensor and both values.

    Also where a tensor is of a type that cannot be merged, and where `memory_bytes` is too little.
    """
    models, method = all_models(recipe), METHODS[recipe.method]
    opened = [checkpoints[model] for model in models]
    assembly = stack_slices(recipe, opened) if recipe.slices else merge_whole(recipe, opened)
    stacked_config(assembly.stack, opened)  # which may refuse
    steps = [make_step(recipe, method, made, assembly, opened) for made in assembly.tensors]
    shards = lay_out(steps, shard_bytes)
    budget = make_budget(
        method.name, {s.name: s.inputs for s in steps}, memory_bytes, threads,
        measures=method.measure is not None, remote=sum(bool(c.source.repo_id) for c in opened),
        gpu=gpu, granularities={s.name: s.granularity for s in steps},
    )  # fmt: skip
    write_bytes = sum(s.nbytes for s in shards)
    others = sum(size for _, size in copied_files(opened[0])) + REPORT_BYTES + REPORT_BYTES_PER_TENSOR * len(steps)
    return Plan(
        models=models,
        shards=shards,
        read_bytes=sum(s.read_bytes * reads(method, s, budget) for s in steps),
        write_bytes=write_bytes,
        peak_memory_bytes=budget.peak_bytes,
        disk_bytes=write_bytes + others,
        budget=budget,
        stack=assembly.stack,
    )


def make_step(recipe: Recipe, method: Method, made: Made, assembly: Assembly, opened: Sequence[Checkpoint]) -> Step:
    """A tensor with its type and its settings, before it has its place in a file."""
    dtype, shape = output_dtype(recipe, made.name, made.inputs, [opened[i] for i in made.sources]), made.inputs[0].shape
    settings = settings_of(recipe, method, made) if dtype in FLOATS else {}
    granularity = method.granularity_of(settings, made.name, shape) if dtype in FLOATS else "element"
    return Step(
        made.name, dtype, shape, 0, 0, made.inputs, has_base(made.part, method), made.sources, made.names, settings,
        granularity, made.depth, made.layer, assembly.layers,
    )  # fmt: skip


def settings_of(recipe: Recipe, method: Method, made: Made) -> Settings:
    """Raises MergeError where a filter leaves the tensor without a value, or the values do not go together."""
    merged = merged_sources(made.part, method)
    settings = settings_in(recipe, made.part, made.names[-len(merged) :], made.name, made.depth)
    if fault := method.fault(settings):
        raise MergeError(f"At {made.name!r}: {fault}")
    return settings


def reads(method: Method, step: Step, budget: Budget) -> int:
    """How often the inputs of a tensor are read, most likely: once where they are held between the passes."""
    if not step.is_merged or budget.holds(step.shape, step.granularity):
        return 1
    is_spared = all(i.dtype == "BF16" for i in step.inputs)
    return 1 + method.passes(step.settings) - (method.spared(step.settings) if is_spared else 0)


def lay_out(steps: Sequence[Step], shard_bytes: int) -> tuple[Shard, ...]:
    """Give every tensor its place: files filled in order, the header of each complete."""
    packed = pack(steps, shard_bytes)
    return tuple(make_shard(shard_name(i, len(packed)), shard) for i, shard in enumerate(packed, 1))


def pack(steps: Sequence[Step], limit: int) -> list[list[Step]]:
    """Fill shards in order; a tensor larger than the limit gets one of its own."""
    if limit < 1:
        raise MergeError(f"The shard size is {limit} bytes; it must be at least 1.")
    shards: list[list[Step]] = [[]]
    filled = 0
    for step in steps:
        size = nbytes(step)
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(step)
        filled += size
    return shards


def nbytes(step: Step) -> int:
    return step.numel * DTYPE_BITS[step.dtype] // 8


def shard_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def make_shard(file: str, steps: Sequence[Step]) -> Shard:
    """The widest types first, so that every tensor is aligned to its element; readers map files and need that."""
    ordered = sorted(steps, key=lambda s: -DTYPE_BITS[s.dtype])
    header = format_header([(s.name, s.dtype, s.shape, nbytes(s)) for s in ordered])
    at, placed = len(header), []
    for step in ordered:
        placed.append(replace(step, start=at, end=at + nbytes(step)))
        at += nbytes(step)
    return Shard(file, header, tuple(placed), at)


def index_of(plan: Plan) -> dict[str, Any] | None:
    """The content of model.safetensors.index.json; None where one file holds everything."""
    if len(plan.shards) == 1:
        return None
    total = sum(step.end - step.start for shard in plan.shards for step in shard.steps)
    files = {step.name: shard.file for shard in plan.shards for step in shard.steps}
    return {"metadata": {"total_size": total}, "weight_map": files}


def to_json(plan: Plan) -> str:
    tree = asdict(plan)
    for shard in tree["shards"]:
        shard["header"] = shard["header"].decode("latin-1")
    return json.dumps(tree)


def from_json(text: str) -> Plan:
    tree = json.loads(text)
    models, budget = tuple(ModelRef(**m) for m in tree.pop("models")), Budget(**tree.pop("budget"))
    shards, stack = tuple(shard_from(s) for s in tree.pop("shards")), tuplified(tree.pop("stack"))
    return Plan(models=models, shards=shards, budget=budget, stack=stack, **tree)


def shard_from(tree: dict[str, Any]) -> Shard:
    steps = tuple(step_from(s) for s in tree["steps"])
    return Shard(tree["file"], tree["header"].encode("latin-1"), steps, tree["nbytes"])


def step_from(tree: dict[str, Any]) -> Step:
    inputs = tuple(TensorInfo(**i | {"shape": tuple(i["shape"])}) for i in tree.pop("inputs"))
    settings = {name: tuplified(value) for name, value in tree.pop("settings").items()}
    return Step(**{key: tuplified(value) for key, value in tree.items()}, inputs=inputs, settings=settings)


def tuplified(value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(map(tuplified, value)) if isinstance(value, list) else value


def estimate_seconds(plan: Plan, *, bytes_per_second: float) -> float:
    return (plan.read_bytes + plan.write_bytes) / bytes_per_second
