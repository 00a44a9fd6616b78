"""The Hub of the tests: a real server on loopback, one for the whole run."""

import itertools
from collections.abc import Iterator

import pytest

from space.localhub import LocalHub
from tests.environment import HUB_PORT

ADA_TOKEN = "hf_ada_token_for_tests"
ADA_READ_TOKEN = "hf_ada_read_token"
BOB_TOKEN = "hf_bob_token_for_tests"

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def local_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """Ada is in acme, Bob is in nothing. All tests share the repos, so each makes its own.

    Large files come from another host name, as on the real Hub: a token that follows the redirect is a leak.
    """
    with LocalHub(tmp_path_factory.mktemp("hub"), port=HUB_PORT, cdn_host="localhost") as hub:
        hub.store.add_user("ada", token=ADA_TOKEN, fullname="Ada", orgs=("acme",))
        hub.store.add_user("ada", token=ADA_READ_TOKEN, role="read")
        hub.store.add_user("bob", token=BOB_TOKEN, fullname="Bob")
        yield hub


@pytest.fixture
def server(local_hub: LocalHub) -> Iterator[LocalHub]:
    """The shared Hub, without the last test's faults and records."""
    local_hub.requests.clear()
    yield local_hub
    local_hub.fault = None


@pytest.fixture
def repo_id() -> str:
    """A name no other test has, in an organisation of Ada's."""
    return f"acme/model-{next(numbers)}"
