import pytest

from space.defused import defused


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("**bold** and a < b, [1, 2]", "**bold** and a < b, [1, 2]"),
        ("<b>x</b> <!-- y -->", r"\<b>x\</b> \<!-- y -->"),
        ("![a](http://x/y.png)", r"!\[a](http://x/y.png)"),
        ("[![a](b)](c)", r"\[!\[a](b)](c)"),
        ("[two\nlines](http://x)", "\\[two\nlines](http://x)"),
        ("[a][b]\n\n[b]: http://x", "\\[a]\\[b]\n\n\\[b]: http://x"),
        (r"\[a](b) \<i>", r"\[a](b) \<i>"),  # escaped already
        (r"\\[a](b) \\<i>", r"\\\[a](b) \\\<i>"),  # a backslash that is escaped escapes nothing
        ("`<i>` <i>", r"`<i>` \<i>"),
        ("```html\n<i>[a](b)</i>\n```\n<i>", "```html\n<i>[a](b)</i>\n```\n\\<i>"),
        ("~~~\n<i>\n```\n~~~\n<i>", "~~~\n<i>\n```\n~~~\n\\<i>"),
        ("```\nstill being written <i>", "```\nstill being written <i>"),
        ("one ` and <i>", r"one ` and \<i>"),
    ],
)
def test_only_what_could_do_something_is_escaped_and_code_never(text, harmless):
    assert defused(text) == harmless
