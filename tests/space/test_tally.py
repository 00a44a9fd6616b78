import pytest

from merging.errors import MergeError
from space.blind import note, shuffled, votable
from space.conversation import answered
from space.pages.seats import arranged
from space.panes import Choice
from space.reply import Reply
from space.tally import ENOUGH, Tally, card_section, summary, tally, wilson, with_section
from space.votes import Vote, Votes
from tests.space.conftest import ADA, BOB, BOTH


@pytest.mark.parametrize(
    ("wins", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # as published in many tables
        (20, 20, 0.8389, 1.0),  # 20 / (20 + 1.959964^2)
        (0, 20, 0.0, 0.1611),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_is_wilsons(wins, total, low, high):
    assert wilson(wins, total) == pytest.approx((low, high), abs=5e-5)


def test_votes_count_for_a_model_on_whichever_side_it_was():
    votes = [Vote("m", "p", "left", ("x",)), Vote("p", "m", "left", ("y", "z")), Vote("p", "m", "right", ("x",)),
             Vote("m", "p", "good", ("x",)), Vote("m", "p", "bad", ("x",)), Vote("m", "q", "left", ("x",))]  # fmt: skip
    found = tally(votes, ("m", "Merge"), ("p", "a/b"))
    assert found == Tally("Merge", "a/b", 2, 1, 1, 1, ("x", "y / z"))


def counted(wins, losses, good=0, bad=0):
    return Tally("Merge", "a/b", wins, losses, good, bad, ("why?",))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (counted(1, 0), "1 vote on Merge and a/b. 19 more until they are ranked."),
        (counted(19, 0), "19 votes on Merge and a/b. 1 more until they are ranked."),
        (counted(16, 4), "Merge is preferred to a/b. Merge won 16 of 20 votes that chose one: 80 %, 95 % Wilson "
                         "interval 58 % to 92 %. Both good 0, both bad 0."),
        (counted(3, 15, 2), "a/b is preferred to Merge."),
        (counted(11, 9), "These votes do not tell Merge and a/b apart."),
        (counted(0, 0, 12, 8), "These votes do not tell Merge and a/b apart. No vote chose one. Both good 12,"),
    ],
)  # fmt: skip
def test_nothing_is_ranked_before_there_are_enough_votes(found, words):
    assert summary(found).startswith(words)
    assert bool(card_section([found])) is (found.votes >= ENOUGH)


def test_the_card_says_whose_votes_they_are_and_takes_them_once():
    section = card_section([counted(16, 4), counted(1, 0)])
    assert "20 votes of one person, blind, on these 1 prompt:" in section and "- `why?`" in section
    assert "This is no benchmark." in section and "1 vote on" not in section
    card = "---\nlicense: mit\n---\n# A merge\n\nWords.\n"
    with_votes = with_section(card, section)
    assert with_votes.startswith(card) and with_votes.count("## Blind votes") == 1
    assert with_section(with_votes, section) == with_votes
    assert with_section(with_votes, "").rstrip() == card.rstrip()
    assert with_section(card, "") == card


def test_only_what_both_answered_can_be_voted_on():
    good, bad, half = (Reply("x", "y", done=True), Reply("x", error="z", done=True), Reply("x", "y"))
    for replies, expected in (([good, good], True), ([good, bad], False), ([half, good], False)):
        assert votable(answered((), "hello", replies, "ab"), ["a", "b"]) is expected
    assert not votable((), ["a", "b"]) and not votable(answered((), "hello", [good], "a"), ["a"])
    assert note([good, good]) == "" and "together" in note([good, half])
    assert "z" not in note([good, bad]).split()  # an error names the model it is about


def test_the_order_is_drawn_anew():
    assert {tuple(shuffled("ab")) for _ in range(100)} == {("a", "b"), ("b", "a")}


def test_a_blind_pane_shows_what_was_shuffled_and_nothing_of_who_it_is(monkeypatch):
    choices = [Choice("Merge", "merge", "job"), Choice("a/b", "parent", "a/b@1", row=1)]
    monkeypatch.setattr("space.blind.shuffled", lambda labels: [*reversed(labels)])
    labels, said, *rest = arranged(choices, ["Merge", "a/b"], True, ())
    assert (labels, said) == (["a/b", "Merge"], ())
    assert not any(name in str(rest) for name in ("Merge", "a/b", "merged", "c1"))
    assert arranged(choices, ["Merge", "a/b"], False, ())[0] == ["Merge", "a/b"]


def test_votes_are_kept_for_their_owner_beside_the_jobs(tmp_path):
    vote = Vote("m", "p", "left", ('say "a"', "b"))
    votes = Votes(tmp_path / "journal.sqlite")
    votes.add("ada", "job", vote)
    votes.close()
    votes = Votes(tmp_path / "journal.sqlite")
    assert votes.of("ada", "job") == [vote] and votes.of("bob", "job") == votes.of("ada", "other") == []
    votes.hand_over("ada", "bob")
    assert votes.of("bob", "job") == [vote]
    votes.forget("ada", "job")
    assert votes.of("bob", "job") == [vote]
    votes.forget("bob", "job")
    assert votes.of("bob", "job") == []
    votes.close()


def test_a_vote_is_for_the_owner_of_the_merge_alone_and_leaves_with_it(service):
    job = service.queue.wait(service.merge(BOTH, ADA).id, 60)
    found = service.vote(job.id, ["alloy/pocket-add", "Merge"], "right", ["hello"], ADA)
    assert (found.first, found.first_wins, found.missing) == ("Merge", 1, ENOUGH - 1)
    assert service.votes_between(job.id, ["alloy/pocket-add", "Merge"], ADA) == found
    assert service.votes_between(job.id, ["alloy/pocket-reverse", "Merge"], ADA).votes == 0
    for shown, verdict, viewer, reason in (
        (["Merge", "alloy/pocket-add"], "left", BOB, "no job"),
        (["Merge", "Merge"], "left", ADA, "Two of Merge, alloy/pocket-base"),
        (["Merge", "nobody"], "left", ADA, "Two of Merge"),
        (["Merge", "alloy/pocket-add"], "middle", ADA, "The vote is 'middle'"),
    ):
        with pytest.raises(MergeError, match=reason):
            service.vote(job.id, shown, verdict, ["hello"], viewer)
    assert [one.votes for one in service.tallies(job.id, ADA)] == [1]
    service.forget(job.id, ADA)
    assert service.votes.of(ADA.owner, job.id) == []
