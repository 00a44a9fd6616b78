"""Tests touch no address but loopback, and no home folder but their own."""

import socket
from pathlib import Path

import pytest

import tests.environment  # noqa: F401 - first of all
from tests.hub_fixture import local_hub, repo_id, server  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="sweep all of what is a sample otherwise; takes long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that no worker is left with it while the others have nothing to do."""
    items.sort(key=lambda item: "journey" not in item.path.parts)


connect = socket.socket.connect


def connect_to_loopback(self: socket.socket, address: object) -> None:
    host = address[0] if isinstance(address, tuple) else address
    if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0"):
        raise RuntimeError(f"a test tried to reach {address!r}")
    connect(self, address)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="session")
def no_network() -> None:
    socket.socket.connect = connect_to_loopback  # type: ignore[assignment,method-assign]


@pytest.fixture(autouse=True)
def work_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOY_HOME", str(tmp_path / "alloy"))
