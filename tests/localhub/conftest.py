"""What the tests of the local Hub share."""

from collections.abc import Iterator

import httpx2
import pytest
from huggingface_hub import HfApi

from space.localhub import LocalHub
from tests.hub_fixture import ADA_READ_TOKEN, ADA_TOKEN, BOB_TOKEN


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    return server


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
