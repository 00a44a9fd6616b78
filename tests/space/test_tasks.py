import json
import shutil
import time
from dataclasses import replace
from functools import partial

import pytest

from merging.errors import MergeError
from merging.perseverance import persevere
from space.demo.hub import MODELS
from space.localhub import Fault
from space.service import build_service
from space.tasks import RECEIPT
from tests.merging.hubs import always
from tests.space.conftest import ADA, BOTH, quick_hub, recipe


def test_a_merge_of_folders_is_published_whole_and_does_not_tell_where_they_lie(hub, settings, repo_name, tmp_path):
    base, tune = tmp_path / "private/base", tmp_path / "private/tune"
    for name, folder in (("base", base), ("add", tune)):
        shutil.copytree(MODELS / "alloy" / f"pocket-{name}", folder)
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates/tool.jinja").write_text("x")
    service = build_service(replace(settings, folders=True), hub_for=quick_hub)
    try:
        made = service.queue.wait(service.merge(recipe(str(tune), base=str(base)), ADA).id, 60)
        assert made.state == "done", made.error
        repo_id = f"ada/{repo_name}"
        card = service.card(made.id, ADA, repo_id=repo_id)
        sent = service.publish(made.id, ADA, repo_id=repo_id, private=True, card=card)
        done = service.queue.wait(sent.id, 60)
        assert done.state == "done", done.error
        local = service.download(made.id, ADA)
        assert str(tune) in (local / "merge_recipe.yaml").read_text(), "the merge itself is not touched"
    finally:
        service.close()
    files = hub.store.files(repo_id)
    assert files.keys() >= {"additional_chat_templates/tool.jinja", "merge_recipe.yaml", "README.md"}
    texts = {
        name: hub.store.read(repo_id, name).read_bytes() for name in files if name.endswith((".yaml", ".json", ".md"))
    }
    assert b"model: ./tune" in texts["merge_recipe.yaml"] and json.loads(texts["merge_report.json"])["models"]
    assert not [name for name, text in texts.items() if str(tmp_path).encode() in text]


@pytest.fixture
def made(hub, settings):
    """A merge of one's own that is done, in a service that may be closed and opened again."""
    service = build_service(settings, hub_for=quick_hub)
    job = service.queue.wait(service.merge(BOTH, ADA).id, 60)
    assert job.state == "done", job.error
    yield service, job
    service.close()


def publish(service, job, repo_id):
    card = service.card(job.id, ADA, repo_id=repo_id)
    return service.publish(job.id, ADA, repo_id=repo_id, private=True, card=card)


def commits(hub, repo_id):
    return len(list(hub.store.history(repo_id))) - 1  # but the one that it starts with


def is_sent(hub, repo_id):
    """Wait until the shard of a publication is on the Hub, whose commit waits."""
    end = time.monotonic() + 30
    while not any(r.path.endswith(f"{repo_id}/commit/main") for r in hub.requests) and time.monotonic() < end:
        time.sleep(0.02)


def test_a_publication_goes_on_after_a_restart(made, hub, settings, repo_name):
    service, job = made
    repo_id, before = f"ada/{repo_name}", len(hub.requests)
    hub.fault = always(Fault(status=500), path="/commit/")
    sent = publish(service, job, repo_id)
    is_sent(hub, repo_id)
    service.close()
    hub.fault = None
    later = build_service(settings, hub_for=quick_hub)
    try:
        assert later.job(sent.id, ADA).state == "waiting"  # for its owner's token, which was in memory only
        later.jobs(ADA)
        done = later.queue.wait(sent.id, 60)
        assert done.state == "done", done.error
    finally:
        later.close()
    assert commits(hub, repo_id) == 1
    assert sum(r.method == "PUT" and "/lfs/" in r.path for r in hub.requests[before:]) == 1


def failed_at_the_commit(service, job, hub, repo_id, monkeypatch):
    """A publication of which all but the commit has arrived."""
    monkeypatch.setattr("space.tasks.persevere", partial(persevere, pauses=(0.01,), outage=0.1))
    hub.fault = always(Fault(status=500), path="/commit/")
    failed = service.queue.wait(publish(service, job, repo_id).id, 60)
    hub.fault = None
    return failed


def test_a_publication_that_failed_goes_on_when_it_is_asked_for_again(made, hub, repo_name, monkeypatch):
    service, job = made
    repo_id = f"ada/{repo_name}"
    failed = failed_at_the_commit(service, job, hub, repo_id, monkeypatch)
    assert failed.state == "failed" and f"{repo_id} is left, with 1 shard sent to it" in failed.error
    assert failed.error.endswith("Publish it there again: it goes on with what has been sent.")
    with pytest.raises(MergeError, match="exists already"):  # as it would be public, this is another one
        service.publish(job.id, ADA, repo_id=repo_id, private=False, card=service.card(job.id, ADA))
    card = service.card(job.id, ADA, repo_id=repo_id) + "\nA word more.\n"
    again = service.publish(job.id, ADA, repo_id=repo_id, private=True, card=card)
    assert again.id == failed.id
    assert service.queue.wait(again.id, 60).state == "done"
    assert commits(hub, repo_id) == 1 and hub.store.read(repo_id, "README.md").read_text().endswith("A word more.\n")


def test_a_publication_that_was_made_is_not_made_again_where_the_word_of_it_was_lost(made, hub, settings, repo_name):
    service, job = made
    repo_id = f"ada/{repo_name}"
    sent = service.queue.wait(publish(service, job, repo_id).id, 60)
    assert (service.queue.folder(sent.id) / RECEIPT).read_text() == sent.result["url"]
    service.queue.journal.end(sent.id, "failed")  # as if it had been killed just before
    again = service.queue.wait(service.again(sent.id, ADA).id, 60)
    assert (again.state, again.result["url"]) == ("done", sent.result["url"]) and commits(hub, repo_id) == 1


def test_a_publication_goes_on_though_its_merge_was_removed(made, hub, repo_name, monkeypatch):
    service, job = made
    repo_id = f"ada/{repo_name}"
    failed = failed_at_the_commit(service, job, hub, repo_id, monkeypatch)
    service.forget(job.id, ADA)
    again = service.queue.wait(service.again(failed.id, ADA).id, 60)
    assert again.state == "done", again.error
    assert commits(hub, repo_id) == 1


def test_who_cancels_a_publication_leaves_nothing(made, hub, repo_name):
    service, job = made
    repo_id = f"ada/{repo_name}"
    hub.fault = always(Fault(status=500), path="/commit/")
    sent = publish(service, job, repo_id)
    is_sent(hub, repo_id)
    service.cancel(sent.id, ADA)
    ended = service.queue.wait(sent.id, 60)
    assert (ended.state, ended.error) == ("cancelled", "Nothing was published, and nothing is left on the Hub.")
    assert hub.store.find(repo_id) is None
