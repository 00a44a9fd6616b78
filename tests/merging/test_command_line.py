"""The command line: in this process where that is enough, else as one of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from merging.__main__ import main
from merging.arguments import size
from merging.diagnostics.entries import BINS
from merging.methods import METHODS
from merging.recipe import to_yaml
from tests.merging.models import fine_tunes, recipe_of, write_model

ROOT = Path(__file__).parents[2]
NAMES = [f"model.layers.{i}.mlp.{part}_proj.weight" for i in range(4) for part in ("up", "down")]


@pytest.fixture
def command(capsys):
    """Run it; what a process would give back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments):
        try:
            status: Any = main(list(map(str, arguments)))
        except SystemExit as left:
            status = left.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, shown.out, shown.err)

    return run


def process(*arguments, **more):
    started = [sys.executable, "-m", "merging", *map(str, arguments)]
    return subprocess.run(started, cwd=ROOT, timeout=60, capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A base, two fine-tunes of it and one model of another pretraining."""
    folder = tmp_path_factory.mktemp("models")
    g = torch.Generator().manual_seed(0)
    base, other = ({n: torch.randn(64, 64, generator=g) * 0.02 for n in NAMES} for _ in range(2))
    tunes = fine_tunes(base, 2, by=0.0005)
    for name, tensors in {"base": base, "one": tunes[0], "two": tunes[1], "other": other}.items():
        write_model(folder / name, tensors, {"dtype": "float32", "hidden_size": 64})
    return folder


@pytest.fixture
def recipe(family, tmp_path):
    def write(*names, method="task_arithmetic", **parameters):
        path = tmp_path / "recipe.yaml"
        made = recipe_of(method, [family / n for n in names], family / "base", **({"weight": 0.5} | parameters))
        path.write_text(to_yaml(made))
        return path

    return write


def test_check_says_fine(recipe, command):
    done = command("check", recipe("one", "two"))
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout and "The merge reads" in done.stdout and "BLOCK" not in done.stdout


def test_check_says_blocked(recipe, command):
    done = command("check", recipe("one", "other"))
    assert done.returncode == 1, done.stderr
    assert "different-base" in done.stdout
    assert done.stdout.index("BLOCK") < done.stdout.index("ok"), "what blocks comes first"


def test_check_for_programs(recipe, command):
    done = command("check", recipe("one", "other"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["blocked"] is True
    assert {"id", "level", "title", "models", "values", "why", "remedy", "computable"} == found["findings"][0].keys()
    assert found["cost"]["read_bytes"] == 3 * len(NAMES) * 64 * 64 * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_method: tise", "Did you mean ties?"),
        ("merge_method: linear\nmodels: [./no/such/folder]\nparameters: {weight: 1}", "no/such/folder"),
    ],
)
def test_a_recipe_that_cannot_be_used(tmp_path, text, message, command):
    (tmp_path / "r.yaml").write_text(text)
    for arguments in (["check"], ["merge", tmp_path / "out"]):
        done = command(arguments[0], tmp_path / "r.yaml", *arguments[1:])
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["./nope", "/nope/x", "~/x", "../nope"])
def test_a_folder_that_is_not_there(tmp_path, path, command):
    (tmp_path / "r.yaml").write_text(f"{{merge_method: linear, models: ['{path}'], parameters: {{weight: 1}}}}")
    done = command("check", tmp_path / "r.yaml")
    assert done.returncode == 2 and f"There is no folder {path}." in done.stderr


def test_a_revision_of_a_folder_is_refused(family, tmp_path, monkeypatch, command):
    monkeypatch.chdir(family)
    (tmp_path / "r.yaml").write_text("{merge_method: linear, models: [one@main], parameters: {weight: 1}}")
    done = command("check", tmp_path / "r.yaml")
    assert done.returncode == 2 and "one is a folder here, and folders have no revisions." in done.stderr


def test_a_recipe_that_cannot_be_read(tmp_path, command):
    (tmp_path / "r.yaml").write_bytes(b"\xff")
    assert "is not text in UTF-8" in command("check", tmp_path / "r.yaml").stderr
    assert "cannot be read: No such file" in command("check", tmp_path / "none.yaml").stderr


def test_merge(recipe, tmp_path, command):
    done = command("merge", recipe("one", "two"), tmp_path / "out", "--memory", "500MB", "--shard-size", "50kB",
                   "--threads", 2, "--device", "cpu", "--seed", 7)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "100 %" in done.stderr and f"Merged into {tmp_path / 'out'}." in done.stderr
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert json.loads((tmp_path / "out/merge_report.json").read_text())["seed"] == 7


def test_merge_is_blocked_until_it_is_allowed_by_name(recipe, tmp_path, command):
    path, out = recipe("one", "other"), tmp_path / "out"
    done = command("merge", path, out)
    assert done.returncode == 1 and not out.exists()
    assert re.search(
        r"The merge is blocked by .*different-base.*\. To merge all the same, add .*--allow different-base", done.stderr
    )
    blocking = re.findall(r"--allow ([a-z-]+)", done.stderr)
    done = command("merge", path, out, *(f"--allow={finding}" for finding in blocking))
    assert done.returncode == 0, done.stderr
    assert "different-base" in json.loads((out / "merge_report.json").read_text())["allowed"]


def test_what_cannot_be_computed_cannot_be_allowed(family, recipe, tmp_path, command):
    odd = write_model(
        tmp_path / "odd", {n: torch.zeros(64, 65) for n in NAMES}, {"dtype": "float32", "hidden_size": 64}
    )
    done = command("merge", recipe(odd), tmp_path / "out", "--allow", "different-shapes", "--allow", "cannot-plan")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert "nothing can be computed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allow", "diferent-base"], "there is no such finding. Did you mean different-base?"),
        (["--memory", "lots"], "'lots' is not a size"),
        (["--memory", "9" * 400], f"'{'9' * 37}...' is not a size"),
        (["--threads", "9" * 5000], f"'{'9' * 37}...' is not a whole number from 1 on"),
        (["--memory", "1kB"], "1,000 bytes of memory are too few"),
        (["--threads", "0"], "'0' is not a whole number from 1 on"),
        (["--seed", "-1"], "is not a whole number from 0 on"),
        (["--device", "tpu"], "invalid choice"),
        (["--device", "cuda"], "no CUDA GPU"),
    ],
)
def test_arguments_that_are_refused(recipe, tmp_path, arguments, message, command):
    if arguments[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    done = command("merge", recipe("one"), tmp_path / "out", *arguments)
    assert done.returncode in (1, 2) and message in done.stderr and "Traceback" not in done.stderr


def test_the_folder_is_there_already(recipe, tmp_path, command):
    (tmp_path / "out").mkdir()
    done = command("merge", recipe("one"), tmp_path / "out")
    assert done.returncode == 1 and "out is already there." in done.stderr
    assert len(done.stderr.splitlines()) == 1, "it is seen before the models are looked at"


def test_the_folder_above_is_not_there(recipe, tmp_path, command):
    done = command("merge", recipe("one"), tmp_path / "no/out")
    assert done.returncode == 1 and "no to put out into. Make it first" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_it_leaves_nothing(tmp_path, stop):
    base = {f"w{i}": torch.zeros(1000, 2000, dtype=torch.bfloat16) for i in range(20)}
    folder, tune = (write_model(tmp_path / "models" / name, base) for name in ("base", "tune"))
    path, out = tmp_path / "r.yaml", tmp_path / "work/out"
    out.parent.mkdir()
    slow = recipe_of("della", [tune], folder, weight=1.0, density=0.5)  # enough to be stopped on the way
    path.write_text(to_yaml(slow))
    process = subprocess.Popen([sys.executable, "-m", "merging", "merge", path, out, "--threads", "1"],
                               cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)  # fmt: skip
    with process:
        wait_for(lambda: any(out.parent.glob(".out*/*.safetensors.part")), process)
        process.send_signal(stop)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "Stopped. Nothing was left behind." in errors, errors
    assert list(out.parent.iterdir()) == []


def wait_for(condition, process):
    until = time.monotonic() + 30
    while not condition():
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.001)


def test_a_file_may_be_limited_in_size(recipe, tmp_path):
    """A quota, as a limit of the process: the error is a full disk's, and nothing stays."""
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    (tmp_path / "work").mkdir()
    done = process("merge", recipe("one"), tmp_path / "work/out", preexec_fn=limit)
    assert done.returncode == 1 and "There is no space left to write" in done.stderr, done.stderr
    assert list((tmp_path / "work").iterdir()) == []


def test_methods(command):
    done = command("methods")
    assert all(f"{name}: " in done.stdout for name in METHODS)
    listed = json.loads(command("methods", "--json").stdout)
    assert [m["name"] for m in listed] == list(METHODS)
    ties = next(m for m in listed if m["name"] == "ties")
    assert ties["params"][1] == {
        "name": "density", "type": "float", "default": 1.0, "per_model": True, "range": [0, 1],
        "help": "The share of this model's changes that is kept, the largest first.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1GB", 10**9), ("1.5gb", 15 * 10**8), ("2GiB", 2**31), ("500 MB", 5 * 10**8), ("7", 7), ("1k", 1000), ("0", 0)],
)
def test_sizes(text, bytes_):
    assert size(text) == bytes_


def test_help_and_mistakes_answer_without_torch():
    code = "import sys, merging.__main__ as m; m.make_parser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout.endswith("False\n")


def test_a_bar_on_a_terminal(recipe, tmp_path):
    import pty

    path, out = recipe("one", "two", method="ties", density=0.5), tmp_path / "out"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "merging", "merge", str(path), str(out)])
    shown = b""
    while chunk := read_terminal(terminal):
        shown += chunk
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "Merged into" in shown.decode() and "\x1b[" in shown.decode()
    assert load_file(out / "model.safetensors").keys() == set(NAMES)


def read_terminal(terminal):
    try:
        return os.read(terminal, 10_000)
    except OSError:  # Linux's way to say that the other side is gone
        return b""


def test_names_are_not_cut(tmp_path, recipe):
    model = write_model(tmp_path / f"{'long-' * 30}name", {n: torch.zeros(64, 64) for n in NAMES},
                        {"dtype": "float32", "hidden_size": 32})  # fmt: skip
    done = process("check", recipe(model), env=os.environ | {"COLUMNS": "80"})
    assert model.name in "".join(line.strip() for line in done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize("arguments", [["methods"], ["methods", "--json"], ["check"]])
def test_a_full_disk_behind_the_output(recipe, arguments):
    given = [*arguments, recipe("one")] if arguments == ["check"] else arguments
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "merging", *given], cwd=ROOT, timeout=60, stdout=full,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "The output cannot be written: No space left on device.\n")


def test_a_reader_that_has_enough(recipe):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "merging", "methods"], cwd=ROOT, timeout=60, stdout=writing,
                          stderr=subprocess.PIPE, text=True)  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_as_a_process(recipe, tmp_path):
    done = process("check", recipe("one", "other"))
    assert done.returncode == 1 and "different-base" in done.stdout, done.stderr
    done = process("merge", recipe("one"), tmp_path / "out")
    assert done.returncode == 0 and "Merged into" in done.stderr


# Diagnoses.


def test_diagnose_tells_every_number_beside_its_null_value(recipe, command, tmp_path):
    done = command("diagnose", recipe("one", "two"), "--csv", tmp_path / "d.csv", "--plots", tmp_path / "plots")
    assert done.returncode == 0, done.stderr
    told = re.sub(r"\s+", " ", done.stdout)
    assert "2 models against the base" in told and "unrelated task vectors would show" in told
    assert "The planned merge (task_arithmetic) lies 1.7" in told and "Pairs" in told and "By role and by layer" in told
    assert (
        (tmp_path / "d.csv")
        .read_text()
        .startswith("level,name,layer,role,entries,looked,quantity,model,other,value,null")
    )
    assert {p.name for p in (tmp_path / "plots").iterdir()} >= {"cosine.png", "energy.png"}


def test_diagnose_of_one_tensor(recipe, command, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    asked = ("diagnose", recipe("one", "two"), "--tensor", name)
    done = command(*asked, "--csv", tmp_path / "t.csv", "--plots", tmp_path / "plots")
    assert done.returncode == 0, done.stderr
    assert f"Changes in {name}" in done.stdout and "after task_arithmetic" in done.stdout and "█" in done.stdout
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "tensor,model,from,to,share of the entries" and len(lines) == 1 + 3 * (1 + BINS)
    assert [p.name for p in (tmp_path / "plots").iterdir()] == [f"changes-{name}.png"] and name in done.stderr
    found = json.loads(command(*asked, "--json").stdout)
    assert found["tensor"] == name and len(found["after"]) == BINS
    done = command("diagnose", recipe("one", "two"), "--tensor", name.replace("up", "upp"))
    assert done.returncode == 1 and "There is no tensor" in done.stderr and name in done.stderr


def test_diagnose_for_programs(recipe, command):
    done = command("diagnose", recipe("one", "two"), "--json", "--sample", "--keep", "0.1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["keep"] == 0.1 and found["is_sample"] and found["nulls"]["conflict"] == 0.5


def test_diagnose_says_what_is_wrong(recipe, command, tmp_path, family):
    assert command("diagnose", tmp_path / "none.yaml").returncode == 2
    alone = tmp_path / "alone.yaml"
    alone.write_text(to_yaml(recipe_of("passthrough", [family / "one"])))
    done = command("diagnose", alone)
    assert done.returncode == 1 and "There is nothing to compare" in done.stderr
    done = command("diagnose", recipe("one", "two"), "--csv", tmp_path / "no" / "d.csv")
    assert done.returncode == 1 and "cannot be written" in done.stderr


def test_diagnose_without_a_base(family, command, tmp_path):
    path = tmp_path / "soup.yaml"
    path.write_text(to_yaml(recipe_of("linear", [family / "one", family / "two"], weight=1.0)))
    done = command("diagnose", path)
    assert done.returncode == 0 and "without base_model" in re.sub(r"\s+", " ", done.stdout)
