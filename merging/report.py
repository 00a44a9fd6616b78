"""What is told about a merge: the recipe that makes it again, and the report of what was done."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from merging import __version__
from merging.card import read_front_matter, with_repo_id, write_card
from merging.checkpoint import MAX_JSON_BYTES, Checkpoint
from merging.methods import METHODS
from merging.naming import private_recipe, public_names, public_recipe, without_paths
from merging.plan import Plan, Step
from merging.recipe import DTYPES, ModelRef, Recipe, Slice, kernel_sources, parameters_tree, parts_of, to_yaml
from merging.values import Parameters, plain_tree

RECIPE, REPORT, CARD = "merge_recipe.yaml", "merge_report.json", "README.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What only the run itself can tell."""

    started: datetime
    finished: datetime
    device: str
    shard_bytes: int
    sha256: Mapping[str, str]  # shard file -> digest


def make_report(
    recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint], plan: Plan, outcome: Outcome, findings: Sequence[object]
) -> dict[str, Any]:
    """The content of merge_report.json, which the model card is written from as well."""
    names = public_names(checkpoints)
    labels = [names[model] for model in plan.models]
    told = without_paths([asdict(f) for f in findings if is_dataclass(f) and not isinstance(f, type)], checkpoints)
    donor = checkpoints[plan.models[0]].config
    return {
        "alloy": __version__,
        "method": {field: getattr(METHODS[recipe.method], field) for field in ("name", "title", "summary", "paper")},
        "seed": recipe.seed,
        "recipe": to_yaml(public_recipe(recipe, checkpoints)),
        "models": [describe_model(recipe, model, names[model], checkpoints[model]) for model in plan.models],
        "parameters": shared_values(recipe),
        "slices": [describe_slice(recipe, part, names) for part in parts_of(recipe) if recipe.slices],
        "dtype": written_dtype(plan),
        "model_type": donor.get("model_type"),
        "architectures": donor.get("architectures"),
        "parameter_count": sum(s.numel for shard in plan.shards for s in shard.steps),
        "findings": told,
        "allowed": [f["id"] for f in told if f.get("level") == "block"],
        "shard_bytes": outcome.shard_bytes,
        "shards": [{"file": s.file, "bytes": s.nbytes, "sha256": outcome.sha256[s.file]} for s in plan.shards],
        "tensors": [describe_step(recipe, s, shard.file, labels) for shard in plan.shards for s in shard.steps],
        "read_bytes": plan.read_bytes,
        "written_bytes": plan.write_bytes,
        "started": outcome.started.isoformat(timespec="seconds"),
        "finished": outcome.finished.isoformat(timespec="seconds"),
        "seconds": round((outcome.finished - outcome.started).total_seconds(), 3),
        "device": outcome.device,
        "versions": {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")},
    }


def shared_values(recipe: Recipe) -> dict[str, Any]:
    """The parameters that are not of single models, defaults included, as a recipe has them."""
    given = recipe.parameters
    params = (p for p in METHODS[recipe.method].params if not p.per_model)
    return {p.name: plain_tree(given[p.name]) if p.name in given else p.default for p in params}


def describe_model(recipe: Recipe, model: ModelRef, name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """One parent: what it was, and with which parameters it went in. Those of its layers stand with the slices."""
    own = next((one.parameters for one in recipe.models if one.model == model), None)
    is_base = model == recipe.base
    merged = own is not None and not (is_base and METHODS[recipe.method].takes_base)
    return {
        "label": name,
        "repo_id": checkpoint.source.repo_id,
        "revision": checkpoint.source.revision,
        "role": "base" if is_base else "merged",
        "shards": describe_shards(checkpoint),
        "parameters": values_of(recipe, own or {}, recipe.parameters) if merged else {},
    }


def values_of(recipe: Recipe, *levels: Parameters) -> dict[str, Any]:
    """What each parameter of one model is: on the first level that gives it, else by default."""
    found = {}
    for p in METHODS[recipe.method].params:
        if p.per_model:
            found[p.name] = next((plain_tree(given[p.name]) for given in levels if p.name in given), p.default)
    return found


def describe_slice(recipe: Recipe, part: Slice, names: Mapping[ModelRef, str]) -> dict[str, Any]:
    """Some layers of the merge: of which models, which of their layers, with which parameters."""
    return {
        "base": names[part.base] if part.base and METHODS[recipe.method].takes_base else None,
        "parameters": parameters_tree(part.parameters),
        "sources": [
            {"label": names[one.model], "layer_range": one.layers, "parameters": parameters_tree(one.parameters)}
            for one in kernel_sources(part, METHODS[recipe.method])
        ],
    }


def describe_shards(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The files that were read from the Hub, and what was verified of each; none of a folder."""
    sizes, verified = checkpoint.source.sizes(), checkpoint.source.verified()
    return [
        {"file": file, "bytes": sizes[file], "verified": found}
        for file in checkpoint.shards if (found := verified.get(file))
    ]  # fmt: skip


def describe_step(recipe: Recipe, step: Step, shard: str, labels: Sequence[str]) -> dict[str, Any]:
    renamed = {"names": step.names} if any(name != step.name for name in step.names) else {}
    return {
        "name": step.name,
        "shape": step.shape,
        "dtype": step.dtype,
        "shard": shard,
        "sources": [labels[i] for i in step.sources],
        **renamed,  # what it is called there
        "method": recipe.method if step.is_merged else "copy",
        "parameters": named(step.settings),
    }


def named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their names in recipes."""
    return {name.rstrip("_"): value for name, value in settings.items()}


def written_dtype(plan: Plan) -> str:
    """The type that most of the merged bytes have, by its name in configs."""
    names = {stored: name for name, stored in DTYPES.items()}
    sizes: dict[str, int] = {}
    for step in (s for shard in plan.shards for s in shard.steps if s.is_merged):
        sizes[step.dtype] = sizes.get(step.dtype, 0) + step.end - step.start
    return names[max(sizes, key=lambda dtype: sizes[dtype])] if sizes else "float32"


def read_cards(checkpoints: Mapping[ModelRef, Checkpoint]) -> dict[str, Any]:
    """The front matter of each model's card, by its name; none where the card is too large to be one."""
    names = public_names(checkpoints)
    return {names[ref]: read_card(c) for ref, c in checkpoints.items()}


def read_card(checkpoint: Checkpoint) -> Mapping[str, Any]:
    fits = checkpoint.source.sizes().get(CARD, 0) <= MAX_JSON_BYTES
    return read_front_matter((checkpoint.text(CARD) or "") if fits else "")


@dataclass(frozen=True, slots=True)
class Record:
    """All that is told of a merge, but for how it came out."""

    recipe: Recipe
    checkpoints: Mapping[ModelRef, Checkpoint]
    plan: Plan
    findings: Sequence[object]
    cards: Mapping[str, Any]  # the front matter of each model's card
    device: str
    shard_bytes: int
    repo_id: str | None = None  # where it is published, if that is known already

    def files(self, started: datetime, finished: datetime, sha256: Mapping[str, str]) -> dict[str, bytes]:
        """The recipe, the report and the card by name. The recipe alone tells where folders lie."""
        outcome = Outcome(started, finished, self.device, self.shard_bytes, sha256)
        report = make_report(self.recipe, self.checkpoints, self.plan, outcome, self.findings)
        card = write_card(report, self.cards)
        return {
            RECIPE: to_yaml(private_recipe(self.recipe, self.checkpoints)).encode(),
            REPORT: (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode(),
            CARD: (with_repo_id(card, self.repo_id) if self.repo_id else card).encode(),
        }

    def draft(self) -> str:
        """The card as far as it is known before the weights are."""
        none = dict.fromkeys((shard.file for shard in self.plan.shards), "0" * 64)
        return self.files(now(), now(), none)[CARD].decode()

    def public_recipe(self) -> bytes:
        return to_yaml(public_recipe(self.recipe, self.checkpoints)).encode()


def now() -> datetime:
    return datetime.now(UTC)
