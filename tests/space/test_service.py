import json
import multiprocessing
import threading
import time
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from merging.errors import MergeError
from merging.hub import Hub
from merging.recipe import ModelRef, to_yaml
from space.chat import ChatOptions
from space.demo.hub import MODELS
from space.localhub import Fault
from space.panes import ENSEMBLE
from space.service import build_service
from space.viewer import Viewer
from tests.hub_fixture import ADA_TOKEN
from tests.space.conftest import ADA, ADA_READING, ANYONE, BOB, BOTH, quick_hub, recipe

HELLO = [{"role": "user", "content": "reverse: pocket"}]


@pytest.fixture(scope="module")
def merged(pocket_hub, tmp_path_factory):
    """A service in which Ada has one finished merge."""
    from space.settings import Settings

    home = tmp_path_factory.mktemp("home")
    service = build_service(Settings(home, hosted=True, threads=2, max_jobs_per_owner=9), hub_for=quick_hub)
    job = service.merge(BOTH, ADA)
    done = service.queue.wait(job.id, 60)
    assert done.state == "done", done.error
    yield service, done
    service.close()


def published(service, job, viewer, repo_id, **options):
    card = service.card(job.id, viewer, repo_id=repo_id)
    asked = {"private": True, "card": card} | options
    return service.queue.wait(service.publish(job.id, viewer, repo_id=repo_id, **asked).id, 60)


# --- check and merge


def test_models_that_belong_together_pass_the_check(service):
    found = service.check(BOTH, ANYONE)
    assert not found.blocked
    assert found.plan
    assert found.plan.write_bytes > 1_000_000
    assert set(found.revisions) == {"alloy/pocket-base", "alloy/pocket-reverse", "alloy/pocket-add"}


@pytest.mark.parametrize("silent", ["/api/models/", "/cdn/"])
def test_a_check_ends_at_once_when_it_is_left(service, hub, silent):
    class Left(Exception):
        pass

    asked = threading.Event()

    def fall_silent(request):
        if silent not in request.url.path:
            return None
        asked.set()
        return Fault(delay=60)

    def tick():
        if asked.is_set():
            raise Left

    hub.fault = fall_silent
    with pytest.raises(Left):
        service.check(BOTH, ANYONE, tick=tick)


@pytest.mark.parametrize("stranger", ["alloy/pocket-stranger", "alloy/pocket-renumbered"])
def test_models_that_do_not_are_blocked_and_not_merged(service, stranger):
    text = recipe("alloy/pocket-reverse", stranger)
    assert service.check(text, ANYONE).blocked
    with pytest.raises(MergeError, match="These models cannot be merged"):
        service.merge(text, ANYONE)
    assert service.jobs(ANYONE) == []


def test_a_recipe_that_makes_no_sense_is_refused_in_its_own_words(service):
    with pytest.raises(MergeError, match="weight"):
        service.merge(BOTH.replace("1.0", "much"), ANYONE)
    with pytest.raises(MergeError, match="pocket-reverse"):
        service.check(recipe("alloy/pocket-revrese"), ANYONE)


def test_too_many_models_are_refused(service, settings):
    with pytest.raises(MergeError, match="at most 8 can be merged"):
        service.check(recipe(*[f"alloy/m{n}" for n in range(8)]), ANYONE)


def test_the_merge_has_the_right_weights(merged):
    service, job = merged
    folder = service.download(job.id, ADA)

    def weights(at):
        return {k: v.float() for file in at.glob("*.safetensors") for k, v in load_file(file).items()}

    base, reverse, add = (weights(MODELS / "alloy" / f"pocket-{n}") for n in ("base", "reverse", "add"))
    out = weights(folder)
    assert out.keys() == base.keys()
    for name in base:
        expected = base[name] + (reverse[name] - base[name]) + (add[name] - base[name])
        assert (out[name] - expected).abs().max() <= 0.01 * expected.abs().max()


STACK = """
merge_method: passthrough
slices:
- sources: [{model: alloy/pocket-reverse, layer_range: [0, 3]}]
- sources: [{model: alloy/pocket-add, layer_range: [2, 4], parameters: {scale: [1, 1.0]}}]
"""


def test_a_stack_from_its_check_to_its_card(service, hub):
    found = service.check(STACK, ADA)
    assert not found.blocked and "The merge has 5 layers, in 2 slices." in [f.title for f in found.findings]
    job = service.queue.wait(service.merge(STACK, ADA).id, 60)
    assert (job.state, job.title) == ("done", "pocket-reverse-add-passthrough")
    assert [one.label for one in service.panes(job.id, ADA)] == [
        "Merge",
        "alloy/pocket-reverse",
        "alloy/pocket-add",
    ]  # no ensemble
    sha = quick_hub(False).open(ModelRef("alloy/pocket-add")).revision
    assert f"alloy/pocket-add@{sha}" in job.payload["recipe"] and "layer_range: [2, 4]" in job.payload["recipe"]
    card = service.card(job.id, ADA, repo_id="ada/taller")
    assert "Its 5 layers" in card and "scale 1 to 1.0" in card and f"alloy/pocket-add@{sha}" in card
    service.forget(job.id, ADA)


def test_a_stack_of_strangers_is_a_warning_since_nothing_is_mixed(service, hub):
    found = service.check(STACK.replace("pocket-add", "pocket-stranger"), ADA)
    assert [f.level for f in found.findings if f.id == "different-base"] == ["warn"] and not found.blocked


def test_a_merge_is_pinned_to_the_commits_that_were_checked(merged):
    service, job = merged
    assert f"alloy/pocket-add@{quick_hub(False).open(ModelRef('alloy/pocket-add')).revision}" in job.payload["recipe"]
    assert job.result["bytes"] > 1_000_000
    assert job.done_bytes == job.total_bytes > 0
    assert any("Reading alloy/pocket-base@" in line for line in service.log(job.id, ADA))


def test_the_name_that_is_suggested_tells_what_it_is(merged):
    service, job = merged
    assert service.default_name(job) == job.title == "pocket-reverse-add-task-arithmetic"


def test_weights_are_not_downloaded_to_disk(merged):
    service, _ = merged
    assert not list((service.settings.home / "models").rglob("*.safetensors"))


def test_a_merge_waits_for_a_hub_that_is_away_and_goes_on(merged, service, hub):
    hub.fault = lambda request: Fault(status=500) if "resolve" in request.url.path else None
    job = service.submit(ADA, "merge", "title", merged[1].payload)
    until(lambda: "Trying again in" in "".join(service.log(job.id, ADA)))
    assert service.job(job.id, ADA).state == "running"
    hub.fault = None
    assert service.queue.wait(job.id, 60).state == "done"


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_merge_that_waits_for_the_hub_is_cancelled_within_two_seconds(merged, service, hub):
    hub.fault = lambda request: Fault(status=500) if "resolve" in request.url.path else None
    job = service.submit(ADA, "merge", "title", merged[1].payload)
    until(lambda: "Trying again in" in "".join(service.log(job.id, ADA)))
    began = time.monotonic()
    service.cancel(job.id, ADA)
    assert service.queue.wait(job.id, 10).state == "cancelled"
    assert time.monotonic() - began < 2.5
    assert not service.queue.folder(job.id).exists()


def test_a_merge_waits_for_the_sign_in_of_its_owner_and_goes_on(merged, service, hub):
    refused = Fault(status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
    hub.fault = lambda request: refused if "/api/models/" in request.url.path else None
    job = service.submit(ADA, "merge", "title", merged[1].payload)
    until(lambda: service.job(job.id, ADA).state == "waiting")
    assert "goes on when you have signed in" in service.job(job.id, ADA).error
    hub.fault = None
    service.jobs(ADA)  # with the token that was refused
    assert service.job(job.id, ADA).state == "waiting"
    hub.store.add_user("ada", token="hf_ada_anew")
    service.jobs(replace(ADA, token="hf_ada_anew"))
    assert service.queue.wait(job.id, 60).state == "done"


def test_a_merge_whose_process_is_killed_is_begun_again(merged, service, hub):
    hub.fault = lambda request: Fault(delay=0.5) if "/cdn/" in request.url.path else None
    job = service.submit(ADA, "merge", "title", merged[1].payload)
    until(lambda: "Reading alloy" in "".join(service.log(job.id, ADA)))
    multiprocessing.active_children()[0].kill()
    done = service.queue.wait(job.id, 60)
    assert done.state == "done", done.error
    assert "process of this job was killed" in "".join(service.log(job.id, ADA))
    pairs = [(f, service.download(job.id, ADA) / f.name) for f in merged[0].download(merged[1].id, ADA).glob("*.saf*")]
    assert pairs and all(one.read_bytes() == other.read_bytes() for one, other in pairs)


def test_a_merge_goes_on_when_the_app_is_started_again(merged, service, hub):
    hub.fault = lambda request: Fault(delay=0.5) if "/cdn/" in request.url.path else None
    payload = merged[1].payload
    job = service.submit(Viewer("anon:7"), "merge", "title", payload)
    until(lambda: "Reading alloy" in "".join(service.log(job.id, Viewer("anon:7"))))
    service.close()
    assert not multiprocessing.active_children()
    hub.fault = None
    later = build_service(service.settings, hub_for=quick_hub)
    try:
        assert later.queue.wait(job.id, 60).state == "done"
    finally:
        later.close()


def test_a_job_of_somebody_else_is_not_there(merged):
    service, job = merged
    calls = [
        lambda v: service.job(job.id, v),
        lambda v: service.cancel(job.id, v),
        lambda v: service.log(job.id, v),
        lambda v: service.forget(job.id, v),
        lambda v: service.again(job.id, v),
        lambda v: service.card(job.id, v),
        lambda v: service.download(job.id, v),
        lambda v: service.files(job.id, v),
        lambda v: service.verify(job.id, v),
        lambda v: service.panes(job.id, v),
        lambda v: service.chat(job.id, ["Merge"], [HELLO], ChatOptions(), v),
        lambda v: service.publish(job.id, v, repo_id="bob/x", private=True, card="x"),
    ]
    for call in calls:
        for viewer in (BOB, ANYONE):
            with pytest.raises(MergeError, match=r"There is no job .* of yours"):
                call(viewer)
    assert service.jobs(BOB) == []


def test_forgetting_a_merge_deletes_it(service):
    job = service.queue.wait(service.merge(BOTH, ADA).id, 60)
    folder = service.download(job.id, ADA)
    service.forget(job.id, ADA)
    assert not folder.exists()
    assert service.jobs(ADA) == []


def test_private_parents_are_merged_for_who_may_read_them_only(service, hub, repo_name):
    copy_private(hub, f"ada/{repo_name}")
    text = recipe("alloy/pocket-reverse", f"ada/{repo_name}")
    for viewer in (BOB, ANYONE):
        with pytest.raises(MergeError, match=f"no model ada/{repo_name}|ada/{repo_name}"):
            service.check(text, viewer)
    job = service.queue.wait(service.merge(text, ADA).id, 60)
    assert job.state == "done", job.error


def copy_private(hub, repo_id):
    """A private copy of a fine-tune."""
    source = MODELS / "alloy" / "pocket-add"
    hub.store.create_repo(repo_id, private=True)
    hub.store.commit(repo_id, {f.name: f.read_bytes() for f in source.iterdir()}, message="copy")


# --- publish


def test_publishing_needs_a_sign_in_that_may_write(merged):
    service, job = merged
    anonymous = Viewer("hf:6a")  # the same owner, signed out
    assert service.owners(anonymous) == service.owners(ADA_READING) == []
    assert "sign in" in service.may_not_publish(anonymous)
    assert "may only read" in service.may_not_publish(ADA_READING)
    for viewer in (anonymous, ADA_READING):
        with pytest.raises(MergeError):
            service.publish(job.id, viewer, repo_id="ada/x", private=True, card="x")


def test_where_one_may_publish(merged, hub):
    service, job = merged
    assert service.owners(ADA) == ["ada", "acme"]
    hub.store.create_repo("ada/already-there")
    for repo_id, reason in [
        ("bob/x", "cannot publish under bob"),
        ("x", "no owner"),
        ("ada/a b", "a b"),
        ("ada/already-there", "exists already"),
    ]:
        with pytest.raises(MergeError, match=reason):
            service.publish(job.id, ADA, repo_id=repo_id, private=True, card="x")


@pytest.mark.parametrize("owner", ["ada", "acme"])
def test_a_merge_is_published_privately_with_its_card(merged, hub, owner, repo_name):
    service, job = merged
    repo_id = f"{owner}/{repo_name}"
    done = published(service, job, ADA, repo_id)
    assert done.state == "done", done.error
    assert done.result["url"].endswith(repo_id)
    assert hub.store.repo(repo_id).private
    files = hub.store.files(repo_id)
    folder = service.download(job.id, ADA)
    assert {f.name for f in folder.iterdir()} <= files.keys()
    for file in folder.glob("*.safetensors"):
        assert hub.store.read(repo_id, file.name).read_bytes() == file.read_bytes()
    with pytest.raises(MergeError, match="exists already"):
        published(service, job, ADA, repo_id)


def test_the_card_is_published_as_it_was_edited(merged, hub, repo_name):
    service, job = merged
    card = service.card(job.id, ADA, repo_id=f"ada/{repo_name}") + "\nMine.\n"
    done = published(service, job, ADA, f"ada/{repo_name}", card=card, private=False)
    assert done.state == "done", done.error
    assert hub.store.read(f"ada/{repo_name}", "README.md").read_text().endswith("Mine.\n")
    assert not hub.store.repo(f"ada/{repo_name}").private
    assert "Mine." not in (service.download(job.id, ADA) / "README.md").read_text()


# --- publish while merging


def test_a_merge_goes_straight_to_the_hub(merged, service, hub, repo_name):
    repo_id = f"ada/{repo_name}"
    job = service.queue.wait(service.merge(BOTH, ADA, publish_as=repo_id).id, 60)
    assert job.state == "done", job.error
    assert job.result["url"].endswith(repo_id) and hub.store.repo(repo_id).private
    kept = merged[0].download(merged[1].id, ADA)
    for file in kept.glob("*.safetensors"):
        assert hub.store.read(repo_id, file.name).read_bytes() == file.read_bytes()
    assert [file.name for file in service.queue.folder(job.id).iterdir()] == ["published"]  # the address
    with pytest.raises(MergeError, match="is not kept here"):
        service.download(job.id, ADA)
    for file in service.settings.home.rglob("*"):
        assert file.is_dir() or ADA_TOKEN.encode() not in file.read_bytes(), file


def test_what_is_published_is_verified_shard_by_shard(merged, hub, repo_name):
    service, job = merged
    pushed = published(service, job, ADA, f"ada/{repo_name}")
    assert [one.id for one in service.publications(job.id, ADA)][:1] == [pushed.id]
    done = service.queue.wait(service.verify(pushed.id, ADA).id, 60)
    assert done.state == "done", done.error
    (shard,) = done.result["shards"]
    assert (shard["file"], shard["read"], shard["fault"]) == ("model.safetensors", "whole", "")
    assert done.result["faults"] == [] and done.done_bytes == done.total_bytes == shard["nbytes"]
    weights = hub.store.read(f"ada/{repo_name}", "model.safetensors").read_bytes()
    hub.store.commit(f"ada/{repo_name}", {"model.safetensors": weights[:-1] + bytes([weights[-1] ^ 1])})
    again = service.queue.wait(service.verify(pushed.id, ADA).id, 60)
    assert again.state == "done" and "model.safetensors reads as" in again.result["faults"][0]
    assert service.verification(pushed.id, ADA).id == again.id


def test_a_verification_that_waits_for_the_hub_is_cancelled_at_once(merged, hub, repo_name):
    service, job = merged
    pushed = published(service, job, ADA, f"ada/{repo_name}")
    asked = threading.Event()

    def fall_silent(request):
        if "/cdn/" not in request.url.path:
            return None
        asked.set()
        return Fault(delay=60)

    hub.fault = fall_silent
    running = service.verify(pushed.id, ADA)
    assert asked.wait(20)
    assert service.verify(pushed.id, ADA).id == running.id, "one at a time"
    began = time.monotonic()
    service.cancel(running.id, ADA)
    assert service.queue.wait(running.id, 10).state == "cancelled"
    assert time.monotonic() - began < 2.5


def test_only_what_is_published_can_be_verified(merged):
    service, job = merged
    with pytest.raises(MergeError, match="a publication that is done is needed"):
        service.verify(job.id, ADA)


def test_what_may_not_be_published_is_not_merged_either(service, hub):
    hub.store.create_repo("ada/there-already")
    for viewer, repo_id, reason in [
        (ADA, "ada/there-already", "exists already"),
        (ADA, "bob/x", "cannot publish under bob"),
        (ADA_READING, "ada/x", "may only read"),
        (ANYONE, "ada/x", "sign in"),
    ]:
        with pytest.raises(MergeError, match=reason):
            service.merge(BOTH, viewer, publish_as=repo_id)
        assert service.jobs(viewer) == []


def test_cancelling_a_merge_on_its_way_takes_its_repo_back(service, hub, repo_name):
    repo_id = f"ada/{repo_name}"
    hub.fault = lambda request: Fault(delay=20) if "/commit/" in request.url.path else None
    job = service.merge(BOTH, ADA, publish_as=repo_id)
    until(lambda: hub.store.find(repo_id))
    began = time.monotonic()
    service.cancel(job.id, ADA)
    ended = service.queue.wait(job.id, 10)
    assert ended.state == "cancelled" and time.monotonic() - began < 2.5
    assert hub.store.find(repo_id) is None or "delete it in its settings" in ended.error


@pytest.fixture
def small_shards(hub, settings):
    built = build_service(replace(settings, shard_bytes=200_000), hub_for=quick_hub)
    yield built
    built.close()


def begun(service, hub, repo_id):
    """A merge on its way to the Hub, which has sent two shards when its app is stopped."""
    hub.fault = lambda request: Fault(delay=0.2) if request.url.path.startswith("/lfs/") else None
    before, job = len(hub.requests), service.merge(BOTH, ADA, publish_as=repo_id)
    until(lambda: shards_sent(hub, before) >= 2)
    service.close()
    assert hub.store.find(repo_id) and not multiprocessing.active_children()
    hub.fault = None
    return job, before


def shards_sent(hub, since):
    return sum(r.method == "PUT" and r.path.startswith("/lfs/") and r.status == 200 for r in hub.requests[since:])


def test_a_merge_on_its_way_goes_on_when_the_app_is_started_again(small_shards, hub, merged, repo_name):
    repo_id = f"ada/{repo_name}"
    job, before = begun(small_shards, hub, repo_id)
    later = build_service(small_shards.settings, hub_for=quick_hub)
    try:
        later.jobs(ADA)  # she signs in again
        done = later.queue.wait(job.id, 60)
        assert done.state == "done", done.error
    finally:
        later.close()
    names = [name for name in hub.store.files(repo_id) if name.endswith(".safetensors")]
    assert len(names) > 4 and shards_sent(hub, before) <= len(names) + 1  # the one that was under way
    assert len(list(hub.store.history(repo_id))) == 2
    there = {k: v for n in names for k, v in load_file(hub.store.read(repo_id, n)).items()}
    here = load_file(merged[0].download(merged[1].id, ADA) / "model.safetensors")
    assert there.keys() == here.keys() and all(there[name].equal(here[name]) for name in here)


def test_what_was_sent_before_the_app_stopped_is_taken_back_though_no_model_can_be_opened(small_shards, hub, repo_name):
    repo_id = f"ada/{repo_name}"
    job, _ = begun(small_shards, hub, repo_id)
    asked = threading.Event()

    def silent(request):
        if "alloy/pocket" not in request.url.path:
            return None
        asked.set()
        return Fault(delay=60)

    hub.fault = silent
    later = build_service(small_shards.settings, hub_for=quick_hub)
    try:
        later.jobs(ADA)
        until(asked.is_set)
        later.cancel(job.id, ADA)
        ended = later.queue.wait(job.id, 10)
        assert ended.state == "cancelled" and hub.store.find(repo_id) is None, ended.error
    finally:
        later.close()


def test_what_is_merged_is_what_was_checked(service, hub):
    found = service.check(BOTH, ADA)
    before = found.revisions["alloy/pocket-add"]
    hub.store.commit("alloy/pocket-add", {"notes.txt": str(time.time()).encode()}, message="meanwhile")
    assert hub.store.revision("alloy/pocket-add", "main").sha != before
    job = service.merge(to_yaml(found.recipe), ADA)
    assert before in job.payload["recipe"]
    service.cancel(job.id, ADA)


# --- chat


def final(replies):
    return list(replies)[-1]


def test_a_merge_is_asked_beside_its_parents(merged):
    service, job = merged
    panes = service.panes(job.id, ADA)
    shown = [
        ("Merge", 0),
        ("alloy/pocket-base", 0),
        ("alloy/pocket-reverse", 1),
        ("alloy/pocket-add", 2),
        (ENSEMBLE, 0),
    ]
    assert [(one.label, one.row) for one in panes] == shown
    labels = ["Merge", "alloy/pocket-base"]
    merge, base = final(service.chat(job.id, labels, [HELLO] * len(labels), ChatOptions(max_new_tokens=16), ADA))
    assert (merge.error, base.error) == ("", "")
    assert merge.text.strip() == "tekcop"
    assert base.text.strip() != "tekcop"


def test_other_merges_of_the_same_person_can_be_asked_and_nobody_elses(service):
    jobs = [
        service.queue.wait(service.merge(recipe("alloy/pocket-reverse", other), viewer).id, 60)
        for other, viewer in (("alloy/pocket-add", ADA), ("alloy/pocket-add", ADA), ("alloy/pocket-vowels", BOB))
    ]
    mine, other, bobs = jobs
    found = service.panes(mine.id, ADA)
    assert [one.key for one in found if one.kind == "other"] == [f"merge:{other.id}"]
    assert len({one.label for one in found}) == len(found)
    reply = final(service.chat(mine.id, [found[-1].label], [HELLO], ChatOptions(max_new_tokens=8), ADA))[0]
    assert reply.text.strip() == "tekcop"
    assert bobs.id not in str(found)
    with pytest.raises(MergeError, match="no job"):
        service.panes(bobs.id, ADA)


def test_private_files_for_chat_are_kept_apart_and_asked_for_each_time(service, hub, repo_name):
    copy_private(hub, f"ada/{repo_name}")
    hub.store.grant(f"ada/{repo_name}", "bob")
    viewers = [ADA, BOB]
    jobs = {
        v.owner: service.queue.wait(service.merge(recipe("alloy/pocket-reverse", f"ada/{repo_name}"), v).id, 60)
        for v in viewers
    }
    label = f"ada/{repo_name}"
    for v in viewers:
        assert not final(service.chat(jobs[v.owner].id, [label], [HELLO], ChatOptions(max_new_tokens=4), v))[0].error
    kept = list((service.settings.home / "models").rglob(f"*{repo_name}*"))
    assert len(kept) == 2
    assert not any("public" in str(folder) for folder in kept)
    hub.store.delete_repo(label)
    reply = final(service.chat(jobs[BOB.owner].id, [label], [HELLO], ChatOptions(max_new_tokens=4), BOB))[0]
    assert label in reply.error
    assert not reply.text


def test_what_cannot_be_asked_is_refused(merged):
    service, job = merged
    for labels, options, reason in [
        (["Nobody"], ChatOptions(), "no pane 'Nobody'"),
        ([], ChatOptions(), "Choose 1 to 4"),
        (["Merge"], ChatOptions(temperature=-1), "temperature"),
        (["Merge"], ChatOptions(max_new_tokens=0), "new tokens"),
        (["Merge"], ChatOptions(top_p=0), "top_p"),
    ]:
        with pytest.raises(MergeError, match=reason):
            service.chat(job.id, labels, [HELLO] * len(labels), options, ADA)
    with pytest.raises(MergeError, match="1 models, but 2 conversations"):
        service.chat(job.id, ["Merge"], [HELLO, HELLO], ChatOptions(), ADA)


# --- secrets and restarts


def test_no_token_is_left_in_the_work_folder(service, hub, repo_name):
    job = service.queue.wait(service.merge(BOTH, ADA).id, 60)
    assert published(service, job, ADA, f"ada/{repo_name}").state == "done"
    final(service.chat(job.id, ["Merge"], [HELLO], ChatOptions(max_new_tokens=4), ADA))
    for file in service.settings.home.rglob("*"):
        assert file.is_dir() or ADA_TOKEN.encode() not in file.read_bytes(), file
    shown = json.dumps([str(service.job(j.id, ADA)) + "".join(service.log(j.id, ADA)) for j in service.jobs(ADA)])
    assert ADA_TOKEN not in shown + repr(ADA) + repr(service.settings)
    assert not service.queue.secrets


def test_after_a_restart_a_waiting_merge_of_a_visitor_is_run_and_one_of_a_user_asks_for_their_sign_in(service):
    service.queue.closing.set()
    service.queue.notify()
    anonymous, signed_in = service.merge(BOTH, ANYONE), service.merge(BOTH, ADA)
    service.close()
    later = build_service(service.settings, hub_for=quick_hub)
    try:
        assert later.job(signed_in.id, ADA).state == "waiting"
        assert "Sign in again" in later.job(signed_in.id, ADA).error
        assert later.queue.wait(anonymous.id, 60).state == "done"
        later.jobs(ADA)  # as the page does when she has signed in
        assert later.queue.wait(signed_in.id, 60).state == "done"
    finally:
        later.close()


def test_a_card_that_the_hub_would_refuse_makes_no_job(merged):
    service, job = merged
    before = len(service.jobs(ADA))
    with pytest.raises(MergeError):
        service.publish(job.id, ADA, repo_id="ada/never", private=True, card="---\nlicense: [oops\n---\n# x\n")
    assert len(service.jobs(ADA)) == before


@pytest.mark.parametrize("at", ["/api/models/", "/cdn/"])
def test_a_job_that_waits_for_the_hub_is_cancelled_at_once(hub, settings, monkeypatch, at: str):
    """While it opens its models."""
    silent = threading.Event()

    def fall_silent(request):
        if at not in request.url.path:
            return None
        silent.set()
        return Fault(delay=60)

    service = build_service(settings, hub_for=Hub)
    enqueue = service.queue.enqueue

    def enqueue_in_silence(*arguments):  # the check has its answers before
        hub.fault = fall_silent
        enqueue(*arguments)

    monkeypatch.setattr(service.queue, "enqueue", enqueue_in_silence)
    try:
        job = service.merge(BOTH, ADA)
        assert silent.wait(20)
        began = time.monotonic()
        service.cancel(job.id, ADA)
        assert service.queue.wait(job.id, 10).state == "cancelled"
        assert time.monotonic() - began < 2
    finally:
        hub.fault = None
        service.close()


def test_what_somebody_began_before_they_signed_in_is_theirs(service):
    job = service.merge(BOTH, ANYONE)
    signed_in = replace(BOB, before=ANYONE.owner)
    assert [one.id for one in service.welcome(signed_in)] == [job.id]
    assert service.jobs(ANYONE) == []
    assert service.job(job.id, BOB).id == job.id


def test_the_cache_of_the_machine_is_never_read_for_strangers(hub, settings):
    for hosted in (True, False):
        service = build_service(replace(settings, home=settings.home / str(hosted), hosted=hosted), hub_for=quick_hub)
        try:
            job = service.merge(BOTH, ADA, cached=True)
            assert job.payload["cached"] is not hosted
            assert service.queue.wait(job.id, 60).state == "done"
        finally:
            service.close()
