"""Train and measure the pocket models: python -m space.demo.train [--out DIR] [--only NAME ...]"""

import argparse
import json
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaForCausalLM
from transformers.utils import logging

from space.demo.accuracy import measure_and_write
from space.demo.fitting import Schedule, fit, new_model
from space.demo.mixture import Source, source_of_pirates, source_of_pretraining, source_of_skills
from space.demo.renumber import renumber, shuffled_ids
from space.demo.tokenizer import END, PAD, build_tokenizer, id_of, numbered, publishable
from space.demo.zoo import BASE, FINE_TUNES, MODELS, NAMES, PIRATE, RENUMBERED, STRANGER, FineTune, folder_of

WORKERS = 2
MAX_SHARD_SIZE = "700KB"  # two shards each, so that the demo shows sharded models

PRETRAINING = {
    BASE: Schedule(steps=2600, rate=2e-3, seed=0, warmup=50, noise=0.15, noise_from=300),
    STRANGER: Schedule(steps=1500, rate=2e-3, seed=7, warmup=50, noise=0.15, noise_from=300),
}


def schedule_of(model: FineTune) -> Schedule:
    steps = 130 if PIRATE in model.skills else 200 if len(model.skills) == 1 else 260
    return Schedule(steps=steps, rate=5e-4, seed=1, frozen=("embed", "norm"), scales=(0.5, 1.2), noise=0.3)


def source_of(model: FineTune) -> Source:
    return source_of_pirates if PIRATE in model.skills else source_of_skills(*model.skills)


def pretrain(name: str, models: Path) -> None:
    ids = numbered()
    model = new_model(PRETRAINING[name].seed, ids)
    train_and_save(name, model, source_of_pretraining(), PRETRAINING[name], models)


def fine_tune(name: str, models: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder_of(BASE, models), dtype=torch.float32)
    recipe = next(model for model in FINE_TUNES if model.name == name)
    train_and_save(name, model, source_of(recipe), schedule_of(recipe), models)


def train_and_save(name: str, model: LlamaForCausalLM, source: Source, schedule: Schedule, models: Path) -> None:
    started = time.process_time()  # of one core, whatever else the machine does
    tokenizer = build_tokenizer()
    model.set_attn_implementation("eager")  # twice as fast as the fused kernel for texts this short
    loss = fit(model, tokenizer, source, schedule)
    save(name, model, tokenizer, models)
    facts = {"steps": schedule.steps, "seed": schedule.seed, "loss": loss, "seconds": time.process_time() - started}
    facts = {key: round(value, 4) for key, value in facts.items()}
    (folder_of(name, models) / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def make_renumbered(models: Path) -> None:
    """Not trained: pocket-reverse with another tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder_of("pocket-reverse", models))
    new = shuffled_ids(seed=3)
    renumber(model, numbered(), new)
    save(RENUMBERED, model, build_tokenizer(new), models)


def save(name: str, model: LlamaForCausalLM, tokenizer: Tokenizer, models: Path) -> None:
    folder = folder_of(name, models)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=48, do_sample=False, eos_token_id=id_of(tokenizer, END), pad_token_id=id_of(tokenizer, PAD)
    )
    model.bfloat16()
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)
    publishable(tokenizer).save_pretrained(folder)


def work(name: str, models: Path) -> str:
    """One job of one process. One thread each: two of these beat one with two threads."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    started = time.monotonic()
    if name == RENUMBERED:
        make_renumbered(models)
    else:
        (pretrain if name in PRETRAINING else fine_tune)(name, models)
    return f"{name}: {time.monotonic() - started:.0f} s"


def train(names: Iterable[str], models: Path) -> None:
    """First what starts from nothing, then what starts from the base, then what is made of these."""
    wanted = [name for name in NAMES if name in set(names)]
    tuned = [model.name for model in FINE_TUNES]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as workers:
        for stage in (PRETRAINING, tuned, [RENUMBERED]):
            todo = [name for name in wanted if name in stage]
            for line in workers.map(work, todo, [models] * len(todo)):
                print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket models.")
    parser.add_argument("--out", type=Path, default=MODELS, help="the folder to write to")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="some models only")
    arguments = parser.parse_args()
    train(arguments.only, arguments.out)
    if set(arguments.only) == set(NAMES):
        print(measure_and_write(arguments.out))


if __name__ == "__main__":
    main()
