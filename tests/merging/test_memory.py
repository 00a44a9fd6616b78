"""Memory stays within the budget, however large a tensor is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from merging.header import format_header
from merging.recipe import to_yaml
from tests.merging.models import recipe_of

ROOT = Path(__file__).parents[2]
NUMEL = 60_000_000  # one tensor of 120 MB in bf16; as a hole in a file it takes no disk
BUDGET = 100_000_000

MERGE = """
import json, sys
from pathlib import Path
from merging.checkpoint import Folder, open_checkpoint
from merging.engine import Options, merge
from merging.plan import make_plan
from merging.recipe import all_models, parse_recipe
import merging.writer as writer

recipe = parse_recipe(Path(sys.argv[1]).read_text())
checkpoints = {ref: open_checkpoint(Folder(Path(ref.path))) for ref in all_models(recipe)}
options = Options(memory_bytes=int(sys.argv[3]), threads=2)
plan = make_plan(recipe, checkpoints, shard_bytes=10**12, memory_bytes=options.memory_bytes, threads=2)
for _ in merge(recipe, checkpoints, Path(sys.argv[2]), options):
    pass
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak * 1024, "planned": plan.peak_memory_bytes}))
"""


def sparse_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    header = format_header([("w", "BF16", (NUMEL,), 2 * NUMEL)])
    with (folder / "model.safetensors").open("wb") as f:
        f.write(header)
        f.truncate(len(header) + 2 * NUMEL)
    return folder


@pytest.mark.parametrize(("method", "parameters"), [("task_arithmetic", {}), ("ties", {"density": 0.5})])
def test_one_large_tensor_in_a_small_budget(tmp_path, method, parameters):
    base, *tunes = (sparse_model(tmp_path / name) for name in ("base", "one", "two"))
    (tmp_path / "r.yaml").write_text(to_yaml(recipe_of(method, tunes, base, weight=0.5, **parameters)))
    arguments = [sys.executable, "-c", MERGE, tmp_path / "r.yaml", tmp_path / "out", str(BUDGET)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] <= found["planned"] <= BUDGET + 400_000_000
