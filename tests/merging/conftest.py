"""What the tests of the engine share: the local Hub, as the last test has not left it."""

import itertools
from collections.abc import Iterator

import pytest

import tests.conftest as top
from space.localhub import LocalHub

if not hasattr(top, "local_hub"):  # two would want the same port
    from tests.hub_fixture import local_hub  # noqa: F401

numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub 2.4 passes an LFS upload's file to httpx2 as `data=`.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def server(local_hub: LocalHub) -> Iterator[LocalHub]:
    """The shared Hub, without the last test's faults and records."""
    local_hub.requests.clear()
    yield local_hub
    local_hub.fault = None


@pytest.fixture
def repo_id() -> str:
    """A name no other test has, in an organisation of Ada's."""
    return f"acme/merge-{next(numbers)}"
