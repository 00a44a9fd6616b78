"""A merge in memory as one of those that answer side by side: for its owner's tab, at the lambdas of the moment."""

from dataclasses import replace

import pytest

from merging.errors import MergeError
from merging.recipe import parse_recipe, to_yaml
from space import blind
from space.conversation import answered
from space.generate import generate
from space.live import GONE
from space.pages.seats import line, unnamed_turn
from space.panes import ENSEMBLE
from space.reply import ChatOptions, Reply
from space.tried import lambdas_in
from space.zero_gpu import Heard
from tests.space.conftest import ADA, BOB, BOTH, recipe

GREEDY = ChatOptions(max_new_tokens=16)
REVERSE = [{"role": "user", "content": "reverse: lamot"}]
LIVE, PARENT, BASE = "Live merge", "alloy/pocket-reverse", "alloy/pocket-base"


@pytest.fixture
def service(one_service):
    return one_service


@pytest.fixture
def tried(service, new_tab):
    """What Ada's tab has loaded: two skills, at lambda 0.7."""
    list(service.load_live(new_tab, weights(0.7, 0.7), ADA))
    return service.live.tried(new_tab, ADA.owner)


def weights(reverse, add):
    text = BOTH.replace("weight: 1.0", f"weight: {reverse}", 1).replace("weight: 1.0", f"weight: {add}", 1)
    return to_yaml(parse_recipe(text))


def replies(service, tried, *labels, job="", viewer=ADA):
    return list(service.chat(job, labels, [REVERSE] * len(labels), GREEDY, viewer, tried))[-1]


def answers(service, tried, *labels, **who):
    return [reply.error or reply.text for reply in replies(service, tried, *labels, **who)]


def merged(service, text, viewer=ADA):
    return service.queue.wait(service.merge(text, viewer).id, 60)


def test_a_lambda_changes_what_the_merge_in_memory_answers_and_nobody_else(service, tried):
    found = service.panes("", ADA, tried)
    assert [(one.label, one.kind, one.row) for one in found] == [
        (LIVE, "live", 0), (BASE, "base", 0), (PARENT, "parent", 1), ("alloy/pocket-add", "parent", 2),
        (ENSEMBLE, "ensemble", 0),
    ]  # fmt: skip
    assert all(ref.revision for one in found for ref in one.refs)  # at the commits that were read
    assert (found[0].title, found[1].title) == ("Live merge, λ 0.7, 0.7", BASE)
    before = answers(service, tried, LIVE, PARENT, BASE)
    assert before[:2] == ["tomal", "tomal"] and before[2] != "tomal"
    moved = answers(service, tried.at(weights(0, 0.7)), LIVE, PARENT, BASE)
    assert moved[0] != "tomal" and moved[1:] == before[1:]
    assert service.live.made(tried.tab, ADA.owner)[0] == weights(0, 0.7)
    assert answers(service, tried, LIVE) == ["tomal"]


def test_it_sits_beside_a_finished_merge_and_each_model_is_there_once(service, tried):
    job, other = merged(service, weights(0.7, 0.7)), merged(service, recipe("alloy/pocket-vowels"))
    labels = [one.label for one in service.panes(job.id, ADA, tried)]
    assert labels[:6] == ["Merge", LIVE, BASE, PARENT, "alloy/pocket-add", ENSEMBLE] and len(labels) == 7
    assert answers(service, tried, "Merge", LIVE, job=job.id) == ["tomal", "tomal"]
    both = service.panes(other.id, ADA, tried)
    assert [(one.label, one.row) for one in both if one.kind == "parent"] == [
        (PARENT, 1), ("alloy/pocket-add", 2), ("alloy/pocket-vowels", 3),
    ]  # fmt: skip
    assert len({one.key for one in both}) == len(both)
    for one in (job, other):
        service.forget(one.id, ADA)


def test_it_is_nobody_elses(service, tried):
    """Who is not its owner hears what is said of a job that does not exist, and of a pane that there is not."""
    theirs = merged(service, recipe("alloy/pocket-vowels"), BOB)
    with pytest.raises(MergeError) as nothing:
        service.panes("", BOB)
    for viewer_of_it in (lambda: service.panes("", BOB, tried), lambda: replies(service, tried, LIVE, viewer=BOB)):
        with pytest.raises(MergeError) as told:
            viewer_of_it()
        assert str(told.value) == str(nothing.value) == "There is no job '' of yours."
    with pytest.raises(
        MergeError, match="There is no pane 'Live merge'; there are Merge, alloy/pocket-base, alloy/pocket-v"
    ):
        replies(service, tried, LIVE, job=theirs.id, viewer=BOB)
    with pytest.raises(MergeError, match="Two of Merge"):
        service.vote(theirs.id, [LIVE, "Merge"], "left", ["hello"], BOB, tried)
    forged = replace(tried, owner=BOB.owner)
    assert answers(service, forged, LIVE, viewer=BOB) == [GONE]
    assert service.live.tried(tried.tab, BOB.owner) is None
    service.forget(theirs.id, BOB)


def test_when_it_has_left_its_pane_says_so_and_the_others_answer(service, tried):
    service.live.close_tab(tried.tab)
    assert answers(service, tried, LIVE, PARENT) == [GONE, "tomal"]
    assert "Load it again under Try" in GONE


def test_when_it_leaves_while_it_answers_it_alone_falls_silent(service, tried, monkeypatch):
    def leaving(speaker, *rest):
        if speaker.processors:  # the merge in memory
            service.live.close_tab(tried.tab)
        generate(speaker, *rest)

    monkeypatch.setattr("space.chat.generate", leaving)
    live, parent = replies(service, tried, LIVE, PARENT)
    assert (live.error, parent.error, parent.text) == (GONE, "", "tomal")
    assert service.live.sessions == {} and service.chats.models.reserved_bytes == 0


def test_while_it_answers_it_is_not_merged_anew(service, tried, monkeypatch):
    remerges = []

    def moved_meanwhile(*given):
        remerges.append(service.live.remerge(tried.tab, ADA.owner, weights(0, 0.7)))
        assert any("Waiting" in said[0].note for said, _ in zip(remerges[0], range(1000), strict=False))
        generate(*given)

    monkeypatch.setattr("space.chat.generate", moved_meanwhile)
    assert answers(service, tried, LIVE) == ["tomal"]
    list(remerges[0])
    assert service.live.made(tried.tab, ADA.owner)[0] == weights(0, 0.7)


def test_a_recipe_of_other_models_is_told_in_its_pane(service, tried):
    other = to_yaml(parse_recipe(recipe("alloy/pocket-vowels")))
    live, parent = answers(service, tried.at(other), LIVE, PARENT)
    assert "alloy/pocket-vowels is not in memory. Load the recipe again" in live and parent == "tomal"
    assert lambdas_in("merge_method: ") == "" and tried.at("half").key == "live:"


def test_votes_are_on_the_lambdas_that_answered_and_count_for_the_merge_that_is_written_of_them(service, tried):
    def vote(at, verdict):
        return service.vote("", [LIVE, PARENT], verdict, ["hello"], ADA, at)

    moved = tried.at(weights(0, 0.7))
    assert [vote(tried, "left").votes, vote(tried, "right").votes, vote(moved, "right").votes] == [1, 2, 1]
    found = vote(tried, "good")
    assert (found.first, found.second) == ("Live merge, λ 0.7, 0.7", PARENT)
    assert (found.first_wins, found.second_wins, found.both_good) == (1, 1, 1)
    assert len({tried.key, moved.key, tried.at(weights(0.7, 0.70001)).key}) == 3
    job = merged(service, weights(0.7, 0.7))
    (counted,) = service.tallies(job.id, ADA)
    assert (counted.first, counted.second, counted.votes) == ("Merge", PARENT, 3)
    assert service.vote(job.id, ["Merge", PARENT], "left", ["more"], ADA, tried).votes == 4
    assert service.vote(job.id, [PARENT, LIVE], "right", ["more"], ADA, tried).votes == 4  # without those on the file
    service.forget(job.id, ADA)


def test_a_prompt_book_is_answered_at_the_lambdas_it_began_with(service, tried):
    seen = service.run_book("", [LIVE, PARENT], "reverse: lamot\nreverse: tiger", GREEDY, ADA, tried)
    first = next(seen)
    list(service.live.remerge(tried.tab, ADA.owner, weights(0, 0.7)))
    last = list(seen)[-1]
    column = f"Live merge, λ 0.7, 0.7 ({tried.key})"
    assert first.panes == last.panes == (column, PARENT)
    assert [row.answers[column] for row in last.rows] == [("tomal",), ("regit",)]


def test_where_a_gpu_is_lent_it_answers_here_and_the_others_there(service, tried, monkeypatch):
    ordered = []

    def lent(orders, options):
        ordered.extend(orders)
        yield [Heard((), done=True) for _ in orders]

    monkeypatch.setattr(service.chats, "gpu", lent)
    live, parent = replies(service, tried, LIVE, PARENT)
    assert (live.text, parent.done, len(ordered)) == ("tomal", True, 1)


def test_a_line_under_the_pane_says_where_an_answer_came_from():
    at = [weights(0.7, 0.7), weights(0, 0.7)]
    said = answered((), "one", [Reply(LIVE, "1", 3, 9.0), Reply(PARENT, "1", 3, 9.0)], [LIVE, PARENT], at[0])
    assert "λ pocket-reverse 0.7, pocket-add 0.7. 3 tokens, 9 a second<" in line(said, LIVE)
    more = answered(said, "two", [Reply(LIVE, "2"), Reply(PARENT, "2")], [LIVE, PARENT], at[1])
    assert "λ pocket-reverse 0, pocket-add 0.7. Earlier answers came from other lambdas<" in line(more, LIVE)
    assert "λ" not in line(more, PARENT)


def test_there_is_no_blind_vote_across_lambdas():
    done = [Reply(LIVE, "1", done=True), Reply(PARENT, "1", done=True)]
    said = answered((), "one", done, [LIVE, PARENT], weights(0.7, 0.7))
    assert blind.votable(said, [LIVE, PARENT])
    again, *shown = unnamed_turn(said, "two", weights(0, 0.7), done)
    assert not blind.votable(again, [LIVE, PARENT])
    assert shown[-3] == shown[-2] and "The lambdas were moved in between" in shown[-2]
    assert LIVE not in str(shown)
