"""What the tests of the local Hub share."""

import itertools
from collections.abc import Iterator

import httpx2
import pytest
from huggingface_hub import HfApi

import tests.conftest as top
from space.localhub import LocalHub
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN, BOB_TOKEN

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
def reading_ada(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=ADA_READ_TOKEN)


@pytest.fixture
def bob(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=BOB_TOKEN)


@pytest.fixture
def anyone(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


@pytest.fixture(scope="session")
def http(local_hub: LocalHub) -> Iterator[httpx2.Client]:
    """A plain client with Ada's token, for what the real one would never send."""
    with httpx2.Client(base_url=local_hub.url, headers={"authorization": f"Bearer {ADA_TOKEN}"}) as client:
        yield client


@pytest.fixture(scope="session")
def visitor(local_hub: LocalHub) -> Iterator[httpx2.Client]:
    """A plain client of nobody."""
    with httpx2.Client(base_url=local_hub.url) as client:
        yield client
