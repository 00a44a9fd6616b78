"""What a model writes, as Markdown that cannot do anything but show: no HTML, no pictures, no link whose address is
hidden behind other words. Code stays as it is.

The browser is the second line: Gradio sanitises what it renders, and the page's policy (see `gate`) loads nothing of
others.
"""

import re

# Fenced blocks, also one that is still being written, and code spans.
CODE = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)",
    re.MULTILINE | re.DOTALL,
)
TAG = re.compile(r"(?<!\\)((?:\\\\)*)<(?=[A-Za-z/!?])")  # not where a backslash has taken its meaning already
OPEN = re.compile(r"(?<!\\)((?:\\\\)*)\[")
LINK = re.compile(r"\][(\[:]")


def defused(text: str) -> str:
    """Markdown that shows as the model wrote it. A link `[words](address)` shows with its address, as it is written."""
    parts, end, link = [], 0, LINK.search(text) is not None
    for code in CODE.finditer(text):
        parts += [plain(text[end : code.start()], link=link), code.group()]
        end = code.end()
    return "".join([*parts, plain(text[end:], link=link)])


def plain(text: str, *, link: bool) -> str:
    """Escaped where a tag begins, and where a link, a picture or a footnote could."""
    text = TAG.sub(r"\1\\<", text)
    return OPEN.sub(r"\1\\[", text) if link else text
