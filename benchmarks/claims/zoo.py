"""The models: a base, another pretraining, and what is trained plainly from each; made once and kept."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Generator

from benchmarks.claims import llama, tasks, training
from benchmarks.claims.llama import Weights, fresh, read, save
from benchmarks.claims.tasks import HELD_OUT, KNOWN, Skill
from benchmarks.claims.training import Course, fit

CACHE: Final = Path("~/.cache/alloy/claims")
BASE, STRANGER = "base", "stranger"


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the models of a seed. Chosen by the accuracy of base and fine-tunes, never by that of a merge."""

    base_steps: int = 2500
    base_rate: float = 2e-3
    base_noise: float = 0.1
    steps: int = 200  # of a fine-tune
    rate: float = 2e-4
    long_steps: int = 600
    soup_steps: int = 300
    soup_rates: tuple[float, ...] = (1e-4, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1.5e-3, 4e-3, 8e-3, 1.6e-2)
    soup_decays: tuple[float, ...] = (0.0, 0.1)  # in turn
    soup_examples: int = 1000
    soup_noise: float = 0.1


SOUP_SKILLS: Final = (Skill("median", 2), Skill("distinct", 0))
LONG_SKILLS: Final = (Skill("second", 2), Skill("median", 3), Skill("range", 1))


@dataclass(frozen=True, slots=True)
class Lesson:
    """A model to make: where it starts (None: at random) and what it is taught."""

    start: str | None
    course: Course


Stage = tuple[int, Mapping[str, Lesson]]  # so many steps for each of these, all at once


def tune_of(skill: Skill) -> str:
    return f"tune-{skill}"


def twin_of(skill: Skill) -> str:
    """The same as `tune_of`, with other examples."""
    return f"twin-{skill}"


def long_of(skill: Skill) -> str:
    return f"long-{skill}"


def foreign_of(skill: Skill) -> str:
    """Taught the same, from the other pretraining."""
    return f"foreign-{skill}"


def random_of(skill: Skill) -> str:
    """The base plus noise, in each tensor as large as the change of `tune_of`."""
    return f"random-{skill}"


def later(skill: Skill) -> Skill:
    """What is learnt after a skill, by those that learn two in turn."""
    return HELD_OUT[(HELD_OUT.index(skill) + 1) % len(HELD_OUT)]


def sequence_of(skill: Skill) -> str:
    """Taught `skill` and then `later(skill)`."""
    return f"then-{skill}-{later(skill)}"


def soup_of(skill: Skill, member: int) -> str:
    return f"soup-{skill}-{member}"


def stages(settings: Settings, seed: int) -> Iterator[Stage]:
    """Everything that is trained. No two courses of a seed, and no two seeds, see the same examples."""
    chance = iter(range(1_000_000 * (seed + 1), 1_000_000 * (seed + 2)))

    def pretraining() -> Lesson:
        noise, rate = settings.base_noise, settings.base_rate
        return Lesson(None, Course(skills=KNOWN, rate=rate, seed=next(chance), noise=noise))

    def lesson(start: str, skill: Skill) -> Lesson:
        return Lesson(start, Course(skills=(skill,), rate=settings.rate, seed=next(chance)))

    yield settings.base_steps, {name: pretraining() for name in (BASE, STRANGER)}
    tunes = {tune_of(skill): lesson(BASE, skill) for skill in HELD_OUT}
    twins = {twin_of(skill): lesson(BASE, skill) for skill in HELD_OUT}
    foreign = {foreign_of(skill): lesson(STRANGER, skill) for skill in HELD_OUT}
    yield settings.steps, tunes | twins | foreign
    yield settings.steps, {sequence_of(skill): lesson(tune_of(skill), later(skill)) for skill in HELD_OUT}
    yield settings.long_steps, {long_of(skill): lesson(BASE, skill) for skill in LONG_SKILLS}
    for skill in SOUP_SKILLS:
        yield settings.soup_steps, soup(settings, skill, chance)


def soup(settings: Settings, skill: Skill, chance: Iterator[int]) -> dict[str, Lesson]:
    """Members that learn from one small set with some wrong answers, each with hyperparameters of its own."""
    found = {}
    for member, rate in enumerate(settings.soup_rates):
        decay = settings.soup_decays[member % len(settings.soup_decays)]
        course = Course(
            skills=(skill,), rate=rate, seed=next(chance), noise=settings.soup_noise,
            examples=settings.soup_examples, decay=decay,
        )  # fmt: skip
        found[soup_of(skill, member)] = Lesson(BASE, course)
    return found


def key_of(settings: Settings) -> str:
    """Names the models of these settings: others have another name."""
    decisive: dict[str, Any] = {
        "settings": asdict(settings),
        "shapes": llama.shapes(),
        "tasks": [tasks.NAMES, tasks.HELD_OUT, tasks.ALPHABETS, tasks.SYMBOLS, tasks.LENGTH],
        "training": [training.BATCH, training.WARMUP, training.BETAS, training.CLIP],
        "skills": [SOUP_SKILLS, LONG_SKILLS],
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def ensure_zoo(cache: Path, settings: Settings, seed: int) -> Path:
    """The folder with one folder for each model of a seed; trained when it is not there."""
    folder = cache.expanduser() / key_of(settings) / f"seed-{seed}"
    if not folder.is_dir():
        staged = folder.with_name(folder.name + ".part")
        shutil.rmtree(staged, ignore_errors=True)
        started = time.process_time()
        train(staged, settings, seed)
        (staged / "training.json").write_text(json.dumps({"core_seconds": round(time.process_time() - started, 1)}))
        staged.rename(folder)
    return folder


def core_seconds(folder: Path) -> float:
    return float(json.loads((folder / "training.json").read_text())["core_seconds"])


def train(folder: Path, settings: Settings, seed: int) -> None:
    for steps, lessons in stages(settings, seed):
        starts = [fresh(one.course.seed) if one.start is None else read(folder / one.start) for one in lessons.values()]
        trained = fit(starts, [one.course for one in lessons.values()], steps)
        for name, weights in zip(lessons, trained, strict=True):
            save(weights, folder / name)
    base = read(folder / BASE)
    for number, skill in enumerate(HELD_OUT):
        chance = Generator().manual_seed(1000 * seed + number)
        save(shaken(base, read(folder / tune_of(skill)), chance), folder / random_of(skill))


def shaken(base: Weights, tune: Weights, chance: Generator) -> Weights:
    """The base plus, in every tensor, a random vector as long as the tune's change."""
    found = {}
    for name, start in base.items():
        noise = torch.randn(start.shape, generator=chance)
        found[name] = start + noise * ((tune[name] - start).norm() / noise.norm())
    return found
