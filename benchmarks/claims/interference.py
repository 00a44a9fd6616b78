"""Claims on many models at once, and on how little of a task vector is needed."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from benchmarks.claims.arithmetic import KEEP, learnt, own_and_base, sum_of
from benchmarks.claims.claim import Figures, claim
from benchmarks.claims.lab import Lab, best, mean
from benchmarks.claims.llama import Weights
from benchmarks.claims.tasks import HELD_OUT, Skill
from benchmarks.claims.zoo import tune_of

TIES = "TIES-Merging, https://arxiv.org/abs/2306.01708"
DARE = "DARE, https://arxiv.org/abs/2311.03099"
MOST, SOME, FEW = 6, 4, 2  # skills merged
TOP = 0.2  # share of a task vector that TIES keeps
TIES_LAMBDAS = (0.8, 1.0, 1.3, 1.6, 2.0, 2.5)
DROPPED = 0.9

Merge = Callable[[Lab, Sequence[Skill]], Weights]


def groups(size: int) -> list[tuple[Skill, ...]]:
    """Up to six sets of so many skills, each skill as often as any other."""
    if size in (len(HELD_OUT), 1):
        return [HELD_OUT]
    return [tuple((HELD_OUT * 2)[i : i + size]) for i in range(len(HELD_OUT))]


def average_of(lab: Lab, skills: Sequence[Skill]) -> Weights:
    return lab.average([tune_of(skill) for skill in skills])


def ties_of(lab: Lab, skills: Sequence[Skill]) -> Weights:
    """TIES at the lambda that is best on validation examples."""
    names = [tune_of(skill) for skill in skills]
    return best(
        TIES_LAMBDAS,
        lambda amount: lab.merge("ties", dict.fromkeys(names, 1.0), density=TOP, lambda_=amount),
        lambda model: lab.kept_of(model, skills, "validation"),
    )


def ties_as_given(lab: Lab, skills: Sequence[Skill]) -> Weights:
    """TIES as the paper advises where there are no validation examples: lambda 1."""
    return lab.merge("ties", dict.fromkeys([tune_of(skill) for skill in skills], 1.0), density=TOP)


def kept_by(lab: Lab, merge: Merge, size: int) -> float:
    return mean(lab.kept_of(merge(lab, skills), skills) for skills in groups(size))


@claim(
    "Averaging more than three or four models degrades what each can do.",
    source="the lesson behind this project; figures from https://arxiv.org/abs/2502.04959",
    paper="averages of 8, 14, 20 tasks: 66.3, 64.3, 61.0 % (CLIP B/32)",
    criterion="the average of six keeps ≥ 5 points less than that of two",
    holds=lambda f: f["of 6"] <= f["of 2"] - 5,
    testable=learnt,
)
def averaging_many(lab: Lab) -> Figures:
    """Percent of each fine-tune's accuracy that an average of two, four and six keeps."""
    kept = {f"of {size}": kept_by(lab, average_of, size) for size in (FEW, SOME, MOST)}
    return kept | {"kept by the base": lab.kept_of(lab.model("base"), HELD_OUT)} | own_and_base(lab)


@claim(
    "TIES is better than averaging, the more so the more models there are.",
    source=TIES,
    paper="86.0 % against 79.5 % for the average (8 tasks, CLIP L/14)",
    criterion="as given (lambda 1), TIES - average > 0 for six models, and larger than for two",
    holds=lambda f: (
        f["TIES of 6"] > f["average of 6"] and f["TIES of 6"] - f["average of 6"] > f["TIES of 2"] - f["average of 2"]
    ),
    testable=learnt,
)
def ties_and_averaging(lab: Lab) -> Figures:
    """TIES at density 0.2 and lambda 1; percent of each fine-tune's accuracy kept."""
    ties = {f"TIES of {size}": kept_by(lab, ties_as_given, size) for size in (FEW, SOME, MOST)}
    return (
        ties | {f"average of {size}": kept_by(lab, average_of, size) for size in (FEW, SOME, MOST)} | own_and_base(lab)
    )


@claim(
    "TIES is better than task arithmetic where many models are merged.",
    source=f"{TIES}; denied for today's LLMs by https://arxiv.org/abs/2511.21437",
    paper="76.9 % against 73.3 % (7 tasks, T5-large)",
    criterion="TIES > task arithmetic for six models, both at their best lambda",
    holds=lambda f: f["TIES of 6"] > f["task arithmetic of 6"],
    testable=learnt,
)
def ties_and_task_arithmetic(lab: Lab) -> Figures:
    """Lambdas are chosen on validation examples for each merge; percent of each fine-tune's accuracy kept."""
    ties = {f"TIES of {size}": kept_by(lab, ties_of, size) for size in (FEW, MOST)}
    sums = {f"task arithmetic of {size}": kept_by(lab, sum_of, size) for size in (FEW, MOST)}
    return ties | sums | own_and_base(lab)


def kept_alone(lab: Lab, method: str, **parameters: Any) -> float:
    """What a part of each task vector alone keeps of its fine-tune's accuracy."""
    made = {skill: lab.merge(method, {tune_of(skill): 1.0}, **parameters) for skill in HELD_OUT}
    return mean(lab.kept(model, skill) for skill, model in made.items())


@claim(
    "The largest 20 % of a task vector do what all of it does.",
    source=TIES,
    paper="keeping the top 20 % hardly changes the accuracy (its figure on redundancy)",
    criterion="≥ 95 % of the fine-tune's accuracy kept, and more than by a random 20 %",
    holds=lambda f: f["largest 20 %"] >= KEEP and f["largest 20 %"] > f["random 20 %"],
    testable=learnt,
)
def largest_part(lab: Lab) -> Figures:
    """Each skill alone; the random 20 % are not scaled up. The smallest 80 % are Breadcrumbs' with a gamma of 0.2."""
    return {
        "largest 20 %": kept_alone(lab, "ties", density=TOP),
        "random 20 %": kept_alone(lab, "dare_linear", density=TOP, rescale=False),
        "smallest 80 %": kept_alone(lab, "breadcrumbs", density=1 - TOP, gamma=TOP),
        "nothing (base)": lab.kept_of(lab.model("base"), HELD_OUT),
    } | own_and_base(lab)


@claim(
    "Nine tenths of a task vector can be dropped at random if the rest is scaled up.",
    source=DARE,
    paper="p = 0.9 costs next to nothing; without rescaling the accuracy falls",
    criterion="≥ 95 % kept with rescaling, and ≥ 5 points less without",
    holds=lambda f: f["rescaled"] >= KEEP and f["not rescaled"] <= f["rescaled"] - 5,
    testable=learnt,
)
def dropping(lab: Lab) -> Figures:
    """Each skill alone at density 0.1; Alloy scales to the sum of magnitudes from before, as mergekit does."""
    return {
        "rescaled": kept_alone(lab, "dare_linear", density=1 - DROPPED, rescale=True),
        "not rescaled": kept_alone(lab, "dare_linear", density=1 - DROPPED, rescale=False),
        "half dropped, rescaled": kept_alone(lab, "dare_linear", density=0.5, rescale=True),
        "nothing (base)": lab.kept_of(lab.model("base"), HELD_OUT),
    } | own_and_base(lab)


@claim(
    "DARE before TIES or task arithmetic makes a merge better.",
    source=DARE,
    paper="HumanEval of a merge 0.0 to 18.3 % (TIES, LM + Code, 13B); GLUE -0.03 to +0.84 points",
    criterion="pairs keep more with DARE (half dropped) than without, at the same lambda",
    holds=lambda f: f["with DARE"] > f["without"],
    testable=learnt,
)
def dropping_before_merging(lab: Lab) -> Figures:
    """All 15 pairs at lambda 0.7, with task arithmetic and with dare_linear."""
    kept: dict[str, list[float]] = {"without": [], "with DARE": []}
    for pair in combinations(HELD_OUT, 2):
        weights = dict.fromkeys([tune_of(skill) for skill in pair], 0.7)
        kept["without"].append(lab.kept_of(lab.merge("task_arithmetic", weights), pair))
        kept["with DARE"].append(lab.kept_of(lab.merge("dare_linear", weights, density=0.5), pair))
    return {name: mean(values) for name, values in kept.items()} | own_and_base(lab)
