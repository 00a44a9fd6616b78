"""Memory stays within the budget, however large a tensor is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from merging.header import format_header
from merging.recipe import Recipe, to_yaml
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


def sparse_model(folder: Path, numel: int = NUMEL) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    header = format_header([("w", "BF16", (numel,), 2 * numel)])
    with (folder / "model.safetensors").open("wb") as f:
        f.write(header)
        f.truncate(len(header) + 2 * numel)
    return folder


def merge_apart(tmp_path: Path, recipe: Recipe, budget: int) -> dict[str, int]:
    """Merge in a process of its own; its peak memory, and what was planned."""
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    arguments = [sys.executable, "-c", MERGE, str(tmp_path / "r.yaml"), str(tmp_path / "out"), str(budget)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("method", "parameters"), [("task_arithmetic", {}), ("ties", {"density": 0.5})])
def test_one_large_tensor_in_a_small_budget(tmp_path, method, parameters):
    base, *tunes = (sparse_model(tmp_path / name) for name in ("base", "one", "two"))
    found = merge_apart(tmp_path, recipe_of(method, tunes, base, weight=0.5, **parameters), BUDGET)
    assert found["peak"] <= found["planned"] <= BUDGET + 400_000_000


def test_a_tensor_of_two_billion_numbers(tmp_path):
    """16 GB of holes in, 4 GB out, in the memory that a merge takes by default."""
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("needs 6 GB of disk")
    models = [sparse_model(tmp_path / name, 2_000_000_000) for name in "abcd"]
    found = merge_apart(tmp_path, recipe_of("linear", models, weight=0.25), 1_000_000_000)
    shutil.rmtree(tmp_path / "out")
    assert found["peak"] <= found["planned"] <= 1_500_000_000


DIAGNOSE = """
import json, sys
from pathlib import Path
from merging.checkpoint import Folder, open_checkpoint
from merging.diagnostics.diagnosis import compare, diagnose
from merging.engine import Options
from merging.recipe import all_models, parse_recipe

recipe = parse_recipe(Path(sys.argv[1]).read_text())
checkpoints = {ref: open_checkpoint(Folder(Path(ref.path))) for ref in all_models(recipe)}
options = Options(memory_bytes=int(sys.argv[2]), threads=2)
for _ in diagnose(recipe, checkpoints, options, sample=sys.argv[3] == "sample"):
    pass
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
planned = compare(recipe, checkpoints, options, None).plan.budget.peak_bytes
print(json.dumps({"peak": peak * 1024, "planned": planned}))
"""


@pytest.mark.parametrize("sample", ["all", "sample"])
def test_a_diagnosis_of_many_tensors_in_a_small_budget(tmp_path, sample):
    """The counts of each tensor are large, and must go when it is done."""
    tensors = [(f"model.layers.{i}.mlp.up_proj.weight", "BF16", (100, 1000), 200_000) for i in range(200)]
    header = format_header(tensors)
    for name in ("base", "a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        with (tmp_path / name / "model.safetensors").open("wb") as f:
            f.write(header)
            f.truncate(len(header) + 200 * 200_000)
    recipe = recipe_of("ties", [tmp_path / "a", tmp_path / "b"], tmp_path / "base", weight=1.0, density=0.5)
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    arguments = [sys.executable, "-c", DIAGNOSE, str(tmp_path / "r.yaml"), str(BUDGET), sample]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] < found["planned"]
