"""One sentence on each claim for each verdict that may be reached, so that none can stand beside another's."""

from typing import Final

REASONS: Final[dict[tuple[str, str], str]] = {
    ("greedy soup", "holds"): (
        "On validation examples it must; on the test it gains little, as hardly a member but the best is taken."
    ),
    ("greedy soup", "does not hold"): "On validation examples it must be; on the test nothing warrants it.",
    ("uniform soup", "holds"): (
        "Those trained at a high rate are good alone, but the average of all is worse than either kind."
    ),
    ("uniform soup", "does not hold"): "Members of a high rate do not spoil it here.",
    ("soup and ensemble", "holds"): "The members lie close together.",
    ("soup and ensemble", "does not hold"): (
        "The base can hardly do the skills, so the members move far apart: a soup is no better than the mean member."
    ),
    ("robustness", "holds"): "As in the paper.",
    ("robustness", "does not hold"): (
        "The best member learnt more than the average of the others holds, with the shift and without it."
    ),
    ("calibration of ensembles", "holds"): "As in the paper.",
    ("calibration of ensembles", "does not hold"): "The ensemble is about as sure of itself as its members.",
    ("calibration of soups", "holds"): "As the lesson says, and not the paper.",
    ("calibration of soups", "does not hold"): "As the paper says, and not the lesson.",
    ("addition of pairs", "holds"): "As in the paper.",
    ("addition of pairs", "does not hold"): (
        "Pairs keep far more than the base has, but not 95 %; smaller changes in a wider network did, in a probe of "
        "one seed (LOG.md)."
    ),
    ("negation", "holds"): "It is the direction that removes: as long a step in a random one removes nothing.",
    ("negation", "does not hold"): "The skill goes, but not alone, or not far enough.",
    ("analogy", "holds"): "Most of it is the sum of both neighbours; - A adds a little.",
    ("analogy", "does not hold"): (
        "It beats each neighbour alone, but not the plain sum of both: what - A brings in one seed it costs in others."
    ),
    ("halfway", "holds"): "Both curves are bent upwards, the control's more so.",
    ("halfway", "does not hold"): "One of the curves is bent downwards.",
    ("averaging many", "holds"): "Each change is divided by the number of models.",
    ("averaging many", "does not hold"): "The skills share most of their changes.",
    ("ties and averaging", "holds"): "The vote gains more, the more models there are.",
    ("ties and averaging", "does not hold"): (
        "A fifth of a task vector is not enough here (see *largest part*): the trim costs more than the vote brings."
    ),
    ("ties and task arithmetic", "holds"): "The vote gains more, the more models there are.",
    ("ties and task arithmetic", "does not hold"): (
        "The trim costs more than the vote brings; in large language models it was found so too."
    ),
    ("largest part", "holds"): "Most entries of a task vector are not needed.",
    ("largest part", "does not hold"): (
        "The largest fifth does more than a random one, but the other four do more still: so small a network has no "
        "entries to spare."
    ),
    ("dropping", "holds"): "What counts is the sum of many small changes, and scaling up keeps it.",
    ("dropping", "does not hold"): "With so few entries what is left by chance is not like what was dropped.",
    ("dropping before merging", "holds"): "It takes away some of what is in the way.",
    ("dropping before merging", "does not hold"): (
        "It adds noise, and takes away nothing of what is in the way of two skills here."
    ),
    ("barriers", "holds"): "Within a basin the error lies on the chord; across, the middle of the line knows little.",
    ("barriers", "does not hold"): "One of both is not as the paper found it.",
    ("average across bases", "holds"): "What is left is what guessing brings.",
    ("average across bases", "does not hold"): "A little more is left than guessing brings.",
    ("vector on another base", "holds"): (
        "Nothing is gained, and little of what the other base knew is lost: the rest is no garbage."
    ),
    ("vector on another base", "does not hold"): "Both pretrainings have something in common.",
    (
        "forgetting",
        "holds",
    ): "The sequence forgets a part of the first skill, and the merge less of the lesser of both.",
    ("forgetting", "does not hold"): (
        "The skills are relatives and the second training is short: the sequence keeps most of the first, so that "
        "there is little to save."
    ),
    ("length of training", "holds"): (
        "The longer training makes nearly twice as long a change, and an average keeps their ratio."
    ),
    ("length of training", "does not hold"): "The longer change is not that much longer.",
}
