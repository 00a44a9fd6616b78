import re

import pytest

from space.rendered import rendered

TAGS = ("p", "br", "pre", "code", "table", "thead", "tbody", "tr", "th", "td")


def test_markdown_shows_and_lines_keep_their_breaks():
    assert rendered("**a** < b\nc") == "<p><strong>a</strong> &lt; b<br />\nc</p>\n"
    assert rendered("```python\n<b>[x](y)</b>") == (
        '<pre><code class="language-python">&lt;b&gt;[x](y)&lt;/b&gt;</code></pre>\n'
    )
    assert "<td>1</td>" in rendered("| a |\n| - |\n| 1 |")


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>", "a <img src=http://x> b", "![a](http://x)", "[a](javascript:x)", "<http://x>",
        "[a][b]\n\n[b]: http://x", "<style>\np { display: none }\n</style>", "</div></div>", "&lt;b&gt; &#60;b&#62;",
        "```</pre></code><b>\n<b>", '| <b> |\n| - |\n| <i onclick="x"> |', "http://x", "<!-- <b> -->",
    ],
)  # fmt: skip
def test_nothing_but_text_comes_of_what_could_do_something(text):
    made = set(re.findall(r"<(/?\w+)[^<>]*>", rendered(text)))
    assert made <= {f"{end}{tag}" for end in ("", "/") for tag in TAGS}
