"""Reading a held-out set, its faults line by line, and splitting it into two that share no prompt."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.held_out import Example, HeldOut, apart, key_of, only, parse_held_out, read_held_out, split, to_jsonl
from merging.errors import MergeError
from space.demo.held_out import FILE, examples

LINE = '{"prompt": "2+2", "completion": "4"}'


def test_the_forms_of_a_line():
    lines = [
        LINE,
        "",
        '{"prompt": "2+2", "completion": "4", "task": "sums", "options": ["3", "4"]}',
        '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, '
        '{"role": "assistant", "content": "Hello"}]}',
    ]
    found = parse_held_out("\ufeff".encode() + "\r\n".join(lines).encode(), "set").examples
    assert found == (
        Example((("user", "2+2"),), "4"),
        Example((("user", "2+2"),), "4", ("3", "4"), "sums"),
        Example((("system", "Be brief."), ("user", "Hi")), "Hello"),
    )
    assert parse_held_out(to_jsonl(found), "again").examples == found


def test_a_pasted_table():
    found = parse_held_out("2+2\t4\n3+3\t6\tsums\r\n", "pasted")
    assert [(one.turns[0][1], one.completion, one.task) for one in found.examples] == [
        ("2+2", "4", "all"), ("3+3", "6", "sums"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", r"line 2 is a list.*not an object|line 2 is .*, not an object"),
        ('{"prompt": "a"}', "line 2 has no completion"),
        ('{"prompt": "a", "completion": 4}', "line 2: completion is 4, it must be text"),
        ('{"prompt": "a", "completion": " "}', "line 2: completion is empty"),
        ('{"promt": "a", "completion": "b"}', "'promt' is not known here.*prompt"),
        ('{"prompt": "a", "completion": "b", "messages": []}', "messages beside a prompt"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "a user's message and an assistant's"),
        (
            '{"messages": [{"role": "tool", "content": "a"}, {"role": "assistant", "content": "a"}]}',
            r"messages\[0\].role",
        ),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}]}',
            "must be the assistant's",
        ),
        ('{"prompt": "a", "completion": "b", "options": ["c", "d"]}', "'b' is not among the options"),
        ('{"prompt": "a", "completion": "b", "options": ["b", "b"]}', "stands twice"),
        ('{"prompt": "a", "completion": "b", "options": ["b"]}', "2 to 50 texts"),
        ('{"prompt": "' + "a" * 100_001 + '", "completion": "b"}', "100,001 characters"),
    ],
)
def test_a_fault_is_told_with_its_line(line, words):
    with pytest.raises(MergeError, match=f"set.jsonl, {words}" if words.startswith("line") else words):
        parse_held_out(f"{LINE}\n{line}", "set.jsonl")


def test_what_is_no_set_at_all(tmp_path):
    with pytest.raises(MergeError, match="is empty"):
        parse_held_out(" \n", "set")
    with pytest.raises(MergeError, match="not text in UTF-8"):
        parse_held_out(b"\xff\xfe\x00", "set")
    with pytest.raises(MergeError, match="no tab"):
        parse_held_out("hello", "set")
    with pytest.raises(MergeError, match="cannot be read: No such file"):
        read_held_out(tmp_path / "missing.jsonl")
    with pytest.raises(MergeError, match="at most 20,000"):
        parse_held_out(f"{LINE}\n" * 20_001, "set")


prompts = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["x", "y"])), min_size=1, max_size=40)


@given(prompts)
def test_the_two_parts_share_no_prompt_and_lose_nothing(lines):
    whole = HeldOut("set", tuple(Example((("user", prompt),), "c", task=task) for prompt, task in lines))
    try:
        parts = split(whole)
    except MergeError as e:
        assert "too few different prompts" in str(e)
        return
    mine, other = ({key_of(one) for one in part.examples} for part in (parts.validation, parts.report))
    assert not mine & other
    assert len(parts.validation.examples) + len(parts.report.examples) == len(lines)
    assert set(parts.validation.tasks) == set(parts.report.tasks) == set(whole.tasks)


def test_the_order_of_the_lines_changes_nothing_about_the_parts():
    whole = HeldOut("set", tuple(examples()))
    turned = split(HeldOut("set", whole.examples[::-1])).validation
    assert {key_of(one) for one in turned.examples} == {key_of(one) for one in split(whole).validation.examples}


def test_sets_that_share_a_prompt_are_not_taken_for_two():
    one = HeldOut("one", (Example((("user", "a"),), "b"),))
    with pytest.raises(MergeError, match="share 1 of their prompts, such as 'a'"):
        apart(one, HeldOut("two", (Example((("user", "a"),), "c"),)))


def test_tasks_are_chosen_by_name():
    whole = HeldOut("set", tuple(examples()))
    assert only(whole, ["add"]).tasks == ("add",) and only(whole, []) is whole
    with pytest.raises(MergeError, match=r"no task 'ad'.*add"):
        only(whole, ["ad"])


def test_the_demo_has_its_set():
    assert FILE.read_text() == to_jsonl(examples())
    assert all(json.loads(line)["task"] for line in FILE.read_text().splitlines())
