"""Checkpoints to merge: a base and four fine-tunes of it, as folders such as the Hub holds them."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.llama import Shape
from benchmarks.vocabulary import build_tokenizer, write_tokenizer

BASE, FINE_TUNES = "base", ("chat", "code", "law", "maths")
SPREAD = 0.02  # standard deviation of a fresh model's weights
CHANGE = 4e-4  # of what a fine-tune adds: 2 % of the base's norm, three to four steps of bfloat16
SHARD_BYTES = 1_000_000_000
CHUNK = 8_000_000  # numbers drawn at once

Tensors = Mapping[str, Tensor]


def ensure_checkpoints(cache: Path, shape: Shape, seed: int, tunes: Sequence[str] = FINE_TUNES) -> Path:
    """The folder with one folder for each model; made when it is not there."""
    family = cache / "-".join([shape.name, f"seed{seed}", *(tunes if tunes != FINE_TUNES else ())])
    if not family.is_dir():
        staged = family.with_name(family.name + ".part")
        shutil.rmtree(staged, ignore_errors=True)
        generate(staged, shape, seed, tunes)
        staged.rename(family)
    return family


def generate(family: Path, shape: Shape, seed: int, tunes: Sequence[str]) -> None:
    shards = pack(shape.tensors())
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    tokenizer = build_tokenizer(shape.vocab)
    for name in (BASE, *tunes):
        write_small_files(family / name, shape, tokenizer, dict(zip(files, shards, strict=True)))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for file, shapes in zip(files, shards, strict=True):
            base = draw_base(shapes, seed)
            save_file(dict(base), family / BASE / file, metadata={"format": "pt"})
            list(pool.map(partial(write_fine_tune, family, file, base, seed), tunes))


def pack(tensors: Mapping[str, tuple[int, ...]]) -> list[dict[str, tuple[int, ...]]]:
    """Tensors in order, as many to a shard as it holds."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in tensors.items():
        if shards[-1] and nbytes([*shards[-1].values(), shape]) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    return shards


def nbytes(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(2 * prod(shape) for shape in shapes)


def write_small_files(
    folder: Path, shape: Shape, tokenizer: Tokenizer, shards: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> None:
    folder.mkdir(parents=True)
    generation = {k: shape.config()[k] for k in ("bos_token_id", "eos_token_id")}
    index = {
        "metadata": {"total_size": nbytes(shape.tensors().values())},
        "weight_map": {name: file for file, tensors in shards.items() for name in tensors},
    }
    contents = {"config": shape.config(), "generation_config": generation, "model.safetensors.index": index}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    write_tokenizer(tokenizer, folder)


def write_fine_tune(family: Path, file: str, base: Tensors, seed: int, model: str) -> None:
    changed = {name: draw(t.shape, chance(seed, model, name), CHANGE, start=t) for name, t in base.items()}
    save_file(changed, family / model / file, metadata={"format": "pt"})


def draw_base(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Tensors:
    return {
        name: draw(shape, chance(seed, BASE, name), SPREAD, mean=1.0 if name.endswith("norm.weight") else 0.0)
        for name, shape in shapes.items()
    }


def chance(seed: int, model: str, tensor: str) -> torch.Generator:
    """Random numbers for one tensor, the same whenever it is made."""
    digest = hashlib.blake2b(f"{seed}/{model}/{tensor}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def draw(
    shape: Iterable[int], generator: torch.Generator, spread: float, *, mean: float = 0.0, start: Tensor | None = None
) -> Tensor:
    """Gaussian numbers in bfloat16, added to `start` where there is one."""
    made = torch.empty(tuple(shape), dtype=torch.bfloat16)
    flat, before = made.view(-1), None if start is None else start.view(-1)
    for at in range(0, flat.numel(), CHUNK):
        part = flat[at : at + CHUNK]
        noise = torch.empty(part.shape).normal_(mean, spread, generator=generator)
        part.copy_(noise if before is None else noise.add_(before[at : at + CHUNK]))
    return made
