"""What the repository promises: a tree that is true, imports that point one way, pins that are exact."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
WEB = ("gradio", "huggingface_hub", "transformers", "space", "fastapi")


def sources(folder: str) -> list[Path]:
    return [
        path for path in (ROOT / folder).rglob("*.py") if "models" not in path.relative_to(ROOT / folder).parts[:-1]
    ]


def imported(path: Path) -> set[str]:
    """Top names of all imports in a file, also of those inside functions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_the_tree_in_the_readme_is_true():
    tree = README.split("## The tree")[1].split("```")[1]
    folder, named = "", []
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = name if not line.startswith(" ") and name.endswith("/") else folder
        named.append(name if not line.startswith(" ") else folder + name)
    assert [name for name in named if not (ROOT / name).exists()] == []
    tops = {
        p.name + ("/" if p.is_dir() else "")
        for p in ROOT.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    assert tops <= set(named)


def test_pictures_of_the_readme_exist():
    assert [p for p in re.findall(r"\]\((docs/[^)]+)\)", README) if not (ROOT / p).is_file()] == []


def test_the_accuracy_in_the_readme_is_what_was_measured():
    measured = (ROOT / "space" / "demo" / "ACCURACY.md").read_text().splitlines()
    section = README.split("## What the demo models can do")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 15 and set(rows) <= set(measured)


def test_the_front_matter_fits_the_pins():
    front = yaml.safe_load(README.split("---\n")[1])
    pins = (ROOT / "requirements.txt").read_text()
    assert f"gradio[mcp,oauth]=={front['sdk_version']}\n" in pins
    assert (ROOT / front["app_file"]).is_file() and front["hf_oauth"] and front["sdk"] == "gradio"
    assert len(front["short_description"]) <= 60


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-harness.txt"])
def test_pins_are_exact(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "-r"))]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", line)] == []


def test_the_engine_knows_neither_web_nor_app():
    wrong = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in sources("merging")
        for name in imported(path)
        if name.split(".")[0] in WEB and "merging/hub" not in path.as_posix()
    }
    assert wrong == set()


def test_evaluation_knows_neither_web_nor_app():
    web = {"gradio", "huggingface_hub", "space", "fastapi"}
    wrong = {(p.name, n) for p in sources("evaluation") for n in imported(p) if n.split(".")[0] in web}
    assert wrong == set()


def test_only_the_hub_module_speaks_to_the_hub():
    wrong = [p for p in sources("space") if "huggingface_hub" in {name.split(".")[0] for name in imported(p)}]
    assert wrong == []


def test_imports_point_one_way():
    below = {
        "service",
        "jobs",
        "journal",
        "chat",
        "models",
        "generate",
        "fetch",
        "tasks",
        "report",
        "viewer",
        "settings",
    }
    wrong = [
        path.name
        for path in sources("space")
        if path.parent.name == "space"
        and path.stem in below
        and any(n.startswith("space.pages") for n in imported(path))
    ]
    assert wrong == []


def test_the_engine_starts_without_the_web_in_a_fresh_interpreter():
    code = f"import sys, merging.engine, merging.__main__; print([m for m in {WEB!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_model_can_run_code():
    wrong = [
        (path.relative_to(ROOT).as_posix(), found)
        for folder in ("merging", "evaluation", "space")
        for path in sources(folder)
        for found in re.findall(r"trust_remote_code=True|torch\.load\(|pickle\.load", path.read_text())
    ]
    assert wrong == []
