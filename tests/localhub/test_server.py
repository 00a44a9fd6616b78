"""The server itself: where it listens, and how it is started from the command line."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from space.localhub import LocalHub


def listening_addresses(port: int) -> list[str]:
    """The local addresses, in the kernel's hexadecimal, of all listening sockets with this port."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_it_listens_on_loopback_only(hub: LocalHub) -> None:
    assert hub.url.startswith("http://127.0.0.1:")
    assert listening_addresses(port_of(hub.url)) == ["0100007F"]


def test_it_starts_stops_and_starts_again(tmp_path: Path) -> None:
    hub = LocalHub(tmp_path)
    hub.start()
    url = hub.url
    assert httpx2.get(url).status_code == 200
    hub.stop()
    hub.stop()
    assert listening_addresses(port_of(url)) == []
    with hub:
        assert hub.url == url and httpx2.get(url).status_code == 200


def test_a_taken_port_is_an_error(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        LocalHub(tmp_path, port=port_of(hub.url)).start()


def test_nothing_is_said_while_it_works(
    hub: LocalHub, ada: HfApi, repo_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ada.create_repo(repo_id)
    ada.model_info(repo_id)
    httpx2.get(f"{hub.url}/nothing/at/all")
    assert capfd.readouterr() == ("", "")


def test_the_command_line_serves_and_imports(tmp_path: Path) -> None:
    model = tmp_path / "models" / "acme" / "one"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    places = ["--root", str(tmp_path / "hub"), "--import", str(tmp_path / "models")]
    command = [sys.executable, "-m", "space.localhub", *places]
    with subprocess.Popen(
        [*command, "--user", "ada"], stdout=subprocess.PIPE, text=True, env={"LOCALHUB_TOKEN": "t"}
    ) as run:
        assert run.stdout is not None
        api = HfApi(endpoint=run.stdout.readline().strip(), token="t")
        try:
            assert [model.id for model in api.list_models()] == ["acme/one"]
            assert api.whoami()["name"] == "ada"
        finally:
            run.terminate()
