"""Which tensors of a checkpoint belong to which layer, by their names and the number of layers in its config."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from merging.checkpoint import Checkpoint

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # how configs call the number of layers
OTHER_SENSES = ("vision", "visual", "image", "audio", "speech")  # towers that have layers of their own
FIRST_NUMBER = re.compile(r"(?P<stack>[^\d.][^.]*(?:\.[^\d.][^.]*)*)\.(?P<layer>\d{1,6})\.(?P<rest>.+)")


@dataclass(frozen=True, slots=True)
class Layers:
    """The stack of layers of a model: `model.layers` and 32."""

    stack: str
    count: int

    def find(self, tensor: str) -> tuple[int, str] | None:
        """The layer of a tensor and its name in there; None outside of the layers."""
        if (found := split(tensor)) and found[0] == self.stack:
            return found[1], found[2]
        return None

    def name(self, layer: int, rest: str) -> str:
        return f"{self.stack}.{layer}.{rest}"


def layers_of(checkpoint: Checkpoint) -> Layers | None:
    """None where the names and the config do not agree on one stack."""
    return recognise(checkpoint.tensors, checkpoint.config)


def recognise(tensors: Iterable[str], config: Mapping[str, Any]) -> Layers | None:
    """The stack whose numbers are those of the config's layers: all of them, and no other.

    Only the first number of a name counts, since what is numbered inside of a layer (experts) is none.
    """
    if (count := layer_count(config)) is None:
        return None
    stacks: dict[str, set[int]] = {}
    for name in tensors:
        if found := split(name):
            stacks.setdefault(found[0], set()).add(found[1])
    fitting = [stack for stack, numbers in stacks.items() if len(numbers) == count == max(numbers) + 1]
    if len(fitting) > 1:
        fitting = [stack for stack in fitting if not any(sense in stack for sense in OTHER_SENSES)]
    return Layers(fitting[0], count) if len(fitting) == 1 else None


def split(tensor: str) -> tuple[str, int, str] | None:
    """`model.layers.3.mlp.up.weight` as `model.layers`, 3 and `mlp.up.weight`."""
    if (found := FIRST_NUMBER.fullmatch(tensor)) is None or found["layer"] != str(int(found["layer"])):
        return None
    return found["stack"], int(found["layer"]), found["rest"]


def layer_count(config: Mapping[str, Any]) -> int | None:
    """How many layers the config says there are: of the language model, where it is part of a larger one."""
    nested = config.get("text_config")
    for settings in (nested if isinstance(nested, Mapping) else {}, config):
        for key in COUNTS:
            value = settings.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None
