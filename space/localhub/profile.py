"""What the Hub tells about a model: read from its files at one revision, each fact when it is asked for."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from space.localhub.errors import BadRequest
from space.localhub.front_matter import InvalidCard, front_matter, listed
from space.localhub.objects import Objects, pointer
from space.localhub.records import Commit, FileInfo, Repo
from space.localhub.store import Store

# What a client may ask to be expanded; the Hub refuses anything else. (Not imported from the client: it reads its
# endpoint when it is imported, and that is known only once this server listens.)
EXPANDABLE = frozenset({
    "author", "baseModels", "cardData", "childrenModelCount", "config", "createdAt", "disabled", "downloads",
    "downloadsAllTime", "evalResults", "gated", "gguf", "inference", "inferenceProviderMapping", "lastModified",
    "library_name", "likes", "mask_token", "model-index", "pipeline_tag", "private", "resourceGroup", "safetensors",
    "sha", "siblings", "spaces", "tags", "transformersInfo", "trendingScore", "usedStorage", "widgetData",
})  # fmt: skip
LARGEST_TEXT = 1 << 20
LARGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class Profile:
    """A model at one revision."""

    repo: Repo
    commit: Commit
    objects: Objects

    @classmethod
    def of(cls, store: Store, repo: Repo, revision: str = "main") -> "Profile":
        return cls(repo, store.revision(repo.id, revision), store.objects(repo.id))

    def text(self, path: str) -> str:
        """A small file's text, or an empty one if there is none."""
        info = self.commit.files.get(path)
        if info is None or info.size > LARGEST_TEXT:
            return ""
        return self.objects.path(info.sha256).read_text(errors="replace")

    def json(self, path: str) -> dict[str, Any]:
        try:
            value = json.loads(self.text(path) or "{}")
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @cached_property
    def card(self) -> dict[str, Any]:
        try:
            return front_matter(self.text("README.md")) or {}
        except InvalidCard:
            return {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The few entries of the config that the Hub repeats."""
        config, tokenizer = self.json("config.json"), self.json("tokenizer_config.json")
        said = {key: config[key] for key in ("architectures", "model_type", "auto_map") if key in config}
        named = {key: tokenizer[key] for key in ("bos_token", "eos_token", "chat_template") if tokenizer.get(key)}
        return said | ({"tokenizer_config": named} if named else {})

    @property
    def library(self) -> str | None:
        if self.card.get("library_name"):
            return str(self.card["library_name"])
        if "adapter_config.json" in self.commit.files:
            return "peft"
        return "transformers" if self.config.get("model_type") else None

    @property
    def is_causal(self) -> bool:
        return any(str(name).endswith("ForCausalLM") for name in self.config.get("architectures") or ())

    @property
    def task(self) -> str | None:
        return self.card.get("pipeline_tag") or ("text-generation" if self.is_causal else None)

    @property
    def bases(self) -> list[str]:
        return listed(self.card.get("base_model"))

    @property
    def relation(self) -> str:
        if self.card.get("base_model_relation"):
            return str(self.card["base_model_relation"])
        if "adapter_config.json" in self.commit.files:
            return "adapter"
        return "merge" if len(self.bases) > 1 else "finetune"

    @property
    def tags(self) -> list[str]:
        card, weights = self.card, any(path.endswith(".safetensors") for path in self.commit.files)
        found = [self.library, "safetensors" if weights else None, self.config.get("model_type"), self.task]
        found += listed(card.get("tags")) + listed(card.get("language"))
        found += [f"base_model:{base}" for base in self.bases]
        found += [f"base_model:{self.relation}:{base}" for base in self.bases]
        found += [f"dataset:{name}" for name in listed(card.get("datasets"))]
        found += [f"license:{name}" for name in listed(card.get("license"))]
        return list(dict.fromkeys(tag for tag in [*found, "region:us"] if tag))

    @property
    def safetensors(self) -> dict[str, Any] | None:
        """How many parameters there are of each type, from the headers of the model's files."""
        counts: Counter[str] = Counter()
        for path, info in self.commit.files.items():
            if path.endswith(".safetensors") and "/" not in path:
                counts += parameters(self.objects.path(info.sha256))
        return {"parameters": dict(counts), "total": counts.total()} if counts else None

    @property
    def transformers_info(self) -> dict[str, str] | None:
        if not self.config.get("model_type"):
            return None
        auto = "AutoModelForCausalLM" if self.is_causal else "AutoModel"
        return {"auto_model": auto, **({"pipeline_tag": self.task} if self.task else {}), "processor": "AutoTokenizer"}

    def siblings(self, *, blobs: bool = False) -> list[dict[str, Any]]:
        return [sibling(path, info) if blobs else {"rfilename": path} for path, info in self.commit.files.items()]


def parameters(path: Path) -> Counter[str]:
    """The numbers of values by type in a safetensors file. A file that is none counts as empty."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < LARGEST_HEADER else {}
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        return sum((Counter({t["dtype"]: prod(t["shape"])}) for t in tensors), Counter())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Counter()


def sibling(path: str, info: FileInfo) -> dict[str, Any]:
    said: dict[str, Any] = {"rfilename": path, "size": info.size, "blobId": info.oid}
    if info.lfs:
        size = len(pointer(info.sha256, info.size))
        said["lfs"] = {"sha256": info.sha256, "size": info.size, "pointerSize": size}
    return said


FACTS: Mapping[str, Callable[[Profile], Any]] = {
    "author": lambda p: p.repo.owner,
    "baseModels": lambda p: {"relation": p.relation, "models": [{"id": base} for base in p.bases]} if p.bases else None,
    "cardData": lambda p: p.card or None,
    "childrenModelCount": lambda p: 0,
    "config": lambda p: p.config or None,
    "createdAt": lambda p: p.repo.created,
    "disabled": lambda p: False,
    "downloads": lambda p: 0,
    "downloadsAllTime": lambda p: 0,
    "gated": lambda p: p.repo.gated,
    "lastModified": lambda p: p.commit.date,
    "library_name": lambda p: p.library,
    "likes": lambda p: 0,
    "model-index": lambda p: p.card.get("model-index"),
    "pipeline_tag": lambda p: p.task,
    "private": lambda p: p.repo.private,
    "safetensors": lambda p: p.safetensors,
    "sha": lambda p: p.commit.sha,
    "siblings": lambda p: p.siblings(),
    "spaces": lambda p: [],
    "tags": lambda p: p.tags,
    "transformersInfo": lambda p: p.transformers_info,
    "trendingScore": lambda p: 0,
    "usedStorage": lambda p: sum(info.size for info in p.commit.files.values()),
}
SHORT = ("likes", "trendingScore", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt")
FULL = (*SHORT, "author", "sha", "lastModified", "gated", "disabled", "siblings")
ALL = (*FULL, "cardData", "config", "safetensors", "transformersInfo", "spaces", "usedStorage", "model-index")


def describe(profile: Profile, facts: Iterable[str]) -> dict[str, Any]:
    """The facts that were asked for. What is not known of a model is left out, as the Hub does."""
    said = {"_id": profile.repo.id, "id": profile.repo.id, "modelId": profile.repo.id}
    known = {name: FACTS[name](profile) for name in facts if name in FACTS}
    return said | {name: value for name, value in known.items() if value is not None}


def check_facts(names: Iterable[str]) -> None:
    """Refuse what no Hub offers."""
    for name in names:
        if name not in EXPANDABLE:
            raise BadRequest(f"{name!r} cannot be expanded.")
