"""A family of checkpoints as small as they come."""

from pathlib import Path

import pytest

from benchmarks.checkpoints import ensure_checkpoints
from benchmarks.llama import Shape

TINY = Shape(hidden=256, layers=2, vocab=1000)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_checkpoints(tmp_path_factory.mktemp("bench"), TINY, seed=1)
