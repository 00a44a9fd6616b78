"""The Hub as one caller sees it: their models, their searches, their name, their publications."""

import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import partial
from itertools import islice
from pathlib import Path

from huggingface_hub import constants, get_token
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

from merging.checkpoint import Checkpoint, Folder, Source, open_checkpoint
from merging.errors import MergeError, SignedOut
from merging.hub.client import Client, check_repo_id
from merging.hub.delivery import Delivery
from merging.hub.new_repo import NewRepo
from merging.hub.repo import HubRepo
from merging.hub.words import UnknownRepo, UnknownRevision
from merging.opening import is_folder, no_folder, open_folder, refuse_path
from merging.patience import Patience
from merging.recipe import ModelRef
from merging.waiting import TICK, readers

MAX_COMMITS = 200  # that are looked at for revisions of the weights
MAX_FILES = 10_000  # more is not a model but an archive


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    fullname: str
    orgs: tuple[str, ...]  # in which the account may create models
    can_write: bool
    id: str  # stays the same when the account is renamed


@dataclass(frozen=True, slots=True)
class Hub:
    """The Hub as one caller sees it. `token` is theirs, False when they are anonymous; it is never stored or shown.

    `cached` is for one's own machine: files are read in place that the Hub's client has fetched before. Who shares a
    machine with strangers leaves it off, for its cache knows no owners.
    """

    token: str | bool = field(default=False, repr=False)
    patience: Patience = field(default=Patience(), repr=False)
    cached: bool = False
    stopped: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def client(self) -> Client:
        return Client(self.token, self.patience, self.stopped)

    def hurried(self) -> "Hub":
        """The same for somebody who waits for the answer."""
        return replace(self, patience=self.patience.hurried())

    def stop(self) -> None:
        """Have all calls of this caller end soon, and the reading of what they opened."""
        self.stopped.set()

    def open(self, ref: ModelRef) -> Source:
        return self.open_repo(ref)

    def open_repo(self, ref: ModelRef) -> HubRepo:
        """Pin the revision to a commit SHA, check that its content may be read, list its files."""
        check_repo_id(ref.path)
        api = self.client.api
        try:
            info = self.client.ask(ref.path, lambda: api.model_info(ref.path, revision=ref.revision))
            files = self.client.ask(ref.path, lambda: self.list_files(ref.path, str(info.sha)))
        except UnknownRepo as unknown:
            near = self.nearest(ref.path)
            raise MergeError(f"{unknown}{f' Did you mean {near}?' if near else ''}") from None
        except UnknownRevision:
            raise MergeError(
                f"{ref.path} has no revision {ref.revision!r}. Give a branch, a tag or a commit SHA that its page "
                "lists under Files, or leave the revision out to take the newest."
            ) from None
        cache = cached_folder(ref.path, str(info.sha)) if self.cached else None
        repo = HubRepo(ref.path, str(info.sha), label_of(ref), files, self.client, cache)
        repo.probe()
        return repo

    def list_files(self, repo_id: str, sha: str) -> dict[str, RepoFile]:
        tree = self.client.api.list_repo_tree(repo_id, recursive=True, revision=sha)
        found = list(islice((f for f in tree if isinstance(f, RepoFile)), MAX_FILES + 1))
        if len(found) > MAX_FILES:
            raise MergeError(f"{repo_id} has more than {MAX_FILES:,} files; that is no model. Choose another.")
        return {f.path: f for f in found}

    def revisions(self, ref: ModelRef, count: int) -> list[str]:
        """The commits of the last so many states of a model's weights, the newest first; others changed only a card.

        Raises MergeError where there are fewer.
        """
        api = self.client.api
        commits = self.client.ask(ref.path, lambda: api.list_repo_commits(ref.path, revision=ref.revision))
        found: dict[str, str] = {}
        for commit in commits[:MAX_COMMITS]:
            sha = commit.commit_id
            files = self.client.ask(ref.path, partial(self.list_files, ref.path, sha))
            weights = sorted((name, str(f.lfs.sha256 if f.lfs else f.blob_id)) for name, f in files.items()
                             if name.endswith(".safetensors"))  # fmt: skip
            if weights:
                found[str(weights)] = found.get(str(weights), sha)
            if len(found) == count:
                return list(found.values())
        raise MergeError(
            f"{label_of(ref)} has {len(found)} revisions of its weights in its last {min(len(commits), MAX_COMMITS)} "
            f"commits; {count} were asked for. Ask for fewer."
        )

    def search(self, text: str, limit: int = 10) -> list[str]:
        """Repo IDs of models that match, as one types: those for text generation with safetensors first.

        Without a text, those of them that are downloaded most.
        """
        fits = {"pipeline_tag": "text-generation", "filter": "safetensors"}
        if not (text := text.strip()):
            return self.find(limit, sort="downloads", **fits)
        fitting = self.find(limit, search=text, **fits)
        others = self.find(limit, search=text) if len(fitting) < limit else []
        return list(dict.fromkeys([*fitting, *others]))[:limit]

    def find(self, limit: int, **filters: str) -> list[str]:
        api = self.client.api
        found = self.client.ask("a search", lambda: list(api.list_models(limit=limit, **filters)), attempts=1)  # type: ignore[arg-type]
        return [m.id for m in found]

    def nearest(self, repo_id: str) -> str | None:
        """The repo ID that a mistyped one most likely means, if the Hub knows one that is near."""
        owner, _, name = repo_id.rpartition("/")
        words = sorted(re.findall(r"[a-zA-Z]{3,}", name), key=len, reverse=True)
        parts = dict.fromkeys([name, name[: len(name) * 2 // 3], *words[:2]])
        searches = [{"search": part} for part in parts if part] + ([{"author": owner}] if owner else [])
        try:
            return most_like(repo_id, {found for s in searches for found in self.find(50, **s)})
        except MergeError:
            return None

    def whoami(self) -> Account | None:
        """Whose token it is; None without one. The Hub answers this only so often: ask once per session."""
        if self.token is False:
            return None
        me = self.client.ask("your account", self.client.api.whoami)
        role = me.get("auth", {}).get("accessToken", {}).get("role", "")
        orgs = tuple(str(org["name"]) for org in me.get("orgs", []) if org.get("roleInOrg") != "read")
        return Account(str(me["name"]), str(me.get("fullname") or me["name"]), orgs, role != "read", str(me["id"]))

    def deliver(
        self, repo_id: str, *, private: bool, message: str, keeps_files: bool = True, receipt: Path | None = None
    ) -> Delivery:
        """A merge on its way to a repo, which is refused when it exists: while it is made, or when it is finished."""
        return Delivery(NewRepo(self.client, repo_id, private, message), keeps_files, receipt=receipt)

    def check_owner(self, repo_id: str) -> None:
        """Raise MergeError unless the caller may, as far as can be told, make a repo by this name."""
        check_repo_id(repo_id)
        owner, slash, _ = repo_id.partition("/")
        if (account := self.whoami()) is None:
            raise SignedOut("Publishing needs a token. Sign in with `hf auth login`, then start again.")
        if not slash:
            raise MergeError(f"{repo_id!r} has no owner. Write {account.name}/{repo_id}.")
        if not account.can_write:
            raise MergeError("The token may only read. Sign in with one that may write (`hf auth login`).")
        if owner not in (account.name, *account.orgs):
            raise MergeError(f"You cannot publish under {owner}, but under {', '.join((account.name, *account.orgs))}.")


def most_like(repo_id: str, names: Iterable[str]) -> str | None:
    """The most similar of the names when it is similar at all: half its characters, and most of the last part."""

    def likeness(a: str, b: str) -> float:
        return SequenceMatcher(None, a.lower(), b.lower()).ratio()

    def last(name: str) -> str:
        return name.rpartition("/")[2]

    near = {n: likeness(last(repo_id), last(n)) * 2 + likeness(repo_id, n) for n in sorted(names)}
    best = max(near, key=lambda n: near[n], default=None)
    return best if best and likeness(last(repo_id), last(best)) > 0.7 else None


def label_of(ref: ModelRef) -> str:
    """How messages name a repo; a whole commit SHA is more than they need."""
    is_sha = re.fullmatch(r"[0-9a-f]{40}", ref.revision or "")
    return f"{ref.path}@{ref.revision[:8]}" if ref.revision and is_sha else str(ref)


def cached_folder(repo_id: str, sha: str) -> Folder | None:
    """What the Hub's client has fetched of a commit; it puts a file there when it is whole."""
    place = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "snapshots" / sha
    return Folder(place) if place.is_dir() else None


def local_token() -> str | bool:
    """The token of `hf auth login` on this machine, for use on a laptop; False without one."""
    return get_token() or False


def open_model(ref: ModelRef, hub: Hub | None, *, folders: bool = True) -> Checkpoint:
    """A folder when one exists at that path and folders are allowed here, else a Hub repo. Reads headers only."""
    if folders and is_folder(ref):
        return open_folder(ref)
    if hub is None:
        raise no_folder(ref, hub_is_used=False)
    if folders:
        refuse_path(ref)
    return open_checkpoint(hub.open(ref))


def open_models(
    refs: Iterable[ModelRef], hub: Hub | None, *, folders: bool = True, tick: Callable[[], None] = lambda: None
) -> dict[ModelRef, Checkpoint]:
    """Several models at once, each opened as `open_model` does. The first error in their order is raised.

    `tick` is called again and again meanwhile. What it raises stops everything.
    """
    mine = replace(hub, stopped=threading.Event()) if hub else None  # stopping these stops nothing else of the caller
    with readers([mine] if mine else []) as pool:
        opening = {ref: pool.submit(open_model, ref, mine, folders=folders) for ref in dict.fromkeys(refs)}
        while wait(opening.values(), TICK).not_done:
            tick()
        try:
            return {ref: opened.result() for ref, opened in opening.items()}
        except MergeError:
            for opened in opening.values():
                if not opened.exception():
                    opened.result().source.close()
            raise
