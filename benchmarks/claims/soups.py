"""Claims on soups: averages of models that were trained for the same, with other hyperparameters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.claims.claim import Figures, claim
from benchmarks.claims.lab import Lab, mean
from benchmarks.claims.llama import Weights
from benchmarks.claims.measures import accuracy, calibration_error, exam, logits_of
from benchmarks.claims.tasks import LENGTH, LONGER, Examples, Skill
from benchmarks.claims.zoo import SOUP_SKILLS, soup_of

SOUPS = "Model soups, https://arxiv.org/abs/2203.05482"
HEADROOM = 1.0  # points between the members, below which there is nothing to choose among


def exam_of(lab: Lab, skill: Skill, split: str = "test", length: int = LENGTH) -> Examples:
    """As noisy as what the members learnt from."""
    return exam((skill,), split, lab.settings.soup_noise, length)


def graded(lab: Lab, model: Weights, skill: Skill, split: str = "test", length: int = LENGTH) -> float:
    examples = exam_of(lab, skill, split, length)
    return accuracy(logits_of(model, examples), examples.answers)


def members(lab: Lab, skill: Skill) -> list[str]:
    return [soup_of(skill, i) for i in range(len(lab.settings.soup_rates))]


def moderate(lab: Lab, skill: Skill) -> list[str]:
    """The members whose learning rate is at most that of pretraining."""
    rates = lab.settings.soup_rates
    return [name for name, rate in zip(members(lab, skill), rates, strict=True) if rate <= lab.settings.base_rate]


def ranked(lab: Lab, skill: Skill) -> list[str]:
    """The best first, on validation examples."""
    return sorted(members(lab, skill), key=lambda name: -graded(lab, lab.model(name), skill, "validation"))


def greedy(lab: Lab, skill: Skill) -> list[str]:
    """Take each model, the best first, if the average is no worse for it on validation examples."""
    order = ranked(lab, skill)
    chosen, reached = order[:1], graded(lab, lab.model(order[0]), skill, "validation")
    for name in order[1:]:
        score = graded(lab, lab.average([*chosen, name]), skill, "validation")
        if score >= reached:
            chosen, reached = [*chosen, name], score
    return chosen


def ensemble(lab: Lab, names: Sequence[str], examples: Examples) -> Tensor:
    """The mean of the logits, as in Model Soups; everywhere else an ensemble is the mean of the probabilities."""
    return torch.stack([logits_of(lab.model(name), examples) for name in names]).mean(0)


def over_skills(figures: Sequence[Figures]) -> Figures:
    return {name: mean(one[name] for one in figures) for name in figures[0]}


@claim(
    "A greedy soup is at least as good as its best member.",
    source=SOUPS,
    paper="81.0 % for 80.4 % (CLIP B/32 on ImageNet)",
    criterion="greedy soup ≥ best member, on validation examples and on the test",
    holds=lambda f: f["greedy"] >= f["best"] and f["greedy, validation"] >= f["best, validation"],
    testable=lambda f: f["best"] - f["worst"] >= HEADROOM,
)
def greedy_soup(lab: Lab) -> Figures:
    """Ten fine-tunes of each of two skills; best member and soup are chosen on validation examples."""
    found = []
    for skill in SOUP_SKILLS:
        chosen, order = greedy(lab, skill), ranked(lab, skill)
        soup = lab.average(chosen)
        best, worst = lab.model(order[0]), lab.model(order[-1])
        found.append(
            {
                "greedy": graded(lab, soup, skill),
                "best": graded(lab, best, skill),
                "worst": graded(lab, worst, skill),
                "greedy, validation": graded(lab, soup, skill, "validation"),
                "best, validation": graded(lab, best, skill, "validation"),
                "members in it": float(len(chosen)),
            }
        )
    return over_skills(found)


@claim(
    "A uniform soup is spoiled by members trained at a high learning rate.",
    source=SOUPS,
    paper="uniform 80.0 %, best member 80.4 %, greedy 81.0 %",
    criterion="all members together are below the best member, and better by ≥ 1 point without those of a high rate",
    holds=lambda f: f["all"] < f["best"] and f["without high rates"] >= f["all"] + 1,
    testable=lambda f: f["high rate alone"] >= f["base"] + 10,
)
def uniform_soup(lab: Lab) -> Figures:
    """A high rate is one above that of pretraining; a member that learnt nothing would prove nothing."""
    found = []
    for skill in SOUP_SKILLS:
        high = sorted(set(members(lab, skill)) - set(moderate(lab, skill)))
        found.append(
            {
                "all": graded(lab, lab.average(members(lab, skill)), skill),
                "without high rates": graded(lab, lab.average(moderate(lab, skill)), skill),
                "best": graded(lab, lab.model(ranked(lab, skill)[0]), skill),
                "high rate alone": mean(graded(lab, lab.model(name), skill) for name in high),
                "base": graded(lab, lab.model("base"), skill),
            }
        )
    return over_skills(found)


@claim(
    "A soup comes close to the logit ensemble of its members, at the cost of one model.",
    source=SOUPS,
    paper="greedy soup 81.0 %, greedy ensemble 81.9 %",
    criterion="soup ≥ ensemble - 1 point, and soup ≥ mean member",
    holds=lambda f: f["soup"] >= f["ensemble"] - 1 and f["soup"] >= f["mean member"],
)
def soup_and_ensemble(lab: Lab) -> Figures:
    """The members at a rate up to that of pretraining, averaged by weights and by logits."""
    found = []
    for skill in SOUP_SKILLS:
        names, examples = moderate(lab, skill), exam_of(lab, skill)
        found.append(
            {
                "soup": graded(lab, lab.average(names), skill),
                "ensemble": accuracy(ensemble(lab, names, examples), examples.answers),
                "mean member": mean(graded(lab, lab.model(name), skill) for name in names),
            }
        )
    return over_skills(found)


@claim(
    "A soup is more robust to a shift of the inputs than its best member.",
    source=SOUPS,
    paper="uniform soup 51.5 %, best member 47.8 % on five shifts of ImageNet",
    criterion="soup > best member, on shifted inputs",
    holds=lambda f: f["soup, shifted"] > f["best, shifted"],
    testable=lambda f: f["best, shifted"] <= f["best"] - 2,
)
def robustness(lab: Lab) -> Figures:
    """The shift: rows of eight symbols, which no training had. Members up to the rate of pretraining."""
    found = []
    for skill in SOUP_SKILLS:
        members = moderate(lab, skill)
        best = lab.model(next(name for name in ranked(lab, skill) if name in members))
        soup = lab.average(members)
        found.append(
            {
                "soup, shifted": graded(lab, soup, skill, length=LONGER),
                "best, shifted": graded(lab, best, skill, length=LONGER),
                "soup": graded(lab, soup, skill),
                "best": graded(lab, best, skill),
            }
        )
    return over_skills(found)


def calibration(lab: Lab) -> Figures:
    found = []
    for skill in SOUP_SKILLS:
        names, examples = moderate(lab, skill), exam_of(lab, skill)
        errors = [calibration_error(logits_of(lab.model(name), examples), examples.answers) for name in names]
        soup = logits_of(lab.average(names), examples)
        found.append(
            {
                "soup": calibration_error(soup, examples.answers),
                "ensemble": calibration_error(ensemble(lab, names, examples), examples.answers),
                "mean member": mean(errors),
            }
        )
    return over_skills(found)


@claim(
    "A logit ensemble is better calibrated than its members.",
    source=SOUPS,
    paper="the ensemble's ECE is lower (its figure on calibration)",
    criterion="ECE of the ensemble at least a tenth below that of the mean member",
    holds=lambda f: f["ensemble"] <= 0.9 * f["mean member"],
    testable=lambda f: f["mean member"] >= 2,
)
def calibration_of_ensembles(lab: Lab) -> Figures:
    """Expected calibration error in points, 15 bins, on noisy test examples."""
    return calibration(lab)


@claim(
    "A soup is better calibrated than its members.",
    source="the lesson behind this project; the paper denies it, https://arxiv.org/abs/2203.05482",
    paper="soups do not improve calibration",
    criterion="ECE of the soup at least a tenth below that of the mean member",
    holds=lambda f: f["soup"] <= 0.9 * f["mean member"],
    testable=lambda f: f["mean member"] >= 2,
)
def calibration_of_soups(lab: Lab) -> Figures:
    """As for ensembles."""
    return calibration(lab)
