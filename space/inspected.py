"""What a look at the weights leaves in the folder of its job: every number, and pictures. Small, and its owner's."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Final

from merging.diagnostics import Diagnosis, from_json, to_csv, to_json
from merging.diagnostics.entries import Histogram
from merging.diagnostics.export import histogram_csv
from merging.errors import MergeError
from merging.figures import delta_histogram, pictures, write_pictures
from space.priority import give_way
from space.worker import context

FOLDER = "inspection"
NUMBERS, TABLE = "diagnosis.json", "diagnosis.csv"
drawing = Lock()  # one picture at a time, however many are asked for


def write_files(diagnosis: Diagnosis, job_folder: Path) -> None:
    """As JSON, as CSV and as PNG. Drawn in the process of the job, so that the app need not load what draws."""
    folder = job_folder / FOLDER
    write_pictures(pictures(named(diagnosis)), folder)
    (folder / TABLE).write_text(to_csv(diagnosis), encoding="utf-8")
    (folder / NUMBERS).write_text(to_json(diagnosis), encoding="utf-8")


def read_diagnosis(job_folder: Path) -> Diagnosis:
    """As it is shown: models by their names; at which commits they were read is in the files."""
    try:
        return named(from_json((job_folder / FOLDER / NUMBERS).read_text("utf-8")))
    except FileNotFoundError:
        raise MergeError("The numbers of this inspection have been deleted. Look again.") from None


def named(diagnosis: Diagnosis) -> Diagnosis:
    reference, *_ = without_commits((diagnosis.reference,))
    return replace(diagnosis, models=without_commits(diagnosis.models), reference=reference)


def without_commits(models: tuple[str, ...]) -> tuple[str, ...]:
    """Names of models, where these alone tell them apart."""
    names = tuple(model.partition("@")[0] for model in models)
    return names if len(set(names)) == len(names) else models


def files_in(job_folder: Path) -> Mapping[str, Path]:
    """By their names; the numbers first."""
    found = (path for path in (job_folder / FOLDER).glob("*.*") if path.is_file() and not path.is_symlink())
    return {path.name: path for path in sorted(found, key=lambda path: (path.suffix == ".png", path.name))}


# -- one tensor --------------------------------------------------------------------------------------------------------


def drawn(found: Histogram) -> bytes:
    """As PNG, out of a process of its own as the others are."""
    with drawing, ProcessPoolExecutor(1, mp_context=context(), initializer=give_way) as apart:
        return apart.submit(png_of, found).result()


def png_of(found: Histogram) -> bytes:
    return delta_histogram(found).png()


CHANGES: Final[Mapping[str, Callable[[Histogram], bytes]]] = {
    "csv": lambda found: histogram_csv(found).encode(), "png": drawn,
}  # fmt: skip
