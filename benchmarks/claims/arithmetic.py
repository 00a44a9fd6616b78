"""Claims on task vectors: added, taken away, and put into analogies."""

from collections.abc import Sequence
from itertools import combinations

from benchmarks.claims.claim import Figures, claim
from benchmarks.claims.lab import LAMBDAS, Lab, best, mean
from benchmarks.claims.llama import Weights
from benchmarks.claims.tasks import HELD_OUT, SQUARE, Skill
from benchmarks.claims.zoo import BASE, random_of, tune_of

ARITHMETIC = "Editing models with task arithmetic, https://arxiv.org/abs/2212.04089"
KEEP = 95  # percent
LEAST_GAIN = 10  # points that fine-tuning must add


def learnt(figures: Figures) -> bool:
    return figures["own"] >= figures["base"] + LEAST_GAIN


def own_and_base(lab: Lab) -> dict[str, float]:
    """Mean accuracy over the skills: of each one's fine-tune, and of the base."""
    return {
        "own": mean(lab.own(skill) for skill in HELD_OUT),
        "base": mean(lab.score(lab.model(BASE), skill) for skill in HELD_OUT),
    }


def sum_of(lab: Lab, skills: Sequence[Skill]) -> Weights:
    """The task vectors of some skills added, times the lambda that is best on validation examples."""
    names = [tune_of(skill) for skill in skills]
    return best(
        LAMBDAS, lambda amount: lab.added(names, amount), lambda model: lab.kept_of(model, skills, "validation")
    )


@claim(
    "Two task vectors added keep 95 % of what each fine-tune can do.",
    source=ARITHMETIC,
    paper="98.9 % kept (pairs of eight tasks, CLIP)",
    criterion="≥ 95 % kept in the mean over all pairs",
    holds=lambda f: f["kept"] >= KEEP,
    testable=learnt,
)
def addition_of_pairs(lab: Lab) -> Figures:
    """All 15 pairs of six skills, one lambda for both; kept is the share of each own fine-tune's accuracy."""
    pairs = list(combinations(HELD_OUT, 2))
    kept = [lab.kept_of(sum_of(lab, pair), pair) for pair in pairs]
    alone = [lab.kept_of(lab.model(BASE), pair) for pair in pairs]
    return {"kept": mean(kept), "worst pair": min(kept), "kept by the base": mean(alone)} | own_and_base(lab)


@claim(
    "Negating a task vector removes the skill and keeps the rest; a random vector of the same norm does not remove it.",
    source=ARITHMETIC,
    paper="target 64.8 to 19.0 %, control 75.5 to 72.9 %; random vector 60.9 and 72.9 % (CLIP L/14)",
    criterion="target at most half of the base's, control ≥ 95 % of the base's; at the same lambda the random vector leaves ≥ 90 % of the target",  # noqa: E501
    holds=lambda f: (
        f["target"] <= 0.5 * f["target, base"]
        and f["control"] >= 0.95 * f["control, base"]
        and f["target, random"] >= 0.9 * f["target, base"]
    ),
    testable=lambda f: f["target, base"] >= 20,
)
def negation(lab: Lab) -> Figures:
    """For each skill the largest lambda that keeps 95 % of the base's control accuracy on validation examples."""
    base, found = lab.model(BASE), []
    floor = KEEP / 100 * lab.control(base, "validation")
    for skill in HELD_OUT:
        made = {amount: lab.added([tune_of(skill)], -amount) for amount in (0.1, 0.2, *LAMBDAS)}
        fine = [amount for amount, model in made.items() if lab.control(model, "validation") >= floor]
        amount = max(fine, default=0.1)
        random = lab.added([random_of(skill)], -amount)
        found.append(
            {
                "target": lab.score(made[amount], skill),
                "target, base": lab.score(base, skill),
                "target, random": lab.score(random, skill),
                "control": lab.control(made[amount]),
                "control, base": lab.control(base),
                "control, random": lab.control(random),
                "lambda": amount,
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]}


@claim(
    "By analogy, three task vectors stand in for a fourth: C + B - A.",
    source=ARITHMETIC,
    paper="93.0 % for 92.3 % of the auxiliary alone, 93.4 % of the target's own (Yelp, T5-base)",
    criterion="analogy > each of its neighbours alone, the base, and the neighbours' sum without - A",
    holds=lambda f: f["analogy"] > max(f["best neighbour"], f["base"], f["sum of neighbours"]),
    testable=learnt,
)
def analogy(lab: Lab) -> Figures:
    """Two tasks in two alphabets; each corner from the other three, lambdas chosen on validation examples."""
    found = []
    for target in SQUARE:
        task = next(s for s in SQUARE if s.task == target.task and s.alphabet != target.alphabet)
        alphabet = next(s for s in SQUARE if s.task != target.task and s.alphabet == target.alphabet)
        opposite = next(s for s in SQUARE if s.task != target.task and s.alphabet != target.alphabet)
        b, c, a = tune_of(task), tune_of(alphabet), tune_of(opposite)
        found.append(
            {
                "analogy": at_best(lab, target, {b: 1, c: 1, a: -1}),
                "best neighbour": max(at_best(lab, target, {one: 1}) for one in (b, c)),
                "sum of neighbours": at_best(lab, target, {b: 1, c: 1}),
                "base": lab.score(lab.model(BASE), target),
                "own": lab.own(target),
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]}


def at_best(lab: Lab, target: Skill, signs: dict[str, float]) -> float:
    """The accuracy with these task vectors, times the lambda that is best on validation examples."""
    model = best(
        LAMBDAS,
        lambda amount: lab.merge("task_arithmetic", {name: amount * sign for name, sign in signs.items()}),
        lambda model: lab.score(model, target, "validation"),
    )
    return lab.score(model, target)


@claim(
    "Halfway between base and fine-tune, the skill stays and what the base knew comes back.",
    source="WiSE-FT, https://arxiv.org/abs/2109.01903",
    paper="86.8 / 76.9 % halfway, 86.2 / 68.6 % the fine-tune, 76.6 / 73.4 % the base (CLIP L/14)",
    criterion="halfway lies above the mean of both ends on the skill and on the control",
    holds=lambda f: (
        f["halfway"] >= (f["own"] + f["base"]) / 2
        and f["control, halfway"] >= (f["control, own"] + f["control, base"]) / 2
    ),
    testable=learnt,
)
def halfway(lab: Lab) -> Figures:
    """Mean over six skills; control is what the base was trained on."""
    found = []
    for skill in HELD_OUT:
        middle = lab.between(BASE, tune_of(skill), 0.5)
        found.append(
            {
                "halfway": lab.score(middle, skill),
                "control, halfway": lab.control(middle),
                "control, own": lab.control(lab.model(tune_of(skill))),
                "control, base": lab.control(lab.model(BASE)),
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]} | own_and_base(lab)
