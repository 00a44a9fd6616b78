"""What a diagnosis advises: only where there is evidence, and with its source. All else is left to the reader."""

from collections.abc import Iterator
from dataclasses import dataclass

from merging.diagnostics.diagnosis import Diagnosis
from merging.findings import listed

REASONING = "https://arxiv.org/abs/2511.21437"  # Hitit et al.: merges of public fine-tunes of today's models
DARE = "https://arxiv.org/abs/2311.03099"
TIES = "https://arxiv.org/abs/2306.01708"
WIDEN = "https://arxiv.org/abs/2408.03092"
ARITHMETIC = "arithmetic"  # follows from the formula alone

FAR = 0.2  # of the base's norm: by a calibration on sampled weights, from there on a model is pretrained further
MUCH_LARGER = 5.0  # norm of one task vector by another's: a sum with equal weights is nearly the larger one
VOTES = ("ties", "dare_ties", "della", "breadcrumbs_ties", "sce", "tsv", "iso_c", "iso_cts")
DROPS = ("dare_linear", "dare_ties", "della", "della_linear")


@dataclass(frozen=True, slots=True)
class Advice:
    """What was found, why it matters and what to choose, and where that is known from."""

    finding: str
    why: str
    source: str


def advise(diagnosis: Diagnosis) -> tuple[Advice, ...]:
    """Nothing where nothing is known; never a score."""
    if not diagnosis.has_base:
        return ()
    return tuple(
        advice
        for rule in (far_from_base, beyond_parents, one_sided, trimming_removes_nothing, equal, voting_on_many)
        for advice in rule(diagnosis)
    )


def far_from_base(d: Diagnosis) -> Iterator[Advice]:
    far = [name for name, m in zip(d.names, d.whole.models, strict=True) if (m.size or 0) > FAR]
    finding = f"The task vector of {listed(far)} is over {FAR:.0%} of the base's norm." if far else ""
    if far and d.method in DROPS:
        yield Advice(
            finding,
            "Dropping entries at random works where changes are small: of WizardCoder, taken from a base that had been "
            "pretrained further, a drop of 10 % left 0 of 63.4. Take task arithmetic with a small lambda.",
            DARE,
        )
    elif far:
        yield Advice(
            finding,
            "That is continued pretraining rather than fine-tuning, where task arithmetic and TIES failed in the tests "
            "of WIDEN. Start with small lambdas, and compare with the model alone.",
            WIDEN,
        )


def beyond_parents(d: Diagnosis) -> Iterator[Advice]:
    largest = max((m.size or 0.0 for m in d.whole.models), default=0.0)
    if d.whole.merged is not None and largest and d.whole.merged > 1.001 * largest:
        yield Advice(
            f"The planned merge lies {d.whole.merged:.2%} of the base's norm away from it, farther than any of its "
            f"parents (at most {largest:.2%}).",
            "In merges of public fine-tunes of Llama 3 and Qwen 3, those that ended farther from the base were worse, "
            "many worse than the base. Try smaller lambdas as well.",
            REASONING,
        )


def one_sided(d: Diagnosis) -> Iterator[Advice]:
    for pair in d.whole.pairs:
        if (pair.norm_ratio or 1) > MUCH_LARGER:
            a, b = (d.whole.models[i].size or 0 for i in (pair.a, pair.b))
            larger, smaller = (d.names[i] for i in ((pair.a, pair.b) if a > b else (pair.b, pair.a)))
            yield Advice(
                f"The task vector of {larger} is {pair.norm_ratio:.1f} times as long as that of {smaller}.",
                "With equal weights the merge is nearly the longer one, and a vote on signs is decided by it, entry by "
                "entry. Nothing is known of quality from this: search the lambdas of both on a held-out set.",
                ARITHMETIC,
            )


def trimming_removes_nothing(d: Diagnosis) -> Iterator[Advice]:
    names = [n for n, m in zip(d.names, d.whole.models, strict=True) if 1 - (m.unchanged or 0) < d.keep]
    if names and d.method == "ties":
        yield Advice(
            f"{listed(names)} changed fewer than {d.keep:.0%} of the entries at all, so trimming to that share removes "
            "next to nothing.",
            "The cut is at zero, and TIES is then the vote alone. To trim, take a density below what changed.",
            TIES,
        )


def equal(d: Diagnosis) -> Iterator[Advice]:
    for pair in d.whole.pairs:
        if pair.distance == 0:
            yield Advice(
                f"{d.names[pair.a]} and {d.names[pair.b]} are the same, as far as sums over what was looked at tell.",
                "If they are, their merge adds the same change twice: leave one of them out.",
                ARITHMETIC,
            )


def voting_on_many(d: Diagnosis) -> Iterator[Advice]:
    if d.method in VOTES and len(d.models) > 1:
        yield Advice(
            f"{d.method} merges {len(d.models)} fine-tunes.",
            "On Llama 3 and Qwen 3 with 12 public fine-tunes each, TIES, TSV and Iso-C came out below the base more "
            "often than not, and more so with more models; task arithmetic did not. Compare with it on a held-out set.",
            REASONING,
        )
