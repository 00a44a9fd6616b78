"""What the licences of the models say about the merge."""

from collections.abc import Iterator, Sequence

from merging.checks.facts import Facts
from merging.findings import Finding, ok, warn
from merging.license import combine, id_of


def check_licences(models: Sequence[Facts]) -> Iterator[Finding]:
    result = combine({m.label: m.card for m in models})
    values = {m.label: id_of(m.card) or "none stated" for m in models}
    if result.certain:
        yield ok("licence", f"{result.reason} The card proposes {result.name or result.id}.", values)
    else:
        yield warn(
            "licence",
            "The licence of the merge cannot be worked out.",
            values,
            why=f"{result.reason} Publishing a merge without the right to can be taken down.",
            remedy="Read the licences on the models' cards, and choose one yourself when you publish.",
        )
