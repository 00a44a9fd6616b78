"""Files of a merge by raw HTTP: whole, in ranges, and for their owner alone."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from space import download
from space.service import build_service
from space.settings import Settings
from space.viewer import Viewer
from tests.hub_fixture import ADA_TOKEN, BOB_TOKEN
from tests.space.conftest import BOTH, quick_hub


@pytest.fixture(scope="module")
def served(pocket_hub, tmp_path_factory):
    """A web server, and a finished merge of Ada's."""
    home = tmp_path_factory.mktemp("download") / "home"
    service = build_service(Settings(home, hosted=True, threads=2), hub_for=quick_hub)
    account = quick_hub(ADA_TOKEN).whoami()
    assert account is not None
    job = service.merge(BOTH, viewer := Viewer(f"hf:{account.id}", account, ADA_TOKEN))
    assert service.queue.wait(job.id, 60).state == "done"
    with TestClient(Starlette(routes=download.routes(service))) as web:
        yield web, job.id, service.files(job.id, viewer), service
    service.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_every_file_comes_as_it_lies(served):
    web, job, files, _ = served
    assert {"model.safetensors", "README.md", "merge_report.json", "tokenizer.json"} <= files.keys()
    for name, path in files.items():
        answer = web.get(f"/{download.address(job, name)}", headers=bearer(ADA_TOKEN))
        assert answer.status_code == 200 and answer.content == path.read_bytes()
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_download_that_broke_off_goes_on(served):
    web, job, files, _ = served
    url, whole = f"/download/{job}/model.safetensors", files["model.safetensors"].read_bytes()
    begun = web.get(url, headers={**bearer(ADA_TOKEN), "Range": "bytes=0-999"})
    assert (begun.status_code, begun.content) == (206, whole[:1000])
    assert begun.headers["content-range"] == f"bytes 0-999/{len(whole)}"
    rest = web.get(url, headers={**bearer(ADA_TOKEN), "Range": "bytes=1000-", "If-Range": begun.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, whole[1000:])
    beyond = web.get(url, headers={**bearer(ADA_TOKEN), "Range": f"bytes={len(whole)}-"})
    assert beyond.status_code == 416
    head = web.head(url, headers=bearer(ADA_TOKEN))
    assert (head.headers["content-length"], head.headers["accept-ranges"], head.content) == (
        str(len(whole)),
        "bytes",
        b"",
    )


@pytest.mark.parametrize("headers", [{}, bearer(BOB_TOKEN), bearer("hf_nobodys"), {"Authorization": "Basic eA=="}])
def test_to_everybody_else_there_is_no_such_job(served, headers):
    web, job, _, _ = served
    there, not_there = (web.get(f"/download/{id}/README.md", headers=headers) for id in (job, "0" * 16))
    assert there.status_code == not_there.status_code == 404
    assert there.text.replace(job, "0" * 16) == not_there.text and "pocket" not in there.text


@pytest.mark.parametrize(
    "file",
    ["../../../journal.sqlite", "%2e%2e/%2e%2e/journal.sqlite", "..%2f..%2fjournal.sqlite", "/etc/passwd", ".", ""],
)
def test_nothing_but_the_files_of_the_merge_is_found(served, file):
    web, job, _, service = served
    assert (service.settings.home / "journal.sqlite").exists()
    assert web.get(f"/download/{job}/{file}", headers=bearer(ADA_TOKEN)).status_code == 404


def test_a_link_out_of_the_folder_is_not_followed(served):
    web, job, _, service = served
    (service.model_folder(job) / "out").symlink_to(service.settings.home / "journal.sqlite")
    assert web.get(f"/download/{job}/out", headers=bearer(ADA_TOKEN)).status_code == 404
