"""Claims on where models lie: one base or two, the line between them, and what further training does."""

from itertools import permutations

from benchmarks.claims.arithmetic import learnt, own_and_base, sum_of
from benchmarks.claims.claim import Figures, claim
from benchmarks.claims.lab import Lab, mean
from benchmarks.claims.measures import exam, guessed, logits_of, loss
from benchmarks.claims.tasks import HELD_OUT, KNOWN, Skill
from benchmarks.claims.zoo import (
    BASE,
    LONG_SKILLS,
    STRANGER,
    foreign_of,
    later,
    long_of,
    sequence_of,
    tune_of,
    twin_of,
)

LINE = tuple(i / 8 for i in range(9))
SAME, OTHER = 2.0, 30.0  # points of error: barriers below, and above


def barrier(lab: Lab, skill: Skill, first: str, second: str) -> dict[str, float]:
    """How far error, in points, and loss rise above the straight line from one end's to the other's."""
    examples = exam((skill,))
    errors, losses = [], []
    for share in LINE:
        logits = logits_of(lab.between(first, second, share), examples)
        losses.append(loss(logits, examples.answers))
        errors.append(100 - 100 * float((logits.argmax(-1) == examples.answers).float().mean()))
    return {"error": above_chord(errors), "loss": above_chord(losses)}


def above_chord(values: list[float]) -> float:
    last = len(values) - 1
    return max(v - (values[0] * (last - i) + values[-1] * i) / last for i, v in enumerate(values))


@claim(
    "On the straight line between two fine-tunes of one base there is no barrier; between pretrainings there is.",
    source="Linear mode connectivity, https://arxiv.org/abs/1912.05671",
    paper="error rises by less than 2 points within a basin; to chance between networks trained apart",
    criterion="error barrier < 2 points within, > 30 points across",
    holds=lambda f: f["within"] < SAME and f["across"] > OTHER,
    testable=learnt,
)
def barriers(lab: Lab) -> Figures:
    """Nine points on the line; the same skill taught twice from one base, and from two bases. Mean of six skills."""
    within = [barrier(lab, skill, tune_of(skill), twin_of(skill)) for skill in HELD_OUT]
    across = [barrier(lab, skill, tune_of(skill), foreign_of(skill)) for skill in HELD_OUT]
    return {
        "within": mean(b["error"] for b in within),
        "across": mean(b["error"] for b in across),
        "within, loss": mean(b["loss"] for b in within),
        "across, loss": mean(b["loss"] for b in across),
    } | own_and_base(lab)


@claim(
    "Averaging models of different pretraining leaves nothing.",
    source="the lesson behind this project",
    paper="no figure; “incoherent output”",
    criterion="at most 5 points above guessing on skill and control, where the average of one base is above 75 %",
    holds=lambda f: (
        f["skill, two bases"] <= f["skill, guessed"] + 5
        and f["control, two bases"] <= f["control, guessed"] + 5
        and min(f["skill, one base"], f["control, one base"]) > 75
    ),
    testable=lambda f: f["skill, foreign alone"] >= 75,
    amended="the bound was 25 %, for a chance of 10 %; but who always names the commonest answer is right more often",
)
def average_across_bases(lab: Lab) -> Figures:
    """A fine-tune averaged with one for the same skill, of the same base and of another. Mean of five skills.

    Guessed is who names the commonest answer of each skill, whatever the row.
    """
    found = []
    for skill in HELD_OUT[:-1]:  # the last one is learnt too little for a bound in percent
        one, two = lab.average([tune_of(skill), twin_of(skill)]), lab.average([tune_of(skill), foreign_of(skill)])
        found.append(
            {
                "skill, two bases": lab.score(two, skill),
                "control, two bases": lab.control(two),
                "skill, guessed": guessed(exam((skill,))),
                "control, guessed": guessed(exam(KNOWN)),
                "skill, one base": lab.score(one, skill),
                "control, one base": lab.control(one),
                "skill, foreign alone": lab.score(lab.model(foreign_of(skill)), skill),
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]}


@claim(
    "A task vector brings nothing to another base than its own.",
    source="DARE, https://arxiv.org/abs/2311.03099 (WizardCoder on Llama 2)",
    paper="HumanEval 63.4 to 0.0 %",
    criterion="on its own base ≥ 10 points gained, on the other no more than 2",
    holds=lambda f: f["gain, own base"] >= 10 and f["gain, other base"] <= 2,
)
def vector_on_another_base(lab: Lab) -> Figures:
    """The stranger + fine-tune - base, at lambda 1; accuracy gained on the skill, and on what the stranger knew."""
    own, other = lab.model(BASE), lab.model(STRANGER)
    found = []
    for skill in HELD_OUT:
        moved = lab.merge("task_arithmetic", {tune_of(skill): 1.0, BASE: -1.0}, STRANGER)
        found.append(
            {
                "gain, own base": lab.own(skill) - lab.score(own, skill),
                "gain, other base": lab.score(moved, skill) - lab.score(other, skill),
                "control of the other before": lab.control(other),
                "and after": lab.control(moved),
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]}


@claim(
    "Fine-tuned for one task after another, a model forgets the first; merged, it keeps both.",
    source="McCloskey and Cohen 1989, https://doi.org/10.1016/S0079-7421(08)60536-8; the lesson behind this project",
    paper="no figure",
    criterion="of the first skill the sequence keeps < 80 %, and of the lesser of both the merge keeps more",
    holds=lambda f: f["first, in sequence"] < 80 and f["lesser, merged"] > f["lesser, in sequence"],
    testable=learnt,
)
def forgetting(lab: Lab) -> Figures:
    """Six pairs, trained in turn, or apart and then added at the best lambda; percent of each own tune's accuracy."""
    found = []
    for skill in HELD_OUT:
        pair = skill, later(skill)
        sequence, merged = lab.model(sequence_of(skill)), sum_of(lab, pair)
        found.append(
            {
                "first, in sequence": lab.kept(sequence, pair[0]),
                "second, in sequence": lab.kept(sequence, pair[1]),
                "first, merged": lab.kept(merged, pair[0]),
                "second, merged": lab.kept(merged, pair[1]),
                "lesser, in sequence": min(lab.kept(sequence, one) for one in pair),
                "lesser, merged": min(lab.kept(merged, one) for one in pair),
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]} | own_and_base(lab)


@claim(
    "An average with equal weights favours the model that was trained longer.",
    source="the lesson behind this project (magnitude asymmetry)",
    paper="no figure",
    criterion="a skill keeps ≥ 5 points more where it was trained longer than its partner than where shorter",
    holds=lambda f: f["trained longer"] >= f["trained shorter"] + 5,
)
def length_of_training(lab: Lab) -> Figures:
    """Six ordered pairs, one trained three times as long; percent of the accuracy of each skill's short fine-tune."""
    longer, shorter, even, norms = [], [], [], []
    for first, second in permutations(LONG_SKILLS, 2):
        uneven = lab.average([long_of(first), tune_of(second)])
        longer.append(lab.kept(uneven, first))
        shorter.append(lab.kept(uneven, second))
        even.append(lab.kept(lab.average([tune_of(first), tune_of(second)]), first))
        norms.append(change(lab, long_of(first)) / change(lab, tune_of(first)))
    return {
        "trained longer": mean(longer),
        "trained shorter": mean(shorter),
        "both short": mean(even),
        "change of the longer, times": mean(norms),
    }


def change(lab: Lab, name: str) -> float:
    """The norm of a task vector."""
    base, model = lab.model(BASE), lab.model(name)
    return float(sum(float((model[key] - base[key]).square().sum()) for key in base) ** 0.5)
