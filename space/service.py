"""What the app does, in words of the app. Every call says who asks. Knows Hub, queue and engine, no page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.prompt import Message
from merging import compatibility
from merging.card import read_front_matter, replace_metadata, with_repo_id
from merging.checkpoint import Checkpoint
from merging.compatibility import Check
from merging.errors import MergeError
from merging.hub import Hub
from merging.naming import pinned
from merging.recipe import ModelRef, Recipe, parse_recipe, to_yaml
from merging.report import CARD
from merging.waiting import watched
from space.book import Progress, read_book, run_book
from space.chat import ChatOptions, Chats, Pane, Reply
from space.expiry import Expiry
from space.fetch import Parents
from space.inputs import opened
from space.inspect import KIND as INSPECTION
from space.inspect import Inspections
from space.jobs import Job, Jobs
from space.judge import Judge
from space.live import Fit, LiveMerges
from space.messages import plain_messages
from space.models import Models
from space.panes import Choice, Finished, choices, live_choice, merge_choice
from space.places import Places
from space.publication import check_card, check_target, suggested_name
from space.room import Room
from space.settings import Settings, kept_seconds, prepare_home
from space.tally import Tally, tally
from space.tasks import RECEIPT, SENT, Tasks, engine_options
from space.titles import lambdas
from space.tried import Tried, key_of
from space.turns import Turn, Turns, no_turn
from space.viewer import HubFor, Viewer
from space.votes import LIVE, VERDICTS, Vote, Votes
from space.words import size
from space.zero_gpu import borrowed_gpu, own_device

NOT_IN_MEMORY = ("disk", "memory")  # findings on a merge to files; one in memory has a plan of its own


class Service:
    """`queue` runs what takes long; `chats` answers; `hub_for` makes the Hub that a token sees."""

    def __init__(
        self, settings: Settings, queue: Jobs, votes: Votes, chats: Chats, parents: Parents, hub_for: HubFor = Hub
    ) -> None:
        self.settings = settings
        self.queue = queue
        self.votes = votes
        self.chats = chats
        self.parents = parents
        self.hub_for = hub_for
        self.room = Room(settings)
        self.expiry: Expiry | None = None
        if keep := kept_seconds(settings):
            self.expiry = Expiry(queue, keep, chats.models.release, votes)
            self.expiry.start()
        self.live = LiveMerges(settings, chats, settings.home / "live")
        self.judge = Judge(settings, queue, hub_for, self.look, in_memory_blocking, self.submit)
        self.inspections = Inspections(settings, queue, hub_for, self.submit)

    def search(self, text: str, viewer: Viewer) -> list[str]:
        """Repo IDs that match, as one types."""
        return self.hub_for(viewer.token).search(text)

    def check(self, recipe_yaml: str, viewer: Viewer, *, tick: Callable[[], None] = lambda: None) -> Check:
        """What can be known before a merge: findings and cost. What `tick` raises stops it at once."""
        recipe = parse_recipe(recipe_yaml)
        with opened(recipe, self.hub_for(viewer.token).hurried(), self.settings, tick=tick) as checkpoints:
            return watched(lambda: self.look(recipe, checkpoints), tick)

    def merge(
        self, recipe_yaml: str, viewer: Viewer, *, cached: bool = False, publish_as: str = "", private: bool = True
    ) -> Job:  # fmt: skip
        """Check again, refuse what is blocked, pin every model to its commit, queue.

        `cached` is to read in place what the Hugging Face cache of this machine holds; it is never done when hosted.
        `publish_as` is a new repo to push each shard to when it is finished; nothing is kept here then.
        """
        self.queue.refuse_too_many(viewer.owner)
        if publish_as:
            self.refuse_target(publish_as, viewer)
        recipe = parse_recipe(recipe_yaml)
        with opened(recipe, self.hub_for(viewer.token).hurried(), self.settings) as checkpoints:
            found = self.look(recipe, checkpoints)
            if found.blocked:
                raise MergeError("These models cannot be merged: " + blocking(found))
            self.refuse_no_room(found, leaves=bool(publish_as))
            recipe = pinned(recipe, checkpoints)
        payload = {
            "recipe": to_yaml(recipe), "findings": [asdict(one) for one in found.findings],
            "cached": cached and not self.settings.hosted,
            "disk_bytes": disk_needed(found, leaves=bool(publish_as)), "repo_id": publish_as, "private": private,
        }  # fmt: skip
        return self.submit(viewer, "merge", suggested_name(recipe), payload, estimate=found.seconds)

    def look(self, recipe: Recipe, checkpoints: Mapping[ModelRef, Checkpoint]) -> Check:
        return compatibility.check(
            recipe, checkpoints, engine_options(self.settings), out=self.settings.home, leaves="if chosen"
        )

    def submit(
        self, viewer: Viewer, kind: str, title: str, payload: Mapping[str, Any], *, estimate: float | None = None
    ) -> Job:
        """At this machine the token can be found again after a restart; a visitor's is in memory only."""
        return self.queue.submit(
            viewer.owner, kind, title, payload,
            secret=viewer.token or None, needs_secret=self.settings.hosted and bool(viewer.token), estimate=estimate,
        )  # fmt: skip

    def refuse_no_room(self, found: Check, *, leaves: bool) -> None:
        """`leaves`: whether shards are sent away while the others are made."""
        if found.plan is None:
            return
        self.room.refuse_too_large(found.plan)
        try:
            self.room.plan(disk_needed(found, leaves=leaves), self.queue.active(), self.queue.folder)
        except MergeError as e:
            less = found.plan.passing_bytes
            if leaves or less >= found.plan.disk_bytes:
                raise
            raise MergeError(f"{e} Published while it is made, it needs {size(less)}.") from None

    def may_not_merge(self, viewer: Viewer, found: Check) -> str:
        """Why this viewer cannot start a merge now; empty when they can."""
        try:
            self.queue.refuse_too_many(viewer.owner)
            self.refuse_no_room(found, leaves=True)  # it may be, which Merge looks at again
        except MergeError as e:
            return str(e)
        return ""

    def job(self, id: str, viewer: Viewer) -> Job:
        return self.queue.get(id, viewer.owner)

    def jobs(self, viewer: Viewer) -> list[Job]:
        """Newest first. Those that have waited for their owner's sign-in go on."""
        if viewer.token:
            self.queue.signed_in(viewer.owner, viewer.token)
        return self.queue.list(viewer.owner)

    def welcome(self, viewer: Viewer) -> list[Job]:
        """The jobs of somebody who arrives; what they began before they signed in is theirs still."""
        if viewer.before:
            self.queue.hand_over(viewer.before, viewer.owner)
            self.votes.hand_over(viewer.before, viewer.owner)
            self.judge.hand_over(viewer.before, viewer.owner)
        return self.jobs(viewer)

    def cancel(self, id: str, viewer: Viewer) -> Job:
        return self.queue.cancel(id, viewer.owner)

    def again(self, id: str, viewer: Viewer) -> Job:
        """Start a job again that failed, was cancelled or interrupted."""
        job = self.job(id, viewer)
        if job.kind == "publish" and not self.has_begun(job):
            check_target(job.payload["repo_id"], viewer, self.hub_for(viewer.token))
        return self.queue.again(id, viewer.owner, secret=viewer.token or None)

    def log(self, id: str, viewer: Viewer) -> list[str]:
        return self.queue.log(id, viewer.owner)

    def forget(self, id: str, viewer: Viewer) -> None:
        """Delete an ended job and what it wrote."""
        self.job(id, viewer)
        self.chats.models.release(self.model_folder(id))
        self.queue.forget(id, viewer.owner)
        self.votes.forget(viewer.owner, id)

    def merged(self, id: str, viewer: Viewer) -> Job:
        """A merge of this viewer that is done."""
        job = self.job(id, viewer)
        if job.kind != "merge" or job.state != "done":
            raise MergeError(f"This job is a {job.kind} that is {job.state}; a merge that is done is needed.")
        if job.result.get("url"):
            raise MergeError(
                f"This merge was published as {job.result['repo_id']} while it was made, and is not kept here."
            )
        return job

    def model_folder(self, id: str) -> Path:
        return self.queue.folder(id) / "model"

    def default_name(self, job: Job) -> str:
        """A repo name for a merge, without owner."""
        return suggested_name(parse_recipe(job.payload["recipe"]))

    def owners(self, viewer: Viewer) -> list[str]:
        """The accounts that this viewer may publish under: their own, then their organisations."""
        if viewer.account is None or not viewer.account.can_write:
            return []
        return [viewer.account.name, *viewer.account.orgs]

    def may_not_publish(self, viewer: Viewer) -> str:
        """Why this viewer cannot publish; empty when they can."""
        if viewer.account is None:
            way = "with the button above" if self.settings.hosted else "with `hf auth login` in a terminal"
            return f"To publish, sign in {way}."
        if not viewer.account.can_write:
            return f"The token of {viewer.account.name} may only read. Sign in with one that may write."
        return ""

    def card(self, job_id: str, viewer: Viewer, *, repo_id: str = "", license: str = "") -> str:
        """The model card as it would be published; its owner may change it before."""
        name = repo_id or self.default_name(self.merged(job_id, viewer))
        text = (self.download(job_id, viewer) / CARD).read_text(encoding="utf-8")
        return with_repo_id(text, name, license=license or None)

    def publish(self, job_id: str, viewer: Viewer, *, repo_id: str, private: bool, card: str, license: str = "") -> Job:
        """Queue the publication of a merge, or go on with one that failed on its way to the same repo.

        Whatever can be refused is refused now, an existing repo first of all.
        """
        job = self.merged(job_id, viewer)
        begun = next((one for one in self.publications(job_id, viewer) if self.has_begun(one, repo_id, private)), None)
        if begun is None:
            self.refuse_target(repo_id, viewer)
        check_card(card)
        if license and license != read_front_matter(card).get("license"):
            card = replace_metadata(card, license=license, license_name=None, license_link=None)
        payload = {
            "merge": job_id, "folder": str(self.model_folder(job_id)), "repo_id": repo_id, "private": private,
            "card": card, "method": parse_recipe(job.payload["recipe"]).method,
        }  # fmt: skip
        if begun:
            return self.queue.again(begun.id, viewer.owner, secret=viewer.token or None, payload=payload)
        return self.submit(viewer, "publish", repo_id, payload)

    def has_begun(self, job: Job, repo_id: str = "", private: bool = True) -> bool:
        """Whether a publication failed after it may have made its repo; to a certain one, if that is given."""
        is_same = not repo_id or (job.payload["repo_id"], job.payload["private"]) == (repo_id, private)
        folder = self.queue.folder(job.id)
        return job.state == "failed" and is_same and any((folder / name).exists() for name in (SENT, RECEIPT))

    def publications(self, merge_id: str, viewer: Viewer) -> list[Job]:
        """What was published of a merge, or is on its way, newest first."""
        mine = self.queue.list(viewer.owner)
        return [job for job in mine if job.kind == "publish" and job.payload.get("merge") == merge_id]

    def verify(self, published_id: str, viewer: Viewer) -> Job:
        """Queue the reading again of what a job of this viewer has published; one at a time."""
        job = self.job(published_id, viewer)
        if not job.result.get("url"):
            raise MergeError(f"This job is a {job.kind} that is {job.state}; a publication that is done is needed.")
        if (found := self.verification(published_id, viewer)) and found.active:
            return found
        payload = {"of": published_id, "repo_id": job.result["repo_id"]}
        return self.submit(viewer, "verify", job.result["repo_id"], payload)

    def verification(self, published_id: str, viewer: Viewer) -> Job | None:
        """The newest verification of what a job has published."""
        mine = self.queue.list(viewer.owner)
        return next((job for job in mine if job.kind == "verify" and job.payload["of"] == published_id), None)

    def refuse_target(self, repo_id: str, viewer: Viewer) -> None:
        if reason := self.may_not_publish(viewer):
            raise MergeError(reason)
        check_target(repo_id, viewer, self.hub_for(viewer.token))

    def download(self, job_id: str, viewer: Viewer) -> Path:
        """The folder of a merge on this machine."""
        self.merged(job_id, viewer)
        return self.model_folder(job_id)

    def files(self, job_id: str, viewer: Viewer) -> Mapping[str, Path]:
        """The files of a merge, or of an inspection, by their names in it."""
        if self.job(job_id, viewer).kind == INSPECTION:
            return self.inspections.files(job_id, viewer)
        folder = self.download(job_id, viewer)
        found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
        return {path.relative_to(folder).as_posix(): path for path in found}

    def panes(self, job_id: str, viewer: Viewer, tried: Tried | None = None) -> list[Choice]:
        """What can be chatted with: a finished merge, the one that is tried in memory, or both; then their bases and
        parents, then other merges of this viewer. Without a job it is about the one that is tried alone."""
        merges: list[Choice] = []
        recipes: list[Recipe] = []
        if tried is not None and tried.owner == viewer.owner:
            merges.append(live_choice(tried, partial(self.live.speaking, tried)))
            recipes.append(tried.parents)
        if job_id or not merges:
            job = self.merged(job_id, viewer)
            merges.insert(0, merge_choice(self.finished(job)))
            recipes.append(parse_recipe(job.payload["recipe"]))
        others = [self.finished(one) for one in self.queue.list(viewer.owner) if is_kept(one) and one.id != job_id]
        return choices(merges, recipes, others)

    def finished(self, job: Job) -> Finished:
        return Finished(job.id, " ".join([job.title, *lambdas(job)]), self.model_folder(job.id))

    def chat(
        self, job_id: str, labels: Sequence[str], conversations: Sequence[Sequence[Mapping[str, Any]]],
        options: ChatOptions, viewer: Viewer, tried: Tried | None = None,
    ) -> Iterator[list[Reply]]:  # fmt: skip
        """Every pane's answer so far to its own conversation, again and again until all are done.

        Leaving the loop stops the generation.
        """
        panes = [one.pane(self.parents, viewer) for one in self.chosen(job_id, labels, viewer, tried)]
        if len(conversations) != len(labels):
            raise MergeError(f"There are {len(labels)} models, but {len(conversations)} conversations.")
        plain = [plain_messages(one, max_chars=self.settings.max_turn_chars) for one in conversations]
        return self.chats.ask(panes, plain, within(options, self.settings))

    def chosen(self, job_id: str, labels: Sequence[str], viewer: Viewer, tried: Tried | None) -> list[Choice]:
        known = {one.label: one for one in self.panes(job_id, viewer, tried)}
        if unknown := [label for label in labels if label not in known]:
            raise MergeError(f"There is no pane {unknown[0]!r}; there are {', '.join(known)}.")
        if not 1 <= len(labels) <= self.settings.max_panes:
            raise MergeError(f"Choose 1 to {self.settings.max_panes} models to chat with, not {len(labels)}.")
        return [known[label] for label in labels]

    def run_book(
        self, job_id: str, labels: Sequence[str], text: str, options: ChatOptions, viewer: Viewer,
        tried: Tried | None = None,
    ) -> Iterator[Progress]:  # fmt: skip
        """Ask panes a whole prompt book. Every prompt takes its turn, so that other people come in between. The merge
        that is tried answers all of it as it stands now.

        Leaving the loop stops it.
        """
        entries = read_book(text, max_chars=self.settings.max_turn_chars)
        chosen = self.chosen(job_id, labels, viewer, tried)
        panes: dict[str, Pane] = {one.column: one.pane(self.parents, viewer) for one in chosen}
        options = within(options, self.settings)

        def ask(asked: Sequence[str], conversations: Sequence[list[Message]]) -> Iterator[list[Reply]]:
            return self.chats.ask([panes[name] for name in asked], [list(one) for one in conversations], options)

        return run_book(entries, list(panes), ask, lambda: self.chats.together(list(panes.values())))

    def vote(
        self, job_id: str, shown: Sequence[str], verdict: str, prompts: Sequence[str], viewer: Viewer,
        tried: Tried | None = None,
    ) -> Tally:  # fmt: skip
        """Keep a blind vote on the panes that were shown left and right, and count those on the two. `tried` is as it
        stood when it answered: the votes on other lambdas are on another merge."""
        known = {one.label: one for one in self.panes(job_id, viewer, tried)}
        if len(set(shown)) != 2 or not known.keys() >= set(shown):
            raise MergeError(f"Two of {', '.join(known)} are needed for a vote, not {', '.join(shown) or 'nothing'}.")
        if verdict not in VERDICTS:
            raise MergeError(f"The vote is {verdict!r}, it must be one of {', '.join(VERDICTS)}.")
        left, right = (known[label] for label in shown)
        page = page_of_votes(job_id, left, right)
        self.votes.add(viewer.owner, page, Vote(left.key, right.key, verdict, tuple(prompts)))
        return self.counted(job_id, known, shown, viewer)

    def votes_between(self, job_id: str, shown: Sequence[str], viewer: Viewer, tried: Tried | None = None) -> Tally:
        """Those on two panes so far."""
        return self.counted(job_id, {one.label: one for one in self.panes(job_id, viewer, tried)}, shown, viewer)

    def counted(self, job_id: str, known: Mapping[str, Choice], shown: Sequence[str], viewer: Viewer) -> Tally:
        first, second = (one for label, one in known.items() if label in shown)
        is_live = page_of_votes(job_id, first, second) == LIVE
        votes = self.votes.of(viewer.owner, LIVE) if is_live else self.votes_on(job_id, viewer)
        return tally(votes, (first.key, first.title), (second.key, second.title))

    def votes_on(self, job_id: str, viewer: Viewer) -> list[Vote]:
        """Those on the page of a merge, and those on this merge while it was in memory: it had the same bits."""
        tried = key_of(parse_recipe(self.merged(job_id, viewer).payload["recipe"]))
        now = {tried: f"merge:{job_id}"}
        before = (one for one in self.votes.of(viewer.owner, LIVE) if tried in (one.left, one.right))
        moved = [replace(o, left=now.get(o.left, o.left), right=now.get(o.right, o.right)) for o in before]
        return [*moved, *self.votes.of(viewer.owner, job_id)]

    def tallies(self, job_id: str, viewer: Viewer) -> list[Tally]:
        """The merge beside each one that it was compared with."""
        merge, *others = self.panes(job_id, viewer)
        votes = self.votes_on(job_id, viewer)
        found = [tally(votes, (merge.key, merge.label), (one.key, one.label)) for one in others]
        return [one for one in found if one.votes]

    def may_try(self, recipe_yaml: str, found: Check, viewer: Viewer) -> Fit:
        """What it takes to try the merge that was checked. Raises MergeError where it cannot be, with what to do."""
        if found.plan is None:
            raise MergeError("It cannot be merged.")
        return self.live.fit(parse_recipe(recipe_yaml), found.plan, viewer.owner)

    def load_live(self, tab: str, recipe_yaml: str, viewer: Viewer) -> Iterator[list[Reply]]:
        """Read the models of a recipe into memory and merge them there; says how far it is. Refuses what is blocked."""
        recipe = parse_recipe(recipe_yaml)

        @contextmanager
        def opening(tick: Callable[[], None]) -> Iterator[tuple[Recipe, Mapping[ModelRef, Checkpoint]]]:
            with opened(recipe, self.hub_for(viewer.token), self.settings, tick=tick) as checkpoints:
                found = self.look(recipe, checkpoints)
                if reasons := blocking(found, besides=NOT_IN_MEMORY):
                    raise MergeError(f"These models cannot be merged: {reasons}")
                yield recipe, checkpoints

        return self.live.load(tab, viewer.owner, opening)

    def ask_live(
        self, tab: str, recipes: Sequence[str], messages: Sequence[Mapping[str, Any]], options: ChatOptions,
        viewer: Viewer,
    ) -> Iterator[list[Reply]]:  # fmt: skip
        """What the merge in memory answers, made again for each of the recipes in turn."""
        plain = plain_messages(messages, max_chars=self.settings.max_turn_chars)
        return self.live.ask(tab, viewer.owner, recipes, plain, within(options, self.settings))

    def release(self) -> None:
        """Let loaded models leave memory."""
        self.chats.models.release()

    def close(self) -> None:
        """Stop running jobs, which clean up, and let the models go."""
        if self.expiry:
            self.expiry.close()
        self.queue.close()
        self.live.close()
        self.votes.close()
        self.chats.models.close()


def is_kept(job: Job) -> bool:
    """Whether a job is a merge that is done and lies here."""
    return job.kind == "merge" and job.state == "done" and not job.result.get("url")


def blocking(found: Check, besides: Sequence[str] = ()) -> str:
    """The findings that block, each with its way out."""
    blocks = (one for one in found.findings if one.level == "block" and one.id not in besides)
    return " ".join(f"{one.title} {one.remedy}".strip() for one in blocks)


def in_memory_blocking(found: Check) -> str:
    """The same of a merge that is not written."""
    return blocking(found, besides=NOT_IN_MEMORY)


def within(options: ChatOptions, settings: Settings) -> ChatOptions:
    """The options, refused where they make no sense, cut to what one answer may take here."""
    if not 0 <= options.temperature <= 5:
        raise MergeError(f"The temperature is {options.temperature}, it must be between 0 and 5.")
    if not 0 < options.top_p <= 1:
        raise MergeError(f"top_p is {options.top_p}, it must be above 0 and at most 1.")
    if options.max_new_tokens < 1:
        raise MergeError(f"The number of new tokens is {options.max_new_tokens}, it must be at least 1.")
    if len(options.system) > settings.max_turn_chars:
        raise MergeError(f"The system prompt is too long; {settings.max_turn_chars:,} characters can be sent.")
    seed = int(options.seed) % 2**63
    return replace(options, seed=seed, max_new_tokens=min(int(options.max_new_tokens), settings.max_new_tokens))


def turn_of_jobs(settings: Settings, turns: Turns) -> Turn:
    """A scoring job shares the GPU with whoever asks something; on CPUs alone nobody waits for it."""

    def turn(waiting: Callable[[int], None]) -> AbstractContextManager[None]:
        return no_turn(waiting) if own_device(settings) == "cpu" else turns.turn(waiting)

    return turn


def page_of_votes(job_id: str, *panes: Choice) -> str:
    """Votes are kept with the merge that they are on; those on one in memory by themselves."""
    return LIVE if not job_id or any(one.kind == "live" for one in panes) else job_id


def disk_needed(found: Check, *, leaves: bool) -> int:
    """Bytes of disk that a merge takes here at most."""
    if found.plan is None:
        return 0
    return found.plan.passing_bytes if leaves else found.plan.disk_bytes


def build_service(settings: Settings, *, hub_for: HubFor = Hub) -> Service:
    """The real parts, put together. Call `close()` at the end."""
    prepare_home(settings.home)
    models = Models(settings.chat_memory_bytes, settings.idle_seconds, settings.home / "offload")
    chats = Chats(models, borrowed_gpu() if settings.zero_gpu else None)
    queue = Jobs(
        settings.home / "journal.sqlite",
        partial(Tasks(settings, hub_for).run, turn=turn_of_jobs(settings, chats.turns)),
        places=Places(
            settings.max_jobs_per_owner, settings.max_jobs_per_visitor, settings.max_jobs_of_visitors,
            settings.queue_length,
        ),
    )  # fmt: skip
    parents = Parents(settings, hub_for, lambda: list(models.kept))
    return Service(settings, queue, Votes(settings.home / "journal.sqlite"), chats, parents, hub_for)
