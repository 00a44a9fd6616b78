"""What sampled weights say: whether the models grew from the same pretraining. This decides, not the cards."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merging.checkpoint import Checkpoint
from merging.checks.facts import Facts
from merging.findings import Finding, block, counted, listed, ok, warn
from merging.header import FLOATS, TensorInfo
from merging.methods.parts import gram
from merging.waiting import readers

TENSORS = 8  # sampled in each model
ENTRIES = 256 * 1024  # of each tensor: 4 MB a model in all in bf16
SMALLEST = 1024  # entries of a tensor worth sampling

# Cosine to the base, from a calibration on bf16 weights (research, section 2.2): a fine-tune that moved 10 % of the
# base's norm has .995, one that moved 30 % has .958; independent pretrainings have 0.
FINE_TUNE = 0.98
RELATED = 0.5

# Near one in every model, whatever it learned; or as large as a vocabulary, which need not agree.
UNTELLING = re.compile(r"norm|ln_|embed|lm_head|wte|wpe|rotary|router|gate\.weight$", re.IGNORECASE)

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Nearness:
    """How far sampled weights lie from those of the reference."""

    cosine: float
    distance: float  # norm of the difference, as a share of the reference's norm
    identical: float  # share of the entries that are equal

    def __str__(self) -> str:
        return (
            f"cosine {self.cosine:.4f}, distance {self.distance:.2%} of the norm, {self.identical:.1%} of the weights "
            "equal"
        )


def check_weights(models: Sequence[Facts], base: Facts | None) -> Iterator[Finding]:
    """Compare each model with the base, or with the first model where the recipe has none."""
    reference, others = models[0], models[1:]
    names = choose([m.checkpoint for m in models])
    if not others:
        return
    if not names:
        yield unsampled(models)
        return
    samples = read_samples(models, names)
    broken = {label: "NaN or infinity" for label, s in samples.items() if not np.isfinite(s).all()}
    if broken:
        yield not_finite(broken)
    near = {m.label: compare(samples[reference.label], samples[m.label]) for m in others if m.label not in broken}
    if reference.label not in broken:
        yield from verdicts(near, reference.label, is_base=base is not None)
    yield from duplicates({m.label: samples[m.label] for m in models if m is not base})


def choose(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Up to 8 weight matrices that all models have in one shape, spread over the middle layers and their roles.

    The same ones every time. The steps are those of the golden ratio, so that they do not fall in step with the
    order in which a layer's matrices repeat.
    """
    first, *rest = (c.tensors for c in checkpoints)
    names = [n for n, info in first.items() if telling(n, info) and all(same(info, t.get(n)) for t in rest)]
    names.sort(key=natural)
    inner = names[len(names) // 10 : len(names) - len(names) // 10]
    places = {int(len(inner) * ((i * 0.6180339887) % 1)) for i in range(min(TENSORS, len(inner)))}
    return [inner[place] for place in sorted(places)]


def telling(name: str, info: TensorInfo) -> bool:
    is_matrix = len(info.shape) >= 2 and info.numel >= SMALLEST
    return is_matrix and info.dtype in FLOATS and not UNTELLING.search(name)


def same(info: TensorInfo, other: TensorInfo | None) -> bool:
    return other is not None and other.shape == info.shape and other.dtype in FLOATS


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_samples(models: Sequence[Facts], names: Sequence[str]) -> dict[str, Array]:
    """The same entries of each model, one after another, as float32."""
    wanted = [(m, n) for m in models for n in names]
    with readers([m.checkpoint.source for m in models]) as pool:
        parts = list(pool.map(lambda pair: read_sample(pair[0].checkpoint, pair[1]), wanted))
    return {
        m.label: np.concatenate([part for (owner, _), part in zip(wanted, parts, strict=True) if owner is m])
        for m in models
    }


def read_sample(checkpoint: Checkpoint, name: str) -> Array:
    """A stretch from the middle of a tensor."""
    info = checkpoint.tensors[name]
    width = info.nbytes // info.numel
    count = min(ENTRIES, info.numel)
    raw = bytearray(count * width)
    checkpoint.read(info, (info.numel - count) // 2 * width, memoryview(raw))
    return to_float32(raw, info.dtype)


def to_float32(raw: bytearray, dtype: str) -> Array:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[dtype]).astype("<f4")


def compare(reference: Array, other: Array) -> Nearness:
    products = gram(np.stack([reference, other, other - reference])).tolist()
    norm, norm_other, change = (math.sqrt(products[i][i]) for i in range(3))
    both = norm * norm_other
    return Nearness(
        cosine=products[0][1] / both if both else float(norm == norm_other),
        distance=change / norm if norm else float(norm_other > 0),
        identical=float(np.mean(reference == other)),
    )


def verdicts(near: Mapping[str, Nearness], reference: str, *, is_base: bool) -> Iterator[Finding]:
    """One finding for each kind of relation there is."""
    unrelated = {k: n for k, n in near.items() if n.cosine < RELATED}
    far = {k: n for k, n in near.items() if RELATED <= n.cosine < FINE_TUNE}
    equal = {k: n for k, n in near.items() if n.identical == 1}
    close = {k: n for k, n in near.items() if n.cosine >= FINE_TUNE and k not in equal}
    if unrelated:
        yield different_base(unrelated, reference)
    if far:
        yield heavy_training(far, reference)
    if equal and is_base:
        yield identical(equal, reference)
    if close:
        what = f"fine-tuned from {reference}" if is_base else f"of one base with {reference}"
        are = "is" if len(close) == 1 else "are"
        yield ok("base", f"By its sampled weights, {listed(close)} {are} {what}.", shown(close))


def shown(near: Mapping[str, Nearness]) -> dict[str, str]:
    return {label: str(n) for label, n in near.items()}


def different_base(near: Mapping[str, Nearness], reference: str) -> Finding:
    return block(
        "different-base",
        f"{listed(near)} {'was' if len(near) == 1 else 'were'} not trained from the same base as {reference}.",
        {reference: "the reference", **shown(near)},
        why="The weights have nothing in common, so what one model means by an entry, the other does not. Their "
        "mixture answers gibberish, even where config and tokenizer agree.",
        remedy="Merge fine-tunes of one base: look for the same base_model on their cards.",
    )


def heavy_training(near: Mapping[str, Nearness], reference: str) -> Finding:
    return warn(
        "heavy-training",
        f"{listed(near)} {'has' if len(near) == 1 else 'have'} moved far from {reference}.",
        {reference: "the reference", **shown(near)},
        why="This is continued pretraining rather than fine-tuning. Large task vectors disturb each other; dropping "
        "entries of them (DARE, TIES) loses what was learned.",
        remedy="Use task arithmetic with a small lambda (0.2 to 0.4), and try the merge before you publish it.",
    )


def identical(near: Mapping[str, Nearness], reference: str) -> Finding:
    return warn(
        "identical-weights",
        f"{listed(near)} {'has' if len(near) == 1 else 'have'} the same weights as {reference}, in all that was "
        "sampled.",
        shown(near),
        why="A model that equals the base adds nothing: its task vector is zero.",
        remedy="Check that you gave the fine-tune and not a copy of the base; otherwise leave the model out.",
    )


def duplicates(samples: Mapping[str, Array]) -> Iterator[Finding]:
    alike: list[list[str]] = []
    for label, sample in samples.items():
        known = next((labels for labels in alike if np.array_equal(samples[labels[0]], sample)), None)
        alike.append([label]) if known is None else known.append(label)
    for labels in alike:
        if len(labels) > 1:
            yield warn(
                "duplicate-models",
                f"{listed(labels)} have the same weights, in all that was sampled.",
                dict.fromkeys(labels, "same sampled weights"),
                why="The model counts as often as it is listed, which is the same as a larger lambda.",
                remedy="List it once, and set its lambda.",
            )


def not_finite(labels: Mapping[str, str]) -> Finding:
    return block(
        "not-finite",
        f"{listed(labels)} {'holds' if len(labels) == 1 else 'hold'} numbers that are not finite.",
        labels,
        why="NaN and infinity spread: every entry that they touch becomes one, and the merge answers nothing.",
        remedy="The model is broken, often by an overflow in float16. Look for a corrected upload.",
        computable=False,
    )


def unsampled(models: Sequence[Facts]) -> Finding:
    return warn(
        "not-sampled",
        "The weights could not be compared: the models have no weight matrix in common.",
        {m.label: counted(len(m.checkpoint.tensors), "tensor") for m in models},
        why="Without it nothing but their cards says that the models share a base.",
        remedy="See what is said about their tensors.",
    )
