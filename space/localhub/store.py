"""The repos on disk, without any HTTP: what exists, at which revision, and how it changes.

    root/repos/owner/name/repo.json        what the repo is, and where its branches and tags point
                          commits/SHA.json one whole tree each, never changed
                          objects/         the contents, by sha256

A commit is written in that order from the bottom up, so it is there whole or not at all.
"""

import hashlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from space.localhub.access import Accounts, Role
from space.localhub.errors import AlreadyExists, BadRequest, EntryNotFound, RepoNotFound, RevisionNotFound, StaleParent
from space.localhub.names import SHA1, check_no_clash, check_path, check_repo_id, check_revision
from space.localhub.objects import GITATTRIBUTES, Objects, is_lfs
from space.localhub.records import Commit, FileInfo, Gated, Repo, now

SHORTEST_SHA = 7
GRAVE = "deleted-"


class Store:
    """All repos below one folder, and the people who may use them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.accounts = Accounts()
        self._lock = threading.RLock()
        self._repos: dict[str, Repo] = {}
        self._objects: dict[str, Objects] = {}
        root.mkdir(parents=True, exist_ok=True)
        for path in root.glob(f"{GRAVE}*"):
            shutil.rmtree(path)
        for path in sorted((root / "repos").glob("*/*/repo.json")):
            self._remember(Repo.load(path))

    def _remember(self, repo: Repo) -> None:
        self._repos[repo.id] = repo
        self._objects[repo.id] = Objects(self.folder(repo.id))
        # Uploads that a kill cut short. No request can be using them yet, and their links are dead.
        for name in ("incoming", "parts"):
            shutil.rmtree(self.folder(repo.id) / name, ignore_errors=True)

    def folder(self, repo_id: str) -> Path:
        return self.root / "repos" / repo_id

    # --- people

    def add_user(
        self, name: str, *, token: str, fullname: str = "", orgs: Iterable[str] = (), role: Role = "write"
    ) -> None:
        """Let a person in. A second call adds a token or an organisation. Tokens are never written to disk."""
        self.accounts.add(name, token=token, fullname=fullname, orgs=orgs, role=role)

    def grant(self, repo_id: str, user: str) -> None:
        """Let one more person read a private or gated repo."""
        self._change(repo_id, lambda repo: replace(repo, readers=tuple(sorted({*repo.readers, user}))))

    # --- repos

    def repos(self) -> list[Repo]:
        with self._lock:
            return sorted(self._repos.values(), key=lambda repo: repo.id)

    def find(self, repo_id: str) -> Repo | None:
        with self._lock:
            return self._repos.get(repo_id)

    def repo(self, repo_id: str) -> Repo:
        if (repo := self.find(repo_id)) is None:
            raise RepoNotFound(f"There is no model {repo_id!r} here.")
        return repo

    def objects(self, repo_id: str) -> Objects:
        with self._lock:
            self.repo(repo_id)
            return self._objects[repo_id]

    def create_repo(self, repo_id: str, *, private: bool = False, gated: Gated = False) -> Repo:
        """Make a repo with its first commit, which says what LFS keeps, as the real Hub does."""
        check_repo_id(repo_id)
        with self._lock:
            if repo_id in self._repos:
                raise AlreadyExists(f"{repo_id!r} is there already.")
            (self.folder(repo_id) / "commits").mkdir(parents=True, exist_ok=True)
            self._remember(Repo(repo_id, private, gated, now()))
            self.commit(repo_id, {".gitattributes": GITATTRIBUTES}, message="initial commit")
            return self.repo(repo_id)

    def delete_repo(self, repo_id: str) -> None:
        """Forget a repo at once, and delete what it held."""
        with self._lock:
            self.repo(repo_id)
            grave = tempfile.mkdtemp(dir=self.root, prefix=GRAVE)
            self.folder(repo_id).rename(Path(grave) / "repo")
            del self._repos[repo_id], self._objects[repo_id]
        shutil.rmtree(grave, ignore_errors=True)

    def settings(self, repo_id: str, *, private: bool | None = None, gated: Gated | None = None) -> Repo:
        """Change who may see a repo. What is not given stays."""
        return self._change(
            repo_id,
            lambda repo: replace(
                repo,
                private=repo.private if private is None else private,
                gated=repo.gated if gated is None else gated,
            ),
        )

    def _change(self, repo_id: str, change: Callable[[Repo], Repo]) -> Repo:
        with self._lock:
            repo = change(self.repo(repo_id))
            repo.save(self.folder(repo_id) / "repo.json")
            self._repos[repo_id] = repo
            return repo

    # --- revisions

    def revision(self, repo_id: str, name: str = "main") -> Commit:
        """The commit behind a branch, a tag, or a full or unique short sha."""
        repo = self.repo(repo_id)
        sha = repo.branches.get(name) or repo.tags.get(name) or self._full_sha(repo_id, name)
        if sha is None:
            raise RevisionNotFound(f"Invalid rev id: {name}")
        return Commit.load(self._commit_path(repo_id, sha))

    def _full_sha(self, repo_id: str, start: str) -> str | None:
        if not SHORTEST_SHA <= len(start) <= 40 or not SHA1.fullmatch(start.ljust(40, "0")):
            return None
        found = [path.stem for path in (self.folder(repo_id) / "commits").glob(f"{start}*.json")]
        return found[0] if len(found) == 1 else None

    def _commit_path(self, repo_id: str, sha: str) -> Path:
        return self.folder(repo_id) / "commits" / f"{sha}.json"

    def history(self, repo_id: str, revision: str = "main") -> Iterator[Commit]:
        """The commits that led to a revision, the newest first."""
        commit: Commit | None = self.revision(repo_id, revision)
        while commit is not None:
            yield commit
            commit = Commit.load(self._commit_path(repo_id, commit.parent)) if commit.parent else None

    def branch(self, repo_id: str, name: str, start: str = "main") -> None:
        """Start a branch at a revision."""
        check_revision(name)
        with self._lock:
            if name in self.repo(repo_id).branches:
                raise AlreadyExists(f"Branch {name!r} is there already.")
            sha = self.revision(repo_id, start).sha
            self._change(repo_id, lambda repo: repo.with_branch(name, sha))

    def tag(self, repo_id: str, name: str, revision: str = "main") -> None:
        """Give a revision a name that stays."""
        check_revision(name)
        with self._lock:
            if name in self.repo(repo_id).tags:
                raise AlreadyExists(f"Tag {name!r} is there already.")
            sha = self.revision(repo_id, revision).sha
            self._change(repo_id, lambda repo: repo.with_tag(name, sha))

    def delete_branch(self, repo_id: str, name: str) -> None:
        if name == "main":
            raise BadRequest("The branch 'main' cannot be deleted.")
        with self._lock:
            rest = without(self.repo(repo_id).branches, name)
            self._change(repo_id, lambda repo: replace(repo, branches=rest))

    def delete_tag(self, repo_id: str, name: str) -> None:
        with self._lock:
            rest = without(self.repo(repo_id).tags, name)
            self._change(repo_id, lambda repo: replace(repo, tags=rest))

    # --- files

    def files(self, repo_id: str, revision: str = "main") -> Mapping[str, FileInfo]:
        return self.revision(repo_id, revision).files

    def read(self, repo_id: str, path: str, revision: str = "main") -> Path:
        """Where the content of a file lies. It is not to be changed."""
        info = self.files(repo_id, revision).get(path)
        if info is None:
            raise EntryNotFound(f"{path!r} is not in {repo_id} at {revision}.")
        return self.objects(repo_id).path(info.sha256)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path],
        *,
        message: str = "Upload files",
        delete: Iterable[str] = (),
        branch: str = "main",
    ) -> str:
        """Add, replace and delete files in one step, and return the new commit's sha."""
        objects = self.objects(repo_id)
        added = {
            check_path(path): objects.put(content, lfs=is_lfs(path, size_of(content)))
            for path, content in files.items()
        }
        return self.record(repo_id, added, delete=delete, title=message, branch=branch)

    def record(
        self,
        repo_id: str,
        added: Mapping[str, FileInfo],
        *,
        delete: Iterable[str] = (),
        title: str,
        description: str = "",
        author: str = "local",
        branch: str = "main",
        parent: str | None = None,
    ) -> str:
        """Make a commit of contents that have arrived. `parent` is where the caller believes the branch to be."""
        with self._lock:
            head = self._head(repo_id, branch)
            if parent is not None and not (head and len(parent) >= SHORTEST_SHA and head.sha.startswith(parent)):
                raise StaleParent("A commit has happened since. Please refresh and try again.")
            files = changed_tree(head.files if head else {}, added, delete)
            commit = new_commit(Commit("", head.sha if head else None, title, description, author, now(), files))
            commit.save(self._commit_path(repo_id, commit.sha))
            self._change(repo_id, lambda repo: repo.with_branch(branch, commit.sha))
            return commit.sha

    def _head(self, repo_id: str, branch: str) -> Commit | None:
        """The branch's newest commit, or nothing if the repo is being made."""
        branches = self.repo(repo_id).branches
        if branch in branches:
            return Commit.load(self._commit_path(repo_id, branches[branch]))
        if branches:
            raise RevisionNotFound(f"Invalid rev id: {branch}")
        return None

    def import_folder(self, folder: Path) -> None:
        """Make every `owner/name/` below a folder a public repo. A repo that has the same files already is left."""
        for source in sorted(path for path in folder.glob("[!._]*/[!._]*") if path.is_dir()):
            repo_id = check_repo_id(f"{source.parent.name}/{source.name}")
            files = dict(files_below(source))
            if self.find(repo_id) is None:
                self.create_repo(repo_id)
            held = self.files(repo_id)
            same = all(path in held and sha256_of(content) == held[path].sha256 for path, content in files.items())
            gone = held.keys() - files.keys() - {".gitattributes"}
            if not same or gone:
                self.commit(repo_id, files, message=f"Import {repo_id}", delete=sorted(gone))


def without(refs: Mapping[str, str], name: str) -> dict[str, str]:
    if name not in refs:
        raise RevisionNotFound(f"Invalid rev id: {name}")
    return {other: sha for other, sha in refs.items() if other != name}


def changed_tree(
    files: Mapping[str, FileInfo], added: Mapping[str, FileInfo], delete: Iterable[str]
) -> dict[str, FileInfo]:
    """The tree after a commit. A path to delete that ends in `/` is a folder."""
    tree = dict(files)
    for path in delete:
        doomed = [name for name in tree if name == path or (path.endswith("/") and name.startswith(path))]
        if not doomed:
            raise EntryNotFound(f"{path!r} cannot be deleted, it is not there.")
        for name in doomed:
            del tree[name]
    tree.update({check_path(path): info for path, info in added.items()})
    check_no_clash(frozenset(tree))
    return dict(sorted(tree.items()))


def new_commit(draft: Commit) -> Commit:
    """Name a commit. The clock is in the name, so the same change made twice is two commits, as in git."""
    text = json.dumps([asdict(draft), time.time_ns()])
    return replace(draft, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def size_of(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a model's folder by their path in the repo, without a downloader's or git's own."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not {".git", ".cache", "__pycache__"} & set(parts):
            yield "/".join(parts), path
