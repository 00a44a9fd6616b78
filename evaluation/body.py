"""The transformers model that a merge in memory computes with: its parameters are the memory that is merged into."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from evaluation.loading import refuse_unloadable
from merging.checkpoint import Checkpoint
from merging.donor import copied_files, with_dtype
from merging.errors import MergeError
from merging.held import steps_of
from merging.layer_config import stacked_config
from merging.methods.arrays import Bytes
from merging.plan import Plan
from merging.recipe import ModelRef
from merging.report import written_dtype
from merging.writer import write_files

DTYPES = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "BOOL": torch.bool, "U8": torch.uint8,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
}  # fmt: skip
GENERATION = "generation_config.json"

Layout = tuple[tuple[str, str, tuple[int, ...]], ...]  # names, types and shapes


class NotInPlace(MergeError):
    """A merge of these models has to be written to be computed with."""


@dataclass(slots=True)
class Body:
    """A model and its tokenizer, and the memory of its weights by their names in files."""

    model: Any
    tokenizer: Any
    layout: Layout
    memory: Mapping[str, Bytes]
    copies: tuple[tuple[Tensor, Tensor], ...]  # weights that lie elsewhere, or in another type: to, and from where

    def fits(self, plan: Plan) -> bool:
        return self.layout == layout_of(plan)

    def settle(self) -> None:
        """Bring what was merged to where the model computes with it."""
        with torch.inference_mode():
            for to, made in self.copies:
                to.copy_(made)


def layout_of(plan: Plan) -> Layout:
    return tuple((step.name, step.dtype, step.shape) for step in steps_of(plan))


def build_body(
    plan: Plan, checkpoints: Mapping[ModelRef, Checkpoint], folder: Path, device: str = "cpu", *, in_place: bool = False
) -> Body:
    """A model of the config and the tokenizer that the merge would have, its weights yet to be merged.

    `folder` has the small files of the model that gives them; `device` is where the model computes. With `in_place` it
    is merged there as well, else in the machine's memory. Raises MergeError where transformers cannot compute with the
    weights as they are named and shaped in files: it would have to convert them after every merge.
    """
    opened = [checkpoints[model] for model in plan.models]
    config = with_dtype(stacked_config(plan.stack, opened), written_dtype(plan))
    (folder / "config.json").write_text(json.dumps(config))
    refuse_unloadable(folder)
    weights = {s.name: torch.zeros(s.shape, dtype=DTYPES[s.dtype]) for s in steps_of(plan)}
    model = shaped(folder, weights)
    copies = tuple(copied(model, weights))
    if device != "cpu" or in_place:
        model.to(device)
        weights = its_own(model, weights, device) if in_place else weights
        copies = tuple(copied(model, weights))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    raw = {name: weight.reshape(-1).view(torch.uint8) for name, weight in weights.items()}
    memory: Any = raw if in_place else {name: one.numpy() for name, one in raw.items()}
    return Body(model, tokenizer, layout_of(plan), memory, copies)


def shaped(folder: Path, weights: Mapping[str, Tensor]) -> Any:
    """The model, as transformers makes it of a folder with these weights."""
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    kind: Any = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model, told = kind.from_pretrained(
        None, config=config, state_dict=dict(weights), dtype="auto", output_loading_info=True
    )
    wrong = [*told["missing_keys"], *told["unexpected_keys"], *(str(key) for key in told["mismatched_keys"])]
    if wrong:
        raise not_one_to_one(config.model_type, sorted(wrong)[0])
    if (folder / GENERATION).exists():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def copied(model: Any, weights: Mapping[str, Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
    """The weights that the model does not share, each with where it has them."""
    mine = model.state_dict(keep_vars=True)
    for name, weight in weights.items():
        if name not in mine or mine[name].shape != weight.shape:
            raise not_one_to_one(model.config.model_type, name)
        if not is_shared(mine[name], weight):
            yield mine[name], weight


def its_own(model: Any, weights: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """What the model has on its device in place of each weight; a place of its own there where types differ."""
    mine, found, taken = model.state_dict(), dict[str, Tensor](), set[int]()
    for name, weight in weights.items():
        own = mine.get(name)
        if own is None or own.dtype != weight.dtype or own.shape != weight.shape or own.data_ptr() in taken:
            own = torch.zeros_like(weight, device=device)
        taken.add(own.data_ptr())
        found[name] = own
    return found


def is_shared(parameter: Tensor, weight: Tensor) -> bool:
    return (parameter.data_ptr(), parameter.dtype, parameter.device) == (weight.data_ptr(), weight.dtype, weight.device)


def not_one_to_one(model_type: str, name: str) -> NotInPlace:
    return NotInPlace(
        f"transformers has the weights of {model_type} in another form than its files ({name!r}), so they cannot be "
        "merged in place. Merge the models, then chat with the merge."
    )


def small_files(plan: Plan, checkpoints: Mapping[ModelRef, Checkpoint], into: Path) -> dict[ModelRef, Path]:
    """The tokenizer and all else that comes whole from a model: of each, for another method may take it first."""
    folders = {}
    into.mkdir(parents=True, mode=0o700)
    for number, model in enumerate(plan.models):
        folders[model] = folder = into / str(number)
        folder.mkdir()
        source = checkpoints[model].source
        write_files(folder, [(file, source.read(file, 0, nbytes)) for file, nbytes in copied_files(checkpoints[model])])
    return folders
