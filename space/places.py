"""How many jobs may wait or run at once: of one person, of those who have not signed in, of all."""

from collections.abc import Collection
from dataclasses import dataclass

from merging.errors import MergeError
from space.journal import Job

VISITOR_OWNER = "anon:"  # how the owners begin who have not signed in
WAIT = "Wait for one to end, or cancel one."
SIGN_IN = "Sign in to have more, or try again later."


@dataclass(frozen=True, slots=True)
class Places:
    per_owner: int = 3
    per_visitor: int = 1  # who has not signed in, as told by their browser's cookie
    of_visitors: int = 4  # of all of them together: a cookie can be thrown away
    queue: int = 32  # waiting

    def refuse_too_many(self, owner: str, active: Collection[Job]) -> None:
        """Raise MergeError when there is no place for one more job of this owner."""
        if owner.startswith(VISITOR_OWNER):
            self.refuse_visitor(owner, active)
        elif (mine := sum(job.owner == owner for job in active)) >= self.per_owner:
            raise MergeError(f"You have {mine} jobs waiting or running, which is the limit here. {WAIT}")
        if (waiting := sum(job.state == "queued" for job in active)) >= self.queue:
            raise MergeError(f"{waiting} jobs are waiting, which is the limit here. Try again later.")

    def refuse_visitor(self, owner: str, active: Collection[Job]) -> None:
        if (mine := sum(job.owner == owner for job in active)) >= self.per_visitor:
            jobs = "1 job" if mine == 1 else f"{mine} jobs"
            raise MergeError(f"You have {jobs} waiting or running, which is the limit without a sign-in. {SIGN_IN}")
        if (theirs := sum(job.owner.startswith(VISITOR_OWNER) for job in active)) >= self.of_visitors:
            raise MergeError(f"{theirs} jobs of people who have not signed in are waiting or running, which is the "
                             f"limit here. {SIGN_IN}")  # fmt: skip
