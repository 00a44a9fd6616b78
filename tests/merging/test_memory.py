"""Memory stays within the budget, however large a tensor is."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.header import DTYPE_BITS, format_header
from merging.methods import METHODS
from merging.recipe import Recipe, to_yaml
from tests.merging.kernels import REQUIRED, noise, settings_of
from tests.merging.models import least_memory, opened, recipe_of

ROOT = Path(__file__).parents[2]
SHAPE = (60_000, 1000)  # 120 MB in bf16; as a hole in a file it takes no disk
BUDGET = 100_000_000
# Where all of a tensor is needed at once it is smaller, and the budget is what that takes.
WHOLE = {"tensor": (4000, 1000), "matrix": (20_000, 400)}

MERGE = """
import json, sys
from pathlib import Path
from merging.checkpoint import Folder, open_checkpoint
from merging.engine import Options, merge
from merging.plan import make_plan
from merging.recipe import all_models, parse_recipe

recipe = parse_recipe(Path(sys.argv[1]).read_text())
checkpoints = {ref: open_checkpoint(Folder(Path(ref.path))) for ref in all_models(recipe)}
options = Options(memory_bytes=int(sys.argv[3]), threads=2)
plan = make_plan(recipe, checkpoints, shard_bytes=10**12, memory_bytes=options.memory_bytes, threads=2)
for _ in merge(recipe, checkpoints, Path(sys.argv[2]), options):
    pass
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak * 1024, "planned": plan.peak_memory_bytes}))
"""


def sparse_model(folder: Path, shape: tuple[int, ...], seed: int | None = None, dtype: str = "BF16") -> Path:
    """One tensor of zeros, as a hole; or of random numbers, for methods that find nothing to do in zeros."""
    folder.mkdir()
    (folder / "config.json").write_text('{"num_hidden_layers": 1}')
    nbytes = DTYPE_BITS[dtype] // 8 * math.prod(shape)
    header = format_header([("layers.0.w", dtype, shape, nbytes)])
    with (folder / "model.safetensors").open("wb") as f:
        f.write(header)
        if seed is not None:
            numbers = noise(*shape, seed=seed) * 0.02
            f.write((numbers.bfloat16() if dtype == "BF16" else numbers).view(torch.uint8).numpy().tobytes())
        f.truncate(len(header) + nbytes)
    return folder


def merge_apart(tmp_path: Path, recipe: Recipe, budget: int) -> dict[str, int]:
    """Merge in a process of its own; its peak memory, and what was planned."""
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    arguments = [sys.executable, "-c", MERGE, str(tmp_path / "r.yaml"), str(tmp_path / "out"), str(budget)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


MORE: dict[str, list[dict[str, Any]]] = {  # besides the defaults, and a density of a half
    "ties": [{"rescale": True}],
    "nuslerp": [{}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}],
    "model_stock": [{}, {"filter_wise": True}],
    "sce": [{"select_topk": 0.5}],
}


AS_FLOAT32 = ("linear", "ties", "della", "sce", "pcb", "tsv")  # one of each way to go over tensors


@pytest.mark.parametrize(
    ("method", "more", "dtype"),
    [(m, more, "BF16") for m in METHODS for more in MORE.get(m, [{}])] + [(m, {}, "F32") for m in AS_FLOAT32],
)
def test_one_large_tensor_in_a_small_budget(tmp_path, method, more, dtype):
    declared = METHODS[method]
    given = {p.name: REQUIRED[p.name] for p in declared.params if p.default is None} | more
    given |= {"density": 0.5} if declared.param("density") else {}
    granularity = declared.granularity(settings_of(declared, 2, given))
    shape, seeds = WHOLE.get(granularity, SHAPE), range(3) if granularity == "matrix" else [None] * 3
    names = zip(("base", "one", "two"), seeds, strict=True)
    base, *tunes = (sparse_model(tmp_path / name, shape, seed, dtype) for name, seed in names)
    recipe = recipe_of(method, tunes[: declared.max_models], base if declared.needs_base else None, **given)
    budget = least_memory(recipe, opened(recipe)) if granularity in WHOLE else BUDGET
    found = merge_apart(tmp_path, recipe, budget)
    assert found["peak"] <= found["planned"] <= budget + 400_000_000


@pytest.mark.parametrize("method", ["tsv", "iso_c", "iso_cts"])
def test_matrices_of_a_model_of_1b_parameters_fit_into_the_default_budget(tmp_path, method):
    base, *tunes = (sparse_model(tmp_path / name, (8192, 2048)) for name in "abcd")
    recipe = recipe_of(method, tunes, base)
    assert least_memory(recipe, opened(recipe)) <= 1_000_000_000


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties"])
def test_a_tensor_of_two_billion_numbers(tmp_path, method, request):
    """16 GB of holes in, 4 GB out, in the memory that a merge takes by default."""
    if method != "linear" and not request.config.getoption("--soak"):
        pytest.skip("is for make soak")
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("needs 6 GB of disk")
    base, *models = (sparse_model(tmp_path / name, (2_000_000_000,)) for name in "abcd")
    more: dict[str, Any] = {"density": 0.5} if METHODS[method].param("density") else {}
    given = ([base, *models], None) if method == "linear" else (models, base)
    found = merge_apart(tmp_path, recipe_of(method, *given, weight=0.25, **more), 1_000_000_000)
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
