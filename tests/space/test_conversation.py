from space.conversation import Conversation, answered, asked, before, shown, without
from space.reply import Reply


def said(*turns):
    """Turns of a prompt and the answers of a and b, None for a pane that was not there."""
    found: Conversation = ()
    for prompt, *texts in turns:
        there = {name: text for name, text in zip("ab", texts, strict=True) if text is not None}
        found = answered(found, prompt, [Reply(name, text) for name, text in there.items()], list(there))
    return found


def lines(messages):
    return [(one["role"][0], one["content"]) for one in messages]


def test_each_pane_is_sent_what_it_answered_itself():
    talk = said(("one", "1a", "1b"), ("two", "2a", None))
    assert lines(asked(talk, "a", "x")) == [("u", "one"), ("a", "1a"), ("u", "two"), ("a", "2a"), ("u", "x")]
    assert lines(asked(talk, "b", "x")) == [("u", "one"), ("a", "1b"), ("u", "x")]
    assert lines(asked(talk, "new", "x")) == [("u", "x")]


def test_a_turn_without_an_answer_is_shown_and_not_sent_again():
    talk = said(("one", "", "1b"))
    assert lines(shown(talk, "a")) == [("u", "one")]
    assert lines(asked(talk, "a", "x")) == [("u", "x")]


def test_a_changed_prompt_ends_the_conversation_there_in_all_panes():
    talk = said(("one", "1a", None), ("two", "", "2b"), ("three", "3a", "3b"))
    # a shows one, 1a, two, three, 3a; b shows two, 2b, three, 3b.
    assert [len(before(talk, "a", index)) for index in range(6)] == [0, 0, 1, 2, 2, 3]
    assert [len(before(talk, "b", index)) for index in range(5)] == [1, 1, 2, 2, 3]


def test_a_pane_that_begins_anew_leaves_the_others_alone():
    talk = said(("one", "1a", "1b"))
    assert shown(without(talk, "a"), "a") == []
    assert shown(without(talk, "a"), "b") == shown(talk, "b")
