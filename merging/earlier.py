"""What earlier runs of a merge, which were killed, have verified of its models."""

from collections.abc import Iterator, Sequence

from merging.checkpoint import Source
from merging.plan import Plan
from merging.staging import Stage

KIND = "verified"  # of an entry of the journal: the number of a model, and a file of it


def write_down(stage: Stage, sources: Sequence[Source]) -> None:
    """Note the files that have been read whole by now."""
    known = {(entry["model"], entry["file"]) for entry in stage.journal.of_kind(KIND)}
    for model, source in enumerate(sources):
        for file in sorted(source.checked()):
            if (model, file) not in known:
                stage.journal.add(KIND, model=model, file=file)


def recall(stage: Stage, plan: Plan, sources: Sequence[Source]) -> None:
    """Tell each model which of its files are in shards that were complete before this run."""
    for model, source in enumerate(sources):
        right = {entry["file"] for entry in stage.journal.of_kind(KIND) if entry["model"] == model}
        source.recall(set(files_of(model, plan, stage)), right)


def files_of(model: int, plan: Plan, stage: Stage) -> Iterator[str]:
    for step in (step for shard in plan.shards if shard.file in stage.complete for step in shard.steps):
        yield from (info.file for info, source in zip(step.inputs, step.sources, strict=True) if source == model)
