"""Looks at the weights as jobs: what they find is kept, and is their owner's alone."""

import csv
import io
import json

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from merging.diagnostics.entries import BINS
from merging.errors import MergeError
from space import download
from space.demo.hub import MODELS
from space.service import build_service
from space.settings import Settings
from tests.hub_fixture import ADA_TOKEN, BOB_TOKEN
from tests.space.conftest import ADA, ANYONE, BOB, BOTH, quick_hub, recipe

MIDDLE = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def looked(pocket_hub, tmp_path_factory):
    """A service, and an inspection of Ada's: one of the models is hers alone."""
    store = pocket_hub.store
    if store.find("ada/quiet-add") is None:
        store.create_repo("ada/quiet-add", private=True)
        store.commit("ada/quiet-add", {p.name: p for p in (MODELS / "alloy" / "pocket-add").iterdir()}, message="-")
    settings = Settings(tmp_path_factory.mktemp("inspect") / "home", hosted=True, threads=2, max_jobs_per_owner=9)
    service = build_service(settings, hub_for=quick_hub)
    text = recipe("alloy/pocket-reverse", "ada/quiet-add", method="ties").replace("1.0}", "1.0, density: 0.3}")
    job = service.queue.wait(service.inspections.begin(text, ADA, sample=True).id, 120)
    assert job.state == "done", job.error
    yield service, job
    service.close()


def test_it_finds_what_the_engine_finds(looked):
    service, job = looked
    found = service.inspections.diagnosis(job.id, ADA)
    assert found.names == ("pocket-reverse", "quiet-add") and found.looked_share == 1  # the models are that small
    assert found.keep == 0.3 and found.tensor(MIDDLE) is not None
    assert 0.02 < found.whole.models[0].size < 0.2
    assert job.result["read_bytes"] == found.read_bytes > 0 and job.payload["recipe"].count("revision") == 0
    assert "@" in job.payload["recipe"]  # at the commits that were read


def test_the_changes_of_one_tensor(looked):
    service, job = looked
    found = service.inspections.histogram(job.id, MIDDLE, ADA)
    assert found.after is not None and found.zeros_after > max(found.zeros)
    assert service.inspections.patch(job.id, MIDDLE, ADA).wide.shape == (3, 8)
    with pytest.raises(MergeError, match="There is no tensor 'nothing'"):
        service.inspections.histogram(job.id, "nothing", ADA)


def test_the_changes_of_one_tensor_as_files_for_their_owner_alone(looked):
    service, job = looked
    account = quick_hub(ADA_TOKEN).whoami()
    assert account is not None
    service.queue.hand_over(ADA.owner, owner := f"hf:{account.id}")
    try:
        with TestClient(Starlette(routes=download.routes(service))) as web:

            def get(tensor, kind, token=ADA_TOKEN):
                place = download.changes_address(job.id, tensor, kind)
                return web.get(f"/{place}", headers={"Authorization": f"Bearer {token}"})

            table = get(MIDDLE, "csv")
            rows = list(csv.DictReader(io.StringIO(table.text)))
            assert {row["model"] for row in rows} == {"pocket-reverse", "quiet-add", "after ties"}
            assert len(rows) == 3 * (1 + BINS) and {row["tensor"] for row in rows} == {MIDDLE}
            for model in ("pocket-reverse", "after ties"):
                mine = [row for row in rows if row["model"] == model]
                assert sum(float(row["share of the entries"]) for row in mine) == pytest.approx(1)
            assert table.headers["content-disposition"] == f'attachment; filename="changes-{MIDDLE}.csv"'
            assert get(MIDDLE, "png").content.startswith(b"\x89PNG")
            assert get(MIDDLE, "exe").status_code == get("a/../b", "csv").status_code == 404
            assert [get(MIDDLE, kind, BOB_TOKEN).status_code for kind in ("csv", "png")] == [404, 404]
    finally:
        service.queue.hand_over(owner, ADA.owner)


@pytest.mark.parametrize("other", [BOB, ANYONE])
def test_to_everybody_else_there_is_no_such_inspection(looked, other):
    service, job = looked
    for ask in (
        lambda id: service.inspections.get(id, other),
        lambda id: service.inspections.diagnosis(id, other),
        lambda id: service.inspections.histogram(id, MIDDLE, other),
        lambda id: service.inspections.changes(id, MIDDLE, "csv", other),
        lambda id: service.inspections.patch(id, MIDDLE, other),
        lambda id: service.files(id, other),
    ):
        with pytest.raises(MergeError) as there:
            ask(job.id)
        with pytest.raises(MergeError) as nowhere:
            ask("0" * 16)
        assert str(there.value).replace(job.id, "0" * 16) == str(nowhere.value)


def test_numbers_of_a_private_model_are_read_with_the_token_of_who_asks(looked):
    """A job that has become somebody else's opens no models for them."""
    service, job = looked
    service.queue.hand_over(ADA.owner, BOB.owner)
    try:
        for ask in (service.inspections.histogram, service.inspections.patch):
            with pytest.raises(MergeError, match="There is no model ada/quiet-add"):
                ask(job.id, MIDDLE, BOB)
    finally:
        service.queue.hand_over(BOB.owner, ADA.owner)


def test_its_files_are_sent_to_its_owner_alone(looked):
    service, job = looked
    names = list(service.files(job.id, ADA))
    assert names[:2] == ["diagnosis.csv", "diagnosis.json"] and "energy.png" in names
    with TestClient(Starlette(routes=download.routes(service))) as web:

        def get(name, token):
            return web.get(f"/{download.address(job.id, name)}", headers={"Authorization": f"Bearer {token}"})

        account = quick_hub(ADA_TOKEN).whoami()
        assert account is not None
        service.queue.hand_over(ADA.owner, owner := f"hf:{account.id}")
        try:
            rows = list(csv.DictReader(io.StringIO(get(names[0], ADA_TOKEN).text)))
            assert {row["quantity"] for row in rows} > {"size", "cosine", "conflict_weighted"}
            assert json.loads(get(names[1], ADA_TOKEN).text)["method"] == "ties"
            assert get("energy.png", ADA_TOKEN).content.startswith(b"\x89PNG")
            assert {get(name, BOB_TOKEN).status_code for name in names} == {404}
            assert get("../../../journal.sqlite", ADA_TOKEN).status_code == 404
        finally:
            service.queue.hand_over(owner, ADA.owner)


def test_what_cannot_be_compared_is_refused_at_once(service):
    with pytest.raises(MergeError, match="nothing to compare"):
        service.inspections.begin(recipe("alloy/pocket-add", base=None, method="linear"), ADA, sample=True)
    assert service.jobs(ADA) == []


def test_too_much_to_read_is_refused_and_a_sample_is_not(hub, tmp_path):
    settings = Settings(tmp_path / "home", hosted=True, threads=2, merge_bytes=1_000_000)
    service = build_service(settings, hub_for=quick_hub)
    try:
        with pytest.raises(MergeError, match=r"have 3\.78 MB, and 1\.00 MB can be read at once here. Look at a sample"):
            service.inspections.begin(BOTH, ADA, sample=False)
        assert service.inspections.begin(BOTH, ADA, sample=True).active
    finally:
        service.close()


def test_a_merge_is_no_inspection_and_an_inspection_no_merge(looked):
    service, job = looked
    merge = service.queue.wait(service.merge(BOTH, ADA).id, 60)
    with pytest.raises(MergeError, match="This job is a merge; an inspection is needed"):
        service.inspections.diagnosis(merge.id, ADA)
    with pytest.raises(MergeError, match="a merge that is done is needed"):
        service.download(job.id, ADA)


def test_an_inspection_is_cancelled_and_forgotten_like_any_job(looked):
    service, _ = looked
    job = service.inspections.begin(BOTH, ADA, sample=False)
    service.cancel(job.id, ADA)
    assert service.queue.wait(job.id, 60).state in ("cancelled", "done")
    service.forget(job.id, ADA)
    with pytest.raises(MergeError, match="There is no job"):
        service.inspections.diagnosis(job.id, ADA)
    assert not service.queue.folder(job.id).exists()
