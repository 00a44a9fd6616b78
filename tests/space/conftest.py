"""What the tests of the app share: the local Hub with the demo models, and people who use them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from merging.hub import Hub
from merging.hub.access import Account
from space.demo.hub import MODELS
from space.localhub import LocalHub
from space.service import Service, build_service
from space.settings import Settings
from space.viewer import Token, Viewer
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN, BOB_TOKEN
from tests.merging.hubs import QUICK

ADA = Viewer("hf:6a", Account("ada", "Ada", ("acme",), can_write=True, id="6a"), ADA_TOKEN)
ADA_READING = Viewer("hf:6a", Account("ada", "Ada", ("acme",), can_write=False, id="6a"), ADA_READ_TOKEN)
BOB = Viewer("hf:6b", Account("bob", "Bob", (), can_write=True, id="6b"), BOB_TOKEN)
ANYONE = Viewer("anon:1")

numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub 2.4 passes an LFS upload's file to httpx2 as `data=`.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=:DeprecationWarning")


def quick_hub(token: Token) -> Hub:
    return Hub(token, QUICK)


@pytest.fixture(scope="session")
def pocket_hub(local_hub: LocalHub) -> LocalHub:
    """The shared Hub with the demo models: alloy/pocket-base and its fine-tunes."""
    local_hub.store.import_folder(MODELS)
    return local_hub


@pytest.fixture
def hub(pocket_hub: LocalHub) -> Iterator[LocalHub]:
    yield pocket_hub
    pocket_hub.fault = None


@pytest.fixture
def repo_name() -> str:
    """A name no other test publishes under."""
    return f"app-merge-{next(numbers)}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home", hosted=True, threads=2, chat_memory_bytes=1_000_000_000)


@pytest.fixture
def service(hub: LocalHub, settings: Settings) -> Iterator[Service]:
    built = build_service(settings, hub_for=quick_hub)
    yield built
    built.close()


@pytest.fixture(scope="module")
def one_service(pocket_hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests of a file, each with a tab of its own."""
    settings = Settings(tmp_path_factory.mktemp("home"), hosted=True, threads=2, chat_memory_bytes=1_000_000_000)
    built = build_service(settings, hub_for=quick_hub)
    yield built
    built.close()


@pytest.fixture
def new_tab(one_service: Service) -> Iterator[str]:
    """A tab in which nothing is loaded. When it closes, nothing is left in memory."""
    tab = f"tab-{next(numbers)}"
    yield tab
    one_service.live.close_tab(tab)
    assert one_service.live.sessions == {} and one_service.chats.models.reserved_bytes == 0


def recipe(*models: str, method: str = "task_arithmetic", base: str | None = "alloy/pocket-base") -> str:
    """A recipe of models with weight 1."""
    head = f"merge_method: {method}\n" + (f"base_model: {base}\n" if base else "")
    return head + "models:\n" + "".join(f"  - model: {m}\n    parameters: {{weight: 1.0}}\n" for m in models)


BOTH = recipe("alloy/pocket-reverse", "alloy/pocket-add")
