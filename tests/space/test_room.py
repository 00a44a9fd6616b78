import itertools
import shutil
import threading

import pytest

from merging.errors import Kept, MergeError
from space.jobs import Job
from space.room import Room, unwritten
from space.service import build_service
from space.settings import Settings
from tests.space.conftest import ADA, BOTH, quick_hub

GB = 10**9


def job(id, disk_bytes=0, *, state="queued", kind="merge"):
    return Job(id, "hf:6a", kind, "title", {"disk_bytes": disk_bytes}, state)


def room(tmp_path, free=10 * GB, memory=10 * GB):
    return Room(Settings(tmp_path), disk=lambda folder: free, memory=lambda: memory)


def test_a_job_is_planned_after_those_before_it(tmp_path):
    here = room(tmp_path)
    here.plan(8 * GB, (), tmp_path.joinpath)
    here.plan(4 * GB, [job("a", 4 * GB), job("b", 4 * GB, state="done")], tmp_path.joinpath)
    with pytest.raises(MergeError, match=r"writes 4.00 GB, and the disk here has room for 2.00 GB"):
        here.plan(4 * GB, [job("a", 7 * GB)], tmp_path.joinpath)


def test_what_a_job_has_written_it_writes_no_more(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "shard").write_bytes(b"1234")
    assert unwritten(job("a", 10, state="running"), tmp_path) == 6


@pytest.mark.parametrize(("free", "memory", "words"), [(GB - 1, GB, "disk here"), (2 * GB, 10**8, "of memory left")])
def test_below_the_mark_it_stops(tmp_path, free, memory, words):
    room(tmp_path, GB, 200_000_000).watch()
    with pytest.raises(MergeError, match=words):
        room(tmp_path, free, memory).watch()


def test_it_looks_only_once_in_a_while(tmp_path):
    looks = itertools.count()
    here = Room(Settings(tmp_path), disk=lambda folder: GB + next(looks), memory=lambda: GB)
    for _ in range(50):
        here.watch()
    assert next(looks) == 1


@pytest.fixture
def make(hub, tmp_path):
    made = []

    def use(**limits):
        made.append(build_service(Settings(tmp_path / "home", hosted=True, threads=2, **limits), hub_for=quick_hub))
        return made[-1]

    yield use
    for service in made:
        service.close()


def test_a_merge_that_reads_too_much_is_refused_and_the_check_says_so(make):
    service = make(merge_bytes=1_000_000)
    found = service.check(BOTH, ADA)
    assert "reads 3.7" in service.may_not_merge(ADA, found)
    with pytest.raises(MergeError, match=r"1\.00 MB can be read for one merge here"):
        service.merge(BOTH, ADA)
    assert service.jobs(ADA) == []


def test_a_merge_that_the_disk_does_not_hold_is_refused_before_its_first_byte(make):
    with pytest.raises(MergeError, match="the disk here has room for 0 bytes"):
        make(spare_disk_bytes=10**15).merge(BOTH, ADA)


def test_a_merge_larger_than_the_disk_is_published_while_it_is_made(make, monkeypatch, repo_name):
    service = make(shard_bytes=200_000, spare_disk_bytes=0)
    plan = service.check(BOTH, ADA).plan
    assert plan is not None and len(plan.shards) > 4
    enough = plan.passing_bytes
    assert enough < plan.disk_bytes - 300_000
    monkeypatch.setattr(service.room, "disk", lambda folder: enough)
    free = shutil.disk_usage("/")._replace(free=enough)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: free)
        found = service.check(BOTH, ADA)
        assert not found.blocked and service.may_not_merge(ADA, found) == ""
        (told,) = (one for one in found.findings if one.id == "disk")
        assert told.level == "warn" and "Publish it while it is made" in told.remedy
        with pytest.raises(MergeError, match=r"disk here has room for .* Published while it is made, it needs"):
            service.merge(BOTH, ADA)
        job = service.merge(BOTH, ADA, publish_as=f"ada/{repo_name}")
    assert service.queue.wait(job.id, 60).state == "done", service.job(job.id, ADA).error


def none_free(folder):
    return 0


class FilledMeanwhile(Room):
    """Full from the moment the merge has been planned."""

    def plan(self, *rest):
        self.disk = none_free


def test_what_is_complete_is_kept_but_where_it_fills_the_disk(tmp_path):
    for free, memory, leaves, kept in [
        (GB - 1, GB, False, False),
        (GB - 1, GB, True, True),
        (2 * GB, 10**8, False, True),
    ]:
        with pytest.raises(MergeError) as told:
            room(tmp_path, free, memory).watch(leaves=leaves)
        assert isinstance(told.value, Kept) == kept
        assert ("what it had written is removed" in str(told.value)) != kept


class ShortOfMemory(Room):
    """From the moment a shard has left, until the job is started again."""

    def watch(self, *, leaves=False):
        assert leaves
        if SHORT.is_set() and any(
            p.read_text().count('"sent"') for p in self.settings.home.glob("jobs/*/.model*.journal")
        ):
            SHORT.clear()
            raise Kept("This machine has too little memory left.")


SHORT = threading.Event()


def test_a_merge_that_is_published_meanwhile_goes_on_after_a_shortage(make, hub, monkeypatch, repo_name):
    monkeypatch.setattr("space.tasks.Room", ShortOfMemory)
    monkeypatch.setattr("space.tasks.run_apart", lambda task, job, report, *more: task(job, report))
    SHORT.set()
    service, repo_id = make(shard_bytes=200_000), f"ada/{repo_name}"
    job = service.queue.wait(service.merge(BOTH, ADA, publish_as=repo_id).id, 60)
    assert job.state == "failed" and "too little memory" in job.error and f"{repo_id} is left, with" in job.error
    assert hub.store.find(repo_id) and service.queue.folder(job.id).exists()
    again = service.queue.wait(service.again(job.id, ADA).id, 60)
    assert again.state == "done", again.error
    assert len(list(hub.store.history(repo_id))) == 2


def test_a_merge_that_meets_the_mark_stops_and_leaves_nothing(make, monkeypatch):
    monkeypatch.setattr("space.tasks.Room", FilledMeanwhile)
    service = make()
    job = service.queue.wait(service.merge(BOTH, ADA).id, 60)
    assert job.state == "failed"
    assert "The disk here has 0 bytes left" in job.error
    assert not service.queue.folder(job.id).exists()
