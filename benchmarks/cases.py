"""What is merged: the recipes that both tools are given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.checkpoints import BASE, FINE_TUNES


@dataclass(frozen=True, slots=True)
class Case:
    """One recipe. With a base, `models` are those beside it."""

    name: str
    method: str
    models: tuple[str, ...]
    base: str | None = None
    weight: tuple[float, ...] = ()  # one for each model, or none
    settings: Mapping[str, float] = field(default_factory=dict)
    is_random: bool = False
    in_float32: bool = False  # by dtype: mergekit otherwise computes in the type of the files, Alloy never does

    @property
    def folders(self) -> tuple[str, ...]:
        """Every model that is read."""
        return (self.base, *self.models) if self.base else self.models

    def recipe(self, family: Path) -> str:
        given = [{"parameters": {"weight": w}} for w in self.weight] or [{}] * len(self.models)
        tree: dict[str, Any] = {
            "merge_method": self.method,
            "base_model": str(family / self.base) if self.base else None,
            "models": [{"model": str(family / m)} | g for m, g in zip(self.models, given, strict=True)],
            "parameters": dict(self.settings),
            "dtype": "float32" if self.in_float32 else "bfloat16",
            "out_dtype": "bfloat16" if self.in_float32 else None,
        }
        if self.method == "slerp":  # mergekit wants the base among the models
            tree["models"].insert(0, {"model": str(family / BASE)})
        return yaml.safe_dump({k: v for k, v in tree.items() if v}, sort_keys=False)


# Crooked on purpose: changes are small multiples of bfloat16 steps, so that round weights would often tie the vote and
# leave it to the last bit.
THREE, LAMBDAS = FINE_TUNES[:3], (0.6137, 0.4271, 0.5093)
FOUR, SHARES = FINE_TUNES, (0.4, 0.3, 0.2, 0.1)
FIFTH, HALF = {"density": 0.2}, {"density": 0.5}

CASES = {
    case.name: case
    for case in (
        Case("linear", "linear", FOUR, weight=SHARES),
        Case("linear-float32", "linear", FOUR, weight=SHARES, in_float32=True),
        Case("slerp", "slerp", FINE_TUNES[:1], base=BASE, settings={"t": 0.4}),
        Case("task_arithmetic", "task_arithmetic", THREE, base=BASE, weight=LAMBDAS),
        Case("ties", "ties", THREE, base=BASE, weight=LAMBDAS, settings=FIFTH),
        Case("dare_linear", "dare_linear", THREE, base=BASE, weight=LAMBDAS, settings=FIFTH, is_random=True),
        Case("dare_ties", "dare_ties", THREE, base=BASE, weight=LAMBDAS, settings=FIFTH, is_random=True),
        Case("passthrough", "passthrough", FINE_TUNES[:1]),
        Case("breadcrumbs", "breadcrumbs", THREE, base=BASE, weight=LAMBDAS, settings=FIFTH),
        Case("breadcrumbs_ties", "breadcrumbs_ties", THREE, base=BASE, weight=LAMBDAS, settings=FIFTH),
        Case("della", "della", THREE, base=BASE, weight=LAMBDAS, settings=HALF, is_random=True),
        Case("della_linear", "della_linear", THREE, base=BASE, weight=LAMBDAS, settings=HALF, is_random=True),
        Case("sce", "sce", THREE, base=BASE, settings={"select_topk": 0.2}),
        Case("ram", "ram", THREE, base=BASE),
        Case("ramplus_tl", "ramplus_tl", THREE, base=BASE),
        Case("nuslerp", "nuslerp", FINE_TUNES[:2], weight=(0.6, 0.4)),
        Case("multislerp", "multislerp", THREE, weight=(0.5, 0.3, 0.2)),
        Case("karcher", "karcher", FINE_TUNES[:2]),
        Case("model_stock", "model_stock", THREE, base=BASE),
        Case("nearswap", "nearswap", FINE_TUNES[:1], base=BASE, settings={"t": 3e-4}),
        Case("arcee_fusion", "arcee_fusion", FINE_TUNES[:1], base=BASE),
    )
}


def choose(names: Iterable[str]) -> list[Case]:
    """The cases of these names, all when there are none. Raises ValueError with the names there are."""
    wanted = list(names)
    if unknown := [name for name in wanted if name not in CASES]:
        raise ValueError(f"{unknown[0]!r} is not measured here; choose from {', '.join(CASES)}")
    return [case for case in CASES.values() if not wanted or case.name in wanted]
