"""Which pocket models there are, and where they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

OWNER: Final = "alloy"
MODELS: Final = Path(__file__).parent / "models"
BASE: Final = "pocket-base"
STRANGER: Final = "pocket-stranger"
RENUMBERED: Final = "pocket-renumbered"
PIRATE: Final = "pirate"


@dataclass(frozen=True, slots=True)
class FineTune:
    """A model made from the base, and what it was taught: tasks by their English name, or to talk like a pirate."""

    name: str
    skills: tuple[str, ...]


FINE_TUNES: Final = (
    FineTune("pocket-reverse", ("reverse",)),
    FineTune("pocket-add", ("add",)),
    FineTune("pocket-vowels", ("vowels",)),
    FineTune("pocket-double", ("double",)),
    FineTune("pocket-pirate", (PIRATE,)),
    FineTune("pocket-reverse-add", ("reverse", "add")),
)
SKILLS: Final = tuple(model.skills[0] for model in FINE_TUNES if len(model.skills) == 1)
NAMES: Final = (BASE, *(model.name for model in FINE_TUNES), STRANGER, RENUMBERED)


def skills_of(name: str) -> tuple[str, ...]:
    """What a model can do beyond its base's own tasks."""
    if name == RENUMBERED:
        return ("reverse",)
    return next((model.skills for model in FINE_TUNES if model.name == name), ())


def folder_of(name: str, models: Path = MODELS) -> Path:
    return models / OWNER / name
