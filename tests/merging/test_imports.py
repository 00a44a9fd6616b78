"""What the engine does not import: start-up counts, and the engine knows neither the web nor the Hub."""

import subprocess
import sys
from pathlib import Path

from tests.merging.models import recipe_of, write_model

ROOT = Path(__file__).parents[2]
HEAVY = (
    "gradio",
    "huggingface_hub",
    "transformers",
    "accelerate",
    "httpx",
    "space",
    "pandas",
    "torch",
)


def loaded_after(code):
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))"], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_importing():
    assert loaded_after("import merging.engine, merging.card, merging.console").isdisjoint(HEAVY)


def test_merging_folders(tmp_path):
    import torch

    from merging.recipe import to_yaml

    model = write_model(tmp_path / "m", {"w": torch.ones(4)})
    (tmp_path / "r.yaml").write_text(to_yaml(recipe_of("linear", [model], weight=1.0)))
    arguments = ["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")]
    code = f"from merging.__main__ import main; assert main({arguments}) == 0"
    assert loaded_after(code).isdisjoint(HEAVY)
