"""What a model writes, as HTML of our own making, where the page shows it without a component for Markdown."""

import functools

from markdown_it import MarkdownIt

from space.defused import defused

# As chats show it: every line keeps its break. No HTML, link or picture is made, whatever the text says.
MARKDOWN = (
    MarkdownIt("commonmark", {"html": False, "breaks": True})
    .enable("table")
    .disable(["link", "image", "autolink", "html_inline", "html_block", "reference"])
)


@functools.lru_cache(maxsize=256)  # a conversation is shown anew with each of its tokens
def rendered(text: str) -> str:
    made: str = MARKDOWN.render(defused(text))
    return made
