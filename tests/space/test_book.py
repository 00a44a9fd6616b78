import csv
import io
import json

import pytest

from merging.errors import MergeError
from space.book import MAX_PROMPTS, read_book, run_book
from space.book_file import to_csv, to_jsonl
from space.presets import PRESETS
from space.reply import Reply


def read(text):
    return read_book(text, max_chars=100)


def line(*messages):
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]})


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("one\ntwo\n", [["one"], ["two"]]),
        ("one\nline more\n\ntwo\n\n\n", [["one\nline more"], ["two"]]),
        ('{"prompt": "one"}\n\n{"prompt": "two\\nlines"}', [["one"], ["two\nlines"]]),
        (line(("user", "one"), ("user", "two")), [["one", "two"]]),
        (line(("user", "one"), ("assistant", "1"), ("user", "two")), [["one", "two"]]),
    ],
)
def test_prompts_are_read_as_they_are_pasted(text, prompts):
    assert [entry.prompts for entry in read(text)] == prompts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "There is no prompt"),
        ('{"prompt": "a"}\n{"prompt": ', "Line 2 is not JSON: Expecting value at column 12"),
        ('{"prompt": "a"}\n\n{"promt": "b"}', "Line 3 has neither a prompt nor messages"),
        ('{"prompt": 3}', "Line 1 has neither"),
        ('{"prompt": "a"}\n[1]', "Line 2 has neither"),
        ('{"messages": ["hello"]}', "Line 1, message 1 needs a role"),
        (line(("user", " ")), "Line 1, message 1 needs a role"),
        (line(("system", "be kind"), ("user", "a")), "Line 1, message 1 is a system prompt"),
        (line(("assistant", "a"), ("user", "b")), "Line 1, message 1 is an assistant"),
        (line(("user", "a"), ("assistant", "b")), "Line 1, message 2 is an assistant"),
        ("x" * 101, "Prompt 1 has 101 characters; 100 can be sent"),
        ('{"prompt": "a"}\n\n{"prompt": "%s"}' % ("x" * 101), "Prompt 3 has 101"),
        ("x\n" * (MAX_PROMPTS + 1), "There are 201 prompts; up to 200"),
    ],
)
def test_what_cannot_be_read_names_its_line(text, reason):
    with pytest.raises(MergeError, match=reason):
        read(text)


class Models:
    """Answers each message with its number, notes who was asked what."""

    def __init__(self, broken=()):
        self.asked = []
        self.broken = broken

    def ask(self, panes, conversations):
        self.asked.append(tuple(panes))
        yield [Reply(pane, note="Waiting: 1 question is ahead") for pane in panes]
        yield [
            Reply(p, "", error="It is gone.") if p in self.broken else Reply(p, f"={p}{len(talk)}", done=True)
            for p, talk in zip(panes, conversations, strict=True)
        ]


def run(text, models, *, together=True):
    return list(run_book(read(text), ["a", "b"], models.ask, lambda: together))


def test_every_pane_answers_every_prompt_from_the_start():
    seen = run("one\ntwo", Models())
    assert [row.answers for row in seen[-1].rows] == [{"a": ("=a1",), "b": ("=b1",)}] * 2
    assert [one.done for one in seen] == [0, 0, 2, 2, 2, 4]
    assert seen[0].note == "Prompt 1 of 2. Waiting: 1 question is ahead."


def test_models_that_do_not_fit_together_are_loaded_once_each():
    models = Models()
    last = run("1\n2\n3", models, together=False)[-1]
    assert models.asked == [("a", "b"), ("a",), ("a",), ("b",), ("b",)]
    assert last.done == last.total == 6 and all(len(row.answers) == 2 for row in last.rows)


def test_in_several_turns_a_pane_hears_its_own_answers_and_what_was_given():
    (row,) = run(line(("user", "x"), ("assistant", "given"), ("user", "y"), ("user", "z")), Models())[-1].rows
    assert row.answers["a"] == ("=a3", "=a5")  # x, given, y; then its answer and z


def test_a_pane_that_fails_leaves_the_conversation_and_the_others_go_on():
    models = Models(broken=["a"])
    (row,) = run(line(("user", "x"), ("user", "y")), models)[-1].rows
    assert row.errors == {"a": "It is gone."} and row.answers == {"a": ("",), "b": ("=b1", "=b3")}
    assert models.asked == [("a", "b"), ("b",)]


def test_results_are_kept_as_they_are_and_no_spreadsheet_runs_them():
    rows = run("one", Models())[-1].rows + run(line(("user", "x"), ("user", "y")), Models(["b"]))[-1].rows
    table = list(csv.reader(io.StringIO(to_csv(rows, ["a", "b"]))))
    assert table == [["prompt", "a", "b"], ["one", "'=a1", "'=b1"], ["x\n---\ny", "'=a1\n---\n=a3", "[It is gone.]"]]
    first, second = map(json.loads, to_jsonl(rows, ["a", "b"]).splitlines())
    assert first["answers"] == {"a": ["=a1"], "b": ["=b1"]} and first["errors"] == {}
    assert second["errors"] == {"b": "It is gone."}
    assert read(json.dumps({"messages": second["messages"]}))[0].prompts == ["x", "y"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda one: one.title)
def test_presets_are_prompt_books(preset):
    found = read_book(preset.text, max_chars=1000)
    assert [tuple(entry.prompts) for entry in found] == list(preset.conversations)
