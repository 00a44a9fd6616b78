import pytest

from merging.errors import MergeError
from space.jobs import Job
from space.places import Places


def jobs(*owners, state="queued"):
    return [Job(str(n), owner, "merge", "title", {}, state) for n, owner in enumerate(owners)]


def test_a_person_has_so_many_jobs():
    Places(2).refuse_too_many("hf:1", jobs("hf:1", "hf:2", "hf:2"))
    with pytest.raises(MergeError, match="You have 2 jobs waiting or running, which is the limit here"):
        Places(2).refuse_too_many("hf:2", jobs("hf:1", "hf:2", "hf:2", state="waiting"))


def test_a_visitor_has_fewer_and_is_told_the_way_out():
    Places().refuse_too_many("anon:1", jobs("anon:2", "hf:1"))
    with pytest.raises(MergeError, match=r"You have 1 job waiting .* without a sign-in. Sign in to have more"):
        Places().refuse_too_many("anon:1", jobs("anon:1"))


def test_all_visitors_together_have_a_limit_that_another_cookie_does_not_change():
    four = jobs(*(f"anon:{n}" for n in range(4)), state="running")
    with pytest.raises(MergeError, match="4 jobs of people who have not signed in"):
        Places().refuse_too_many("anon:new", four)
    Places().refuse_too_many("hf:1", four)


def test_the_line_has_an_end_for_everybody():
    for owner in ("hf:9", "anon:9", "local"):
        with pytest.raises(MergeError, match="3 jobs are waiting"):
            Places(queue=3).refuse_too_many(owner, jobs("hf:1", "hf:2", "hf:3"))
