"""The messages that Gradio sends, as plain role and text."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.prompt import Message
from merging.errors import MergeError


def plain_messages(messages: Sequence[Mapping[str, Any]], *, max_chars: int) -> list[Message]:
    """Role and text of each message. Gradio gives lists of blocks, which a template would print as such."""
    plain = [{"role": str(m.get("role", "")), "content": plain_text(m.get("content", ""))} for m in messages]
    if not plain or plain[-1]["role"] != "user" or not plain[-1]["content"].strip():
        raise MergeError("There is no message to answer. Write one.")
    for message in plain:
        if message["role"] not in ("user", "assistant"):
            raise MergeError(f"A message has the role {message['role']!r}; user and assistant are known here.")
        if message["role"] == "user" and len(message["content"]) > max_chars:
            raise MergeError(f"The message has {len(message['content']):,} characters; {max_chars:,} can be sent.")
    return plain


def plain_text(content: Any) -> str:
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list | tuple):
        return "".join(str(b.get("text", "")) if isinstance(b, Mapping) else str(b) for b in content)
    return "" if content is None else str(content)
