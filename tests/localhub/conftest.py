"""What the tests of the local Hub share."""

import itertools
from collections.abc import Iterator

import pytest
from huggingface_hub import HfApi

import tests.conftest as top
from space.localhub import LocalHub
from tests.hub_fixture import ADA_TOKEN, BOB_TOKEN

if not hasattr(top, "local_hub"):  # two would want the same port
    from tests.hub_fixture import local_hub  # noqa: F401

numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub 2.4 passes an LFS upload's file to httpx2 as `data=`.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(local_hub: LocalHub) -> Iterator[LocalHub]:
    """The shared Hub, without the last test's faults and records."""
    local_hub.requests.clear()
    yield local_hub
    local_hub.fault = None


@pytest.fixture
def repo_id() -> str:
    """A name no other test has."""
    return f"acme/model-{next(numbers)}"


@pytest.fixture
def ada(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=ADA_TOKEN)


@pytest.fixture
def bob(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=BOB_TOKEN)


@pytest.fixture
def anyone(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)
