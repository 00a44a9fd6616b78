"""What the weights of the models of a recipe say about each other, beside what unrelated ones would."""

from merging.diagnostics.advice import Advice, advise
from merging.diagnostics.diagnosis import Diagnosis, diagnose
from merging.diagnostics.export import from_json, to_csv, to_json
from merging.diagnostics.numbers import Model, Pair, Part
from merging.diagnostics.sums import SHARES

__all__ = [
    "SHARES", "Advice", "Diagnosis", "Model", "Pair", "Part", "advise", "diagnose", "from_json", "to_csv", "to_json",
]  # fmt: skip
